"""Scenes against independent rays, finite differences, Lambert's law and the geometry of their people."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from geolessons.data import scene_plans as plans
from geolessons.data.dense import IGNORE, PARTS, Dense
from geolessons.data.people import JOINTS, PARTS_OF_PERSON, POSES, WORN, person
from geolessons.data.scene_plans import solids_of
from geolessons.data.scene_views import SUN, paint, shadow_map, surface
from geolessons.data.scenes import CLASSES, draw, present, render, scenes
from geolessons.data.solids import ABSENT, KINDS, Camera, look

LABELS = ("semseg", "human_parts", "saliency")


def lone(kind, *, r=0.4, tall=0.4, turn=0.0):
    """A scene with one object, without texture or grain, in float64."""
    scene = draw(1, seed=0).double()
    kinds = torch.full_like(scene.objects.kind, ABSENT)
    kinds[0, 0] = KINDS.index(kind)
    c, s = np.cos(turn), np.sin(turn)
    axes = torch.tensor([[r * c, r * s, 0], [0, 0, tall], [-r * s, r * c, 0]], dtype=torch.float64)
    centre = torch.tensor([0, tall, 0], dtype=torch.float64)
    objects = scene.objects._replace(
        kind=kinds, axes=axes.expand_as(scene.objects.axes), centre=centre.expand_as(scene.objects.centre)
    )
    plain = torch.zeros_like(scene.texture)
    return replace(
        scene, there=torch.zeros_like(scene.there), objects=objects, texture=plain, grain=0 * scene.grain
    )


def gauge(kind, q, h):
    """A convex function of q (…, 3) that is negative in the unit shape: nothing of the library's."""
    x, y, z = np.moveaxis(q, -1, 0)
    if kind == "ball":
        return np.sqrt(x**2 + y**2 + z**2) - 1
    if kind == "capsule":
        return np.sqrt(x**2 + y**2 + (z - np.clip(z, -h, h)) ** 2) - 1
    if kind == "cylinder":
        return np.maximum(np.hypot(x, y) - 1, abs(z) - 1)
    if kind == "cone":
        return np.maximum(np.hypot(x, y) - (1 - z) / 2, -1 - z)
    if kind == "box":
        return np.maximum(np.maximum(abs(x), abs(y)), abs(z)) - 1
    return np.maximum(np.maximum(abs(x), abs(y)) - (1 - z) / 2, -1 - z)


def first_points(scene, i, xy):
    """The solid or wall that rays at xy (m, 2) of scene i meet first, and its depth, by convexity alone."""
    solids = solids_of(scene)
    R, target = scene.camera.axes[i].numpy(), scene.camera.target[i].numpy()
    origin = target + xy @ R[:, :2].T  # (m, 3)
    depths = []
    for s in range(solids.kind.shape[1]):
        kind = int(solids.kind[i, s])
        if kind == ABSENT:
            depths.append(np.full(len(xy), -np.inf))
            continue
        back = np.linalg.inv(solids.axes[i, s].numpy())
        h, centre = float(solids.half[i, s]), solids.centre[i, s].numpy()

        def f(z, kind=KINDS[kind], back=back, h=h, centre=centre):
            return gauge(kind, (origin + z[:, None] * R[:, 2] - centre) @ back.T, h)

        low, high = np.full(len(xy), -5.0), np.full(len(xy), 5.0)
        for _ in range(64):  # of a convex function the lowest point, by thirds
            a, b = low + (high - low) / 3, high - (high - low) / 3
            left = f(a) < f(b)
            low, high = np.where(left, low, a), np.where(left, b, high)
        inside, outside = (low + high) / 2, np.full(len(xy), 5.0)
        hit = f(inside) < 0
        for _ in range(48):
            mid = (inside + outside) / 2
            within = f(mid) < 0
            inside, outside = np.where(within, mid, inside), np.where(within, outside, mid)
        depths.append(np.where(hit, inside, -np.inf))
    for x, y, z, d in scene.walls[i].numpy():  # where the room's inside ends
        N = np.array([x, y, z])
        depths.append((d - origin @ N) / (N @ R[:, 2]) if N @ R[:, 2] > 0 else np.full(len(xy), -np.inf))
    return np.argmax(depths, 0), np.max(depths, 0)


@pytest.mark.parametrize("difficulty", [0.0, 0.5, 1.0])
def test_what_a_pixel_sees_is_what_a_single_ray_meets(difficulty):
    size, n = 48, 5
    scene = draw(n, seed=11, difficulty=difficulty, start=3).double()
    found = render(scene, size, ignore_outlines=False)
    shown = surface(scene, solids_of(scene), size, size, 0.5)
    kinds, parts = plans.classes(scene).numpy(), plans.parts().numpy()
    rng = np.random.default_rng(0)
    people = 0
    for i in range(n):
        row, column = rng.integers(0, size, (2, 150))
        reach = float(scene.camera.reach[i])
        xy = reach * np.stack([2 * (column + 0.5) / size - 1, 1 - 2 * (row + 0.5) / size], 1)
        which, depth = first_points(scene, i, xy)
        np.testing.assert_array_equal(found.semseg[i].numpy()[row, column], kinds[i, which])
        np.testing.assert_array_equal(found.human_parts[i].numpy()[row, column], parts[which])
        # a plan's axes are rounded to float32, and so at right angles to within that
        np.testing.assert_allclose(shown.point[2, i].numpy()[row * size + column], depth, atol=2e-6)
        people += (kinds[i, which] == 1).sum()
    assert people > 20


@pytest.mark.parametrize("kind", KINDS)
def test_normals_are_the_slopes_of_the_depth(kind):
    # each shape alone, seen from above, at an angle; also capsules, turned into limbs elsewhere
    scene = lone(kind, r=0.5, tall=0.5, turn=0.3)
    half = torch.full_like(scene.objects.half, 0.3)
    scene = replace(scene, objects=scene.objects._replace(half=half))
    slopes_agree(scene, 96, least=300)


def test_normals_of_people_are_the_slopes_of_the_depth():
    slopes_agree(draw(4, seed=2, difficulty=0.7).double(), 48, least=1500)


def slopes_agree(scene, size, least):
    """Normals are along (−∂z/∂x, −∂z/∂y, 1), by moving the camera a millionth of a metre."""
    eps, solids = 1e-6, solids_of(scene)
    here = surface(scene, solids, size, size, 0.5)
    flat = here.normal[2] > 0.15
    slopes = []
    for axis in range(2):
        ends = []
        for sign in (1, -1):
            target = scene.camera.target + sign * eps * scene.camera.axes[..., axis]
            moved = replace(scene, camera=scene.camera._replace(target=target))
            there = surface(moved, solids, size, size, 0.5)
            flat = flat & (there.solid == here.solid)
            ends.append(there.point[2])
        slopes.append((ends[0] - ends[1]) / (2 * eps))
    ours = torch.stack([-here.normal[i] / here.normal[2] for i in range(2)])
    worst = (ours - torch.stack(slopes)).abs().amax(0)[flat]
    on_solids = (flat & (here.solid < solids.kind.shape[1])).sum()
    assert on_solids > least
    assert worst.max() < 1e-4


def test_a_balls_normals_point_away_from_its_centre():
    scene, size = lone("ball"), 64
    found = render(scene, size)
    R, camera = scene.camera.axes[0], scene.camera
    centre = R.T @ (scene.objects.centre[0, 0] - camera.target[0])
    at = camera.reach[0] * (2 * (torch.arange(size) + 0.5) / size - 1)
    x, y = at.expand(size, size) - centre[0], -at[:, None].expand(size, size) - centre[1]
    z = (0.16 - x**2 - y**2).clamp(min=0).sqrt()
    on = (found.semseg[0] == CLASSES.index("ball")) & (found.normals[0].norm(dim=0) > 0)
    assert on.sum() > 100
    expected = torch.stack([x, y, z])[:, on] / 0.4
    torch.testing.assert_close(found.normals[0][:, on], expected.float(), atol=1e-6, rtol=0)
    visible = (x**2 + y**2 < 0.16) & ((-at[:, None] - centre[1]) > 0)  # its upper half hides nothing
    assert (render(scene, size, ignore_outlines=False).semseg[0][visible] == CLASSES.index("ball")).all()


def test_a_batch_has_the_shared_form():
    found = scenes(12, 32, seed=1)
    assert isinstance(found, Dense)
    assert found.image.shape == found.normals.shape == (12, 3, 32, 32)
    assert found.image.dtype == found.normals.dtype == torch.float32
    assert found.image.min() >= 0
    assert found.image.max() <= 1
    assert found.image.std() > 0.1
    for name in LABELS:
        label = getattr(found, name)
        assert label.shape == (12, 32, 32)
        assert label.dtype == torch.int64
    known = found.normals.norm(dim=1)
    assert ((known - 1).abs() < 1e-5).logical_or(known == 0).all()
    assert (found.normals[:, 2] >= -1e-6).all()  # nothing seen looks away
    assert set(found.saliency.unique().tolist()) == {0, 1, IGNORE}


def test_parts_lie_on_people_only_and_all_of_them_occur():
    found = scenes(60, 64, seed=4, ignore_outlines=False)
    assert ((found.human_parts > 0) == (found.semseg == CLASSES.index("person"))).all()
    assert found.human_parts.unique().tolist() == list(range(len(PARTS)))
    assert found.semseg.unique().tolist() == list(range(len(CLASSES)))
    masked = scenes(60, 64, seed=4)
    known = (masked.human_parts != IGNORE) & (masked.semseg != IGNORE)
    assert ((masked.human_parts > 0) == (masked.semseg == CLASSES.index("person")))[known].all()


def test_a_scene_depends_on_its_seed_and_number_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    many = scenes(9, 40, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    for start, count in ((0, 1), (3, 2), (8, 1)):
        few = scenes(count, 40, seed=5, start=start)
        torch.testing.assert_close(few.image, many.image[start : start + count], atol=1e-5, rtol=0)
        for name in LABELS:  # rounding may not move an outline
            assert (getattr(few, name) == getattr(many, name)[start : start + count]).all()
    assert (scenes(9, 40, seed=6).image - many.image).abs().flatten(1).amax(1).min() > 0.1
    assert (many.image[1:] - many.image[:-1]).abs().flatten(1).amax(1).min() > 0.1


def test_work_in_pieces_changes_nothing(monkeypatch):
    whole = scenes(5, 32, seed=5)
    monkeypatch.setattr(sys.modules["geolessons.data.scenes"], "AT_ONCE", 2 * 32**2)
    for a, b in zip(whole, scenes(5, 32, seed=5), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_a_finer_picture_shows_the_same_scene():
    # the middle of each 3×3 block of pixels is the centre of a coarse pixel
    scene = draw(8, seed=9)
    coarse, fine = (render(scene, size, ignore_outlines=False) for size in (40, 120))
    for name in ("semseg", "human_parts"):
        same = getattr(coarse, name) == getattr(fine, name)[:, 1::3, 1::3]
        assert same.float().mean() > 0.9999
    torch.testing.assert_close(
        coarse.normals[:, 2].mean(), fine.normals[:, 2, 1::3, 1::3].mean(), atol=1e-4, rtol=0
    )


def test_light_changes_the_picture_and_no_label():
    scene = draw(6, seed=3)
    left, right = render(scene, 48, light=-70), render(scene, 48, light=70)
    for name in (*LABELS, "normals"):
        assert torch.equal(getattr(left, name), getattr(right, name))
    assert (left.image - right.image).abs().flatten(1).mean(1).min() > 0.01
    ball = lone("ball")
    on = render(ball, 64).normals[0, 0]
    bright = [render(ball, 64, light=x).image[0].mean(0) for x in (-70, 70)]
    east, west = (on > 0.3) & (on < 0.9), (on < -0.3) & (on > -0.9)
    on_ball = render(ball, 64).semseg[0] == CLASSES.index("ball")
    east, west = east & on_ball, west & on_ball
    assert bright[0][west].mean() > bright[0][east].mean() + 0.1
    assert bright[1][east].mean() > bright[1][west].mean() + 0.1


def shine(scene, size):
    """Colours over albedo in the sun alone (n, m), the surface, and the sun's direction in the world."""
    scene = replace(
        scene, sky=0 * scene.sky, sun=torch.full_like(scene.sun, 0.8), colour=0 * scene.colour + 0.5
    )
    solids = solids_of(scene)
    shown = surface(scene, solids, size, size, 0.5)
    sun, shadows = shadow_map(scene, solids, 4 * size)
    return paint(scene, shown, sun, shadows)[0].square() / (0.5 * 0.8 * SUN[0]), shown, sun.axes[0, :, 2]


def test_the_sun_follows_lamberts_law():
    scene = lone("ball")
    light, shown, sun = shine(scene, 64)
    facing = torch.einsum("i,inm->nm", scene.camera.axes[0].T @ sun, shown.normal)
    on = (shown.solid == len(WORN) * 2) & (facing > 0.3)  # before the shadow's soft edge
    assert on.sum() > 100
    torch.testing.assert_close(light[on], facing[on], atol=1e-6, rtol=0)
    dark = (shown.solid == len(WORN) * 2) & (facing < 0)
    assert light[dark].abs().max() == 0


def test_a_balls_shadow_is_where_its_line_to_the_sun_is_cut():
    scene = lone("ball")
    light, shown, sun = shine(scene, 96)
    p = shown.world[:, 0].T - scene.objects.centre[0, 0]  # from the ball's centre
    ahead = -(p @ sun)  # the centre's place along the ray to the sun
    off = (p + ahead[:, None] * sun).norm(dim=1)
    ground = (shown.solid[0] == plans.classes(scene).shape[1] - 3) & (p.norm(dim=1) < 1.2)
    ground_light = float(sun[1])
    shadow, open_ = ground & (ahead > 0) & (off < 0.3), ground & (off > 0.5)
    assert shadow.sum() > 50
    assert open_.sum() > 50
    assert light[0][shadow].max() == 0
    torch.testing.assert_close(light[0][open_], torch.full_like(light[0][open_], ground_light))


def test_poses_spread_people_out():
    scene = draw(12, seed=8, difficulty=0.0)
    scene = replace(scene, there=torch.tensor([[True, False]] * 12), heading=0 * scene.heading)
    wide = []
    for pose in (0, 0.5, 1):
        found = render(scene, 64, pose=pose, ignore_outlines=False)
        columns = (found.semseg == 1).any(1)
        wide.append(columns.sum(1).float())
    assert (wide[1] > wide[0]).all()
    assert (wide[2] >= wide[1]).all()
    assert (wide[2] - wide[0]).mean() > 10


def test_people_hang_together_and_stand_on_the_ground():
    g = torch.Generator().manual_seed(0)
    n = 50
    joints = torch.rand(n, 2, 2, len(JOINTS), generator=g, dtype=torch.float64) * 2 - 0.8
    joints[..., 4:] *= 0.5  # legs that stay below the body
    heading = torch.rand(n, 2, generator=g, dtype=torch.float64) * 6
    where = torch.randn(n, 2, 2, generator=g, dtype=torch.float64)
    height = 1.4 + torch.rand(n, 2, generator=g, dtype=torch.float64)
    solids = person(joints, heading, where, height)
    centre, axes, half = (v.unflatten(1, (2, len(WORN))) for v in (solids.centre, solids.axes, solids.half))
    ends = centre + half[..., None] * axes[..., 2], centre - half[..., None] * axes[..., 2]
    for side in (6, 12):  # upper and lower arm, hand, upper and lower leg, shoe
        for upper in (side, side + 3):
            torch.testing.assert_close(ends[0][:, :, upper], ends[1][:, :, upper + 1])
    # axes are at right angles, so that M is their transpose over their squares
    gram = axes.mT @ axes
    assert (gram - torch.diag_embed(gram.diagonal(dim1=-2, dim2=-1))).abs().max() < 1e-12
    # a capsule's or ball's lowest point is an end less a radius
    shoes = [i for i, w in enumerate(WORN) if w == "shoe"]
    low = torch.minimum(*(e[..., shoes, 1] for e in ends)) - axes[..., shoes, :, 2].norm(dim=-1)
    torch.testing.assert_close(low.amin(-1), torch.zeros(n, 2, dtype=torch.float64), atol=1e-12, rtol=0)
    # lengths do not depend on the pose, only on the height
    torch.testing.assert_close(half, half[:1, :1].expand_as(half))
    torch.testing.assert_close(axes.norm(dim=-2)[..., 0, 0], 0.19 * height / 1.75)
    assert max(PARTS_OF_PERSON) == len(PARTS) - 1
    assert all(len(side) == len(JOINTS) for pose in POSES.values() for side in pose)


def test_joints_turn_limbs_as_they_are_named():
    turns = {  # a joint at a right angle: the limb's direction on the left (−x), and on the right
        None: {"arm": (0, -1, 0), "forearm": (0, -1, 0), "thigh": (0, -1, 0), "shin": (0, -1, 0)},
        "arm out": {"arm": (1, 0, 0), "forearm": (1, 0, 0)},
        "arm forward": {"arm": (0, 0, 1), "forearm": (0, 0, 1)},
        "elbow out": {"arm": (0, -1, 0), "forearm": (1, 0, 0)},
        "elbow forward": {"arm": (0, -1, 0), "forearm": (0, 0, 1)},
        "leg out": {"thigh": (1, 0, 0), "shin": (1, 0, 0)},
        "leg forward": {"thigh": (0, 0, 1), "shin": (0, 0, 1)},
        "knee": {"thigh": (0, -1, 0), "shin": (0, 0, -1)},
    }
    assert set(turns) == {None, *JOINTS}
    place = {"arm": (0, 0.27), "forearm": (1, 0.25), "thigh": (3, 0.37), "shin": (4, 0.37)}  # and length
    zero = torch.zeros(1, 1, dtype=torch.float64)
    for joint, limbs in turns.items():
        joints = torch.zeros(1, 1, 2, len(JOINTS), dtype=torch.float64)
        if joint is not None:
            joints[..., JOINTS.index(joint)] = np.pi / 2
        solids = person(joints, zero, zero[..., None].expand(1, 1, 2), zero + 1.75)
        for limb, (x, y, z) in limbs.items():
            at, length = place[limb]
            for first, side in ((6, -1), (12, 1)):
                along = 2 * solids.half[0, first + at] * solids.axes[0, first + at, :, 2]
                expected = length * torch.tensor([side * x, y, z], dtype=torch.float64)
                torch.testing.assert_close(along, expected)
    ahead = person(0 * joints, zero + np.pi / 2, zero[..., None].expand(1, 1, 2), zero + 1.75)
    eyes, head = ahead.centre[0, 2:4].mean(0), ahead.centre[0, 0]
    assert eyes[0] - head[0] == pytest.approx(0.172)  # a heading of 90° looks along x


def test_an_outline_is_where_a_centre_and_its_corners_differ():
    scene, size = draw(5, seed=6).double(), 32
    masked, whole = render(scene, size), render(scene, size, ignore_outlines=False)
    assert not any((getattr(whole, name) == IGNORE).any() for name in LABELS)
    assert (whole.normals.norm(dim=1) > 0.99).all()
    h = scene.camera.reach[:, None] / size
    same = {name: torch.ones_like(whole.semseg, dtype=torch.bool) for name in ("semseg", "human_parts")}
    for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1)):  # a pixel's corner is the centre of another camera's
        target = scene.camera.target + h * (a * scene.camera.axes[..., 0] + b * scene.camera.axes[..., 1])
        moved = render(
            replace(scene, camera=scene.camera._replace(target=target)), size, ignore_outlines=False
        )
        for name, mask in same.items():
            mask &= getattr(moved, name) == getattr(whole, name)
    for name, mask in same.items():
        assert torch.equal(getattr(masked, name) != IGNORE, mask)
        assert 0.02 < (~mask).float().mean() < 0.2
    for name in LABELS:
        kept = getattr(masked, name) != IGNORE
        assert torch.equal(getattr(masked, name)[kept], getattr(whole, name)[kept])
    unknown = masked.normals.norm(dim=1) == 0
    assert unknown[masked.semseg == IGNORE].all()
    assert unknown[masked.human_parts == IGNORE].all()
    assert torch.equal(
        masked.normals.permute(1, 0, 2, 3)[:, ~unknown], whole.normals.permute(1, 0, 2, 3)[:, ~unknown]
    )


def test_salient_is_the_thing_with_the_most_pixels():
    scene = draw(20, seed=7).double()
    found = render(scene, 40, ignore_outlines=False)
    shown = surface(scene, solids_of(scene), 40, 40, 0.5)
    things = plans.things()[shown.solid]
    for i in range(20):
        count = np.bincount(things[i].numpy(), minlength=13)[:10]
        salient = found.saliency[i].flatten() == 1
        assert salient.sum() == count.max()
        assert len(things[i][salient].unique()) == 1
    empty = replace(lone("ball"), objects=lone("ball").objects._replace(kind=torch.full((1, 8), ABSENT)))
    nothing = render(empty, 16)
    assert (nothing.saliency == 0).all()
    assert (nothing.semseg == 0).all()


def test_difficulty_brings_clutter_texture_occlusion_and_lower_light():
    levels = [draw(200, seed=0, difficulty=d) for d in (0.0, 0.5, 1.0)]
    many = [(s.objects.kind != ABSENT).sum(1) + s.there.sum(1) for s in levels]
    painted = [(s.texture[:, 2 * len(WORN) :] > 0).float().mean() for s in levels]
    assert (many[1] >= many[0]).all()  # the same scene, with more in it
    assert (many[2] >= many[1]).all()
    assert many[0].float().mean() < 4 < 6 < many[2].float().mean()
    assert painted[0] < 0.2 < 0.4 < painted[2]
    assert levels[0].light[:, 1].mean() > levels[2].light[:, 1].mean() + 0.1
    assert levels[0].grain.max() == 0 < levels[2].grain.min()
    hidden = []
    for s in levels[::2]:  # the share of a person that something else hides
        s = s[:60]
        alone = replace(s, objects=s.objects._replace(kind=torch.full_like(s.objects.kind, ABSENT)))
        seen, all_of_it = ((render(x, 32, ignore_outlines=False).semseg == 1).sum() for x in (s, alone))
        hidden.append(1 - seen / all_of_it)
    assert hidden[0] < 0.05 < hidden[1]


def test_present_tells_which_classes_can_be_seen():
    found = scenes(20, 32, seed=2)
    labels = present(found.semseg)
    assert labels.shape == (20, len(CLASSES))
    for row, picture in zip(labels, found.semseg, strict=True):
        assert set(row.nonzero()[:, 0].tolist()) == set(picture.unique().tolist()) - {IGNORE}
    assert (present(found.semseg, least=30) <= labels).all()
    assert 0.1 < labels[:, 1:].mean() < 0.9
    with pytest.raises(ValueError, match=r"\(n, H, W\)"):
        present(found.semseg[0])
    with pytest.raises(ValueError, match="least=0 must be at least 1"):
        present(found.semseg, least=0)


def test_a_camera_sees_what_is_within_its_reach():
    # a ball of radius 1 in the middle of a view of 2 metres covers π/4 of its picture
    scene = lone("ball")
    solids = scene.objects._replace(
        axes=torch.eye(3).double().expand_as(scene.objects.axes), centre=0 * scene.objects.centre
    )
    camera = Camera(torch.eye(3).double()[None], torch.zeros(1, 3).double(), torch.ones(1).double())
    seen = look(solids, camera, 400, 400, 0.5)
    assert (seen.solid == 0).double().mean() == pytest.approx(np.pi / 4, abs=1e-4)
    assert seen.depth.max() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (ValueError, "count=0 must be 1 or more", lambda: scenes(0, seed=0)),
        (TypeError, "count=1.0 must be a whole number", lambda: scenes(1.0, seed=0)),
        (ValueError, "size=4 must be 8 or more", lambda: scenes(1, 4, seed=0)),
        (TypeError, "size='64' must be a whole", lambda: scenes(1, "64", seed=0)),
        (TypeError, "seed=None must be a whole", lambda: scenes(1, seed=None)),
        (ValueError, "start=-1 must be 0 or more", lambda: scenes(1, seed=0, start=-1)),
        (
            ValueError,
            r"difficulty=1.5 must be from 0 \(easy\) to 1",
            lambda: scenes(1, seed=0, difficulty=1.5),
        ),
        (ValueError, "difficulty=nan must be finite", lambda: draw(1, seed=0, difficulty=float("nan"))),
        (TypeError, "difficulty is a str", lambda: draw(1, seed=0, difficulty="hard")),
        (ValueError, "pose=2 must be from 0", lambda: render(draw(1, seed=0), pose=2)),
        (ValueError, "light=inf must be finite", lambda: render(draw(1, seed=0), light=float("inf"))),
        (TypeError, "light is a bool", lambda: render(draw(1, seed=0), light=True)),
    ],
)
def test_errors_teach(error, match, call):
    with pytest.raises(error, match=match):
        call()

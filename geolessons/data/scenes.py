"""Rendered scenes that know their own truth: people, objects, a room, and four dense answers per pixel.

    image i = f(seed, i, difficulty, size),   labels = what the ray through each pixel's centre meets first

An orthographic camera's rays meet analytic solids, which a sun and a sky light.  So classes, parts and
normals are exact at the centres of pixels.  Colours mix centres and corners (half the centre, an eighth of
each corner), which smooths outlines.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import replace

import torch
from torch import Tensor

from geolessons.data import scene_plans as plans
from geolessons.data.dense import IGNORE, Dense
from geolessons.data.people import POSES
from geolessons.data.scene_plans import CLASSES, Scene
from geolessons.data.scene_views import paint, shadow_map, surface

__all__ = ["CLASSES", "Scene", "draw", "present", "render", "scenes"]

AT_ONCE = 1 << 18  # pixels in work at a time


def scenes(
    count: int,
    size: int = 64,
    *,
    seed: int,
    difficulty: float = 0.5,
    start: int = 0,
    ignore_outlines: bool = True,
) -> Dense:
    """Scenes with their answers.

    Scene i depends on `seed` and i alone (and on `size` and `difficulty`), not on how many are asked for.
    With more difficulty the same people and room get more company, more of it in front of them, more texture,
    lower light and noise.

    Args:
        count: Of scenes.
        size: Pixels along a side, 8 or more; the time grows with its square.
        seed: Of all randomness; the global state is not touched.
        difficulty: From 0 to 1.
        start: The first scene: `scenes(10, start=90)` are the last ten of `scenes(100)`.
        ignore_outlines: As `render`.

    Returns:
        A batch of `count`, on the CPU.

    Raises:
        TypeError: If `count`, `size`, `seed` or `start` is not whole, or `difficulty` not a number.
        ValueError: If `count` is less than 1, `size` less than 8, `start` negative, or `difficulty` outside
            [0, 1].

    Example:
        >>> batch = scenes(2, size=32, seed=0)
        >>> batch.image.shape, batch.semseg.shape
        (torch.Size([2, 3, 32, 32]), torch.Size([2, 32, 32]))
    """
    _check_size(size)
    return render(
        draw(count, seed=seed, difficulty=difficulty, start=start), size, ignore_outlines=ignore_outlines
    )


def draw(count: int, *, seed: int, difficulty: float = 0.5, start: int = 0) -> Scene:
    """The plans of scenes, to be rendered, changed (`dataclasses.replace`), or asked.

    Args:
        count: As `scenes`.
        seed: As `scenes`.
        difficulty: As `scenes`.
        start: As `scenes`.

    Raises:
        TypeError: As `scenes`.
        ValueError: As `scenes`.
    """
    _check_whole("count", count, 1)
    _check_whole("start", start, 0)
    _check_whole("seed", seed, None)
    _check_number("difficulty", difficulty)
    if not 0 <= difficulty <= 1:
        raise ValueError(f"difficulty={difficulty} must be from 0 (easy) to 1 (hard)")
    return plans.plan(start, count, seed, float(difficulty))


def render(
    scene: Scene,
    size: int = 64,
    *,
    light: float | None = None,
    pose: float | None = None,
    ignore_outlines: bool = True,
) -> Dense:
    """Scenes as a picture with its answers, on request in another light and in another pose.

    The classes are `CLASSES`.  Salient is the person or object that most pixels' centres meet: the largest
    visible one.  A pixel whose centre and four corners do not see the same lies on an outline: a label is
    IGNORE where they differ in that label, normals are zero where they differ in the thing, the human part or
    the wall.

    Args:
        scene: From `draw`.
        size: Pixels along a side.
        light: The azimuth in degrees that the sun shines from: 0 from the front, 90 from the right.
        pose: From 0, all people stand with their arms down, to 1, arms and legs spread out.
        ignore_outlines: If False, every pixel has the labels of its centre.

    Raises:
        TypeError: If `size` is not whole, or `light` or `pose` not a number.
        ValueError: If `size` is less than 8, `light` not finite, or `pose` outside [0, 1].

    Example:
        >>> one = draw(1, seed=3)
        >>> noon, evening = render(one, 32), render(one, 32, light=80)
        >>> torch.equal(noon.semseg, evening.semseg), torch.equal(noon.image, evening.image)
        (True, False)
    """
    _check_size(size)
    if light is not None:
        _check_number("light", light)
        azimuth = torch.full_like(scene.light[:, 0], math.radians(light))
        scene = replace(scene, light=torch.stack([azimuth, scene.light[:, 1]], 1))
    if pose is not None:
        _check_number("pose", pose)
        if not 0 <= pose <= 1:
            raise ValueError(f"pose={pose} must be from 0 (arms down) to 1 (arms and legs spread)")
        stand, star = (torch.tensor(POSES[name]).to(scene.joints) for name in ("stand", "star"))
        scene = replace(scene, joints=(stand + pose * (star - stand)).deg2rad().expand_as(scene.joints))
    some = max(1, AT_ONCE // size**2)
    pieces = [_render(scene[i : i + some], size, ignore_outlines) for i in range(0, len(scene), some)]
    return Dense(*map(torch.cat, zip(*pieces, strict=True)))


def present(semseg: Tensor, *, least: int = 1) -> Tensor:
    """Which classes can be seen: labels to pre-train a backbone on, as float32 (n, classes).

    Args:
        semseg: (n, H, W), of `scenes`.
        least: Pixels that a class must have.

    Raises:
        ValueError: If `semseg` is not (n, H, W), or `least` is not positive.

    Example:
        >>> present(torch.tensor([[[0, 0], [2, 255]]]))
        tensor([[1., 0., 1., 0., 0., 0., 0.]])
    """
    if semseg.ndim != 3:
        raise ValueError(f"semseg has the shape {tuple(semseg.shape)}; it must be (n, H, W)")
    if least < 1:
        raise ValueError(f"least={least} must be at least 1")
    pixels = torch.stack([(semseg == k).sum((1, 2)) for k in range(len(CLASSES))], 1)
    return (pixels >= least).float()


def _render(scene: Scene, size: int, ignore_outlines: bool) -> Dense:
    solids = plans.solids_of(scene)
    centres = surface(scene, solids, size, size, 0.5)
    corners = surface(scene, solids, size, size + 1, 0.0)
    sun, shadows = shadow_map(scene, solids, size + size // 2)
    middle, around = (paint(scene, shown, sun, shadows) for shown in (centres, corners))
    image = middle.view(3, -1, size, size) / 2
    for corner in _around(around.view(3, -1, size + 1, size + 1)):
        image += corner / 8
    image = image.transpose(0, 1).float().contiguous()
    for i in range(len(scene)):
        g = torch.Generator().manual_seed(int(scene.seed[i]))
        image[i] += scene.grain[i] * torch.randn(3, size, size, generator=g)
    kind, part, thing = _labels(scene, centres.solid.view(-1, size, size))
    beside = _labels(scene, corners.solid.view(-1, size + 1, size + 1))
    largest = _largest(thing)[:, None, None]
    salient = (thing == largest).long()
    normals = centres.normal.view(3, -1, size, size).transpose(0, 1).float().contiguous()
    if ignore_outlines:
        same_part = _alike(part, beside[1])
        normals *= (same_part & _alike(thing, beside[2]))[:, None]
        kind = torch.where(_alike(kind, beside[0]), kind, IGNORE)
        part = torch.where(same_part, part, IGNORE)
        salient = torch.where(_alike(thing == largest, beside[2] == largest), salient, IGNORE)
    return Dense(image.clamp_(0, 1), kind, part, salient, normals)


def _labels(scene: Scene, solid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Class, human part and thing of what is at a place among the solids (n, r, r)."""
    kind = plans.classes(scene).gather(1, solid.flatten(1)).view_as(solid)
    return kind, plans.parts().take(solid), plans.things().take(solid)


def _largest(thing: Tensor) -> Tensor:
    """The person or object with the most pixels (n,); −1 where there is none."""
    pixels = torch.stack([(thing == k).sum((1, 2)) for k in range(plans.PEOPLE + plans.OBJECTS)], 1)
    most, which = pixels.max(1)
    return torch.where(most > 0, which, -1)


def _around(corners: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What is at the four corners of each pixel, (…, H, W) of (…, H + 1, W + 1)."""
    return corners[..., :-1, :-1], corners[..., :-1, 1:], corners[..., 1:, :-1], corners[..., 1:, 1:]


def _alike(centres: Tensor, corners: Tensor) -> Tensor:
    """Where a pixel's centre and its four corners are the same."""
    a, b, c, d = (centres == corner for corner in _around(corners))
    return a & b & c & d


def _check_size(size: int) -> None:
    _check_whole("size", size, 8)


def _check_whole(name: str, value: int, least: int | None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}={value!r} must be a whole number")
    if least is not None and value < least:
        raise ValueError(f"{name}={value} must be {least} or more")


def _check_number(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is a {type(value).__name__}; it must be a number")
    if not math.isfinite(value):
        raise ValueError(f"{name}={value} must be finite")

"""Card C4.2 and the stills of rendered scenes: they show what was rendered, and count what differs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import check, texts
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from geolessons import plots
from geolessons.data.dense import TASKS
from geolessons.data.scenes import draw, render

BOOK = Path(__file__).parents[1] / "book"
INK = (1, 2, 3)  # bytes of plots.INK


@pytest.fixture(autouse=True)
def _cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BOOK))


def shown(fig: Figure) -> list[np.ndarray]:
    """The pictures in a figure, in the order in which they were hung."""
    return [np.asarray(image.get_array()) for ax in fig.axes for image in ax.images]


# ---------------------------------------------------------------- the card


def test_light_changes_the_picture_and_no_answer_and_the_pose_changes_both() -> None:
    from cards import staged

    for pose in (0.0, 1.0):
        front, side = staged.scene(0, pose), staged.scene(90, pose)
        assert not torch.equal(front.image, side.image)
        for task in TASKS:
            assert torch.equal(getattr(front, task), getattr(side, task))
    for task in TASKS:
        assert not torch.equal(getattr(staged.scene(0, 0.0), task), getattr(staged.scene(0, 1.0), task))


@pytest.mark.parametrize(("light", "pose"), [(0, 0.0), (90, 0.0), (45, 0.5), (20.5, 0.4)])
def test_what_has_changed_is_counted_pixel_by_pixel(light: float, pose: float) -> None:
    from cards import staged

    one = draw(1, seed=3, difficulty=0.35, start=8)
    a, b = (
        render(one, staged.SIZE, light=at[0], pose=at[1]) for at in ((staged.LIGHTS[0], 0.0), (light, pose))
    )
    seen = np.abs(a.image[0].numpy() - b.image[0].numpy()).max(0) > 0.05
    same = [(a[i][0] == b[i][0]).numpy() for i in (1, 2, 3)]
    same.append(np.isclose(a.normals[0].numpy(), b.normals[0].numpy(), atol=1e-5).all(0))
    found = staged.changed(light, pose)
    assert found[0] == pytest.approx(100 * seen.mean())
    assert found[1] == pytest.approx(100 * (1 - np.logical_and.reduce(same).mean()))
    assert (found[1] > 0) == (pose > 0)
    assert (found[0] > 0) == ((light, pose) != (0, 0.0))


@pytest.mark.parametrize(("light", "pose"), [(0, 0.0), (45, 0.5), (90, 1.0)])
def test_the_card_draws_the_scene_its_answers_and_the_counts(light: float, pose: float) -> None:
    from cards import staged

    fig = staged.draw(light, pose)
    check(fig, {plots.NOISE, plots.ADAPTED})
    sample = staged.scene(light, pose)
    image, *answers = shown(fig)
    assert np.array_equal(image, staged.photo(sample.image))
    for task, picture in zip(TASKS, answers, strict=True):
        assert np.array_equal(picture, staged.told(task, sample))
    meter = min(fig.axes, key=lambda ax: ax.get_position().y0)
    walked = [a for a in staged.LIGHTS if a <= light]
    for i, colour in enumerate((plots.NOISE, plots.ADAPTED)):
        (line,) = (
            line for line in meter.lines if to_hex(line.get_color()) == colour and line.get_marker() == "None"
        )
        assert list(line.get_xdata()) == walked
        assert list(line.get_ydata()) == [staged.changed(a, pose)[i] for a in walked]


def test_the_grid_has_49_frames_and_ends_where_the_light_and_the_pose_do() -> None:
    from cards import staged

    assert len(staged.LIGHTS) * len(staged.POSES) == 49
    assert (staged.LIGHTS[0], staged.LIGHTS[-1]) == (0, 90)
    assert (staged.POSES[0], staged.POSES[-1]) == (0, 1)


def test_the_sentences_hold_the_values_and_what_was_counted() -> None:
    from cards import staged

    for light, pose in ((0, 0.0), (15, 0.85), (62.5, 0.31), (90, 1.0)):
        numbers = [float(x) for x in re.findall(r"\d+(?:\.\d+)?", staged.alt(light, pose))]
        assert numbers == pytest.approx([light, pose, *staged.changed(light, pose)], abs=0.5)
        assert numbers[:2] == [light, pose]


# ---------------------------------------------------------------- answers as pictures


def test_an_answer_is_ink_where_nobody_knows_and_else_tells_its_values_apart() -> None:
    from cards import staged

    sample = staged.scene(0, 1.0)
    for task in TASKS:
        truth, picture = getattr(sample, task), staged.told(task, sample)
        unknown = ~(truth != 0).any(0) if task == "normals" else truth == 255
        assert unknown.any()
        assert np.array_equal((picture == INK).all(-1), unknown.numpy())
    for task, least in (("semseg", 4), ("human_parts", 7), ("saliency", 2)):
        truth, picture = getattr(sample, task).numpy(), staged.told(task, sample)
        hues = {k: {tuple(x) for x in picture[truth == k]} for k in np.unique(truth)}
        assert all(len(hue) == 1 for hue in hues.values())
        assert len(set.union(*hues.values())) == len(hues) > least
        assert np.array_equal(staged.labels(getattr(sample, task)), picture) == (task != "saliency")
    up = staged.told("normals", sample)[sample.normals[1].numpy() > 0.8]
    right = staged.told("normals", sample)[sample.normals[0].numpy() > 0.6]
    assert (up.mean(0).argmax(), right.mean(0)[0] > 190) == (1, True)


def test_a_photo_loses_at_most_half_a_step_of_32() -> None:
    from cards import staged

    image = staged.scene(0, 0.0).image
    kept = torch.from_numpy(staged.photo(image)).permute(2, 0, 1) / 255
    assert float((kept - image).abs().max()) <= 0.5 / 31 + 1 / 255
    assert len(np.unique(staged.photo(image))) <= 32


# ---------------------------------------------------------------- stills


def test_the_strip_shows_one_scene_five_times_and_its_classes_below() -> None:
    from cards import staged

    fig = staged.harder()
    check(fig, set())
    assert [text.get_text() for text, _ in texts(fig)] == ["0", "0.25", "0.5", "0.75", "1"]
    found = shown(fig)
    assert len(found) == 10
    crowds = []
    for i, difficulty in enumerate(staged.HARDER):
        one = render(draw(1, seed=3, difficulty=difficulty, start=16), staged.SIZE)
        assert np.array_equal(found[2 * i], staged.photo(one.image[0]))
        assert np.array_equal(found[2 * i + 1], staged.labels(one.semseg[0]))
        crowds.append(float((one.semseg != 0).double().mean()))
    assert crowds[-1] > 1.5 * crowds[0]
    assert found[-2].mean() < found[0].mean(), "the light is lower"


def test_a_row_hangs_its_pictures_under_their_names() -> None:
    from cards import staged

    given = {name: np.full((4, 4, 3), i, np.uint8) for i, name in enumerate(("one", "two", "three"))}
    fig = staged.row(given)
    check(fig, set())
    assert [text.get_text() for text, _ in texts(fig)] == list(given)
    for found, wanted in zip(shown(fig), given.values(), strict=True):
        assert np.array_equal(found, wanted)


def test_two_models_have_their_pictures_and_their_shares() -> None:
    from cards import staged

    n = torch.zeros(3, 10, 10)
    n[2] = 1
    off = {"even": torch.full((10, 10), 20.0), "tail": torch.tensor([110.0] * 10 + [9.5] * 90)}
    fig = staged.two_models({"even": n, "tail": -n}, off)
    check(fig, {plots.ROAD, plots.CONTROL})
    front, back = shown(fig)
    assert np.unique(front[..., 2]).tolist() > np.unique(back[..., 2]).tolist()
    (meter,) = (ax for ax in fig.axes if ax.patches)
    bars: dict[str, dict[int, float]] = {}
    for bar in meter.patches:
        at = round(bar.get_x() + bar.get_width() / 2, -1)
        bars.setdefault(to_hex(bar.get_facecolor()), {})[int(at)] = bar.get_height()
    assert bars == {plots.ROAD: {20: 100.0}, plots.CONTROL: {10: 90.0, 110: 10.0}}

"""What the cards, stills and tables of chapter 4's four answers show is what the study kept."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import check
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from torch import nn

from geolessons import plots
from geolessons.studies.multitask import effect
from geolessons.studies.multitask.methods import METHODS
from geolessons.studies.multitask.roads import ON_THE_ROAD, TS
from geolessons.studies.record import read

BOOK = Path(__file__).parents[1] / "book"
TASKS = ("semseg", "human_parts", "saliency", "normals")


@pytest.fixture(autouse=True)
def _cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BOOK))


@pytest.fixture(scope="module")
def values() -> dict[str, dict]:
    return read(BOOK / "results" / "multitask.json")


@pytest.fixture(scope="module")
def kept() -> dict[str, np.ndarray]:
    with np.load(BOOK / "results" / "multitask.npz") as file:
        return dict(file)


def pictures(fig: Figure) -> list[np.ndarray]:
    return [image.get_array() for ax in fig.axes for image in ax.images]


def numbers(sentence: str) -> list[float]:
    return [float(x) for x in re.findall(r"(?<![\w.])\d+(?:\.\d+)?", sentence)]


def meter(fig: Figure):
    return min(fig.axes, key=lambda ax: ax.get_position().y0)


# ---------------------------------------------------------------- pictures


def test_a_picture_has_the_true_outline_in_ink_and_the_answer_elsewhere(kept) -> None:
    from cards.answers import OUTLINE, outline, picture

    for task in TASKS:
        said, truth = kept[f"full.{task}"][10, 1], kept[f"truth.{task}"][1]
        made, bare = picture(task, said, truth), picture(task, said)
        assert made.shape == bare.shape == (64, 64, 3)
        assert made.dtype == np.uint8
        edge = outline(truth)
        assert 0 < edge.mean() < 0.2
        assert (made[edge] == OUTLINE).all()
        assert (made[~edge] == bare[~edge]).all()
        assert not (bare == OUTLINE).all(-1).any()


def test_an_outline_is_where_nothing_is_known() -> None:
    from cards.answers import outline

    label = np.array([[0, 255], [1, 6]], np.uint8)
    assert outline(label).tolist() == [[False, True], [False, False]]
    normal = np.zeros((3, 1, 2), np.uint8)
    normal[2, 0, 1] = 1
    assert outline(normal).tolist() == [[True, False]]


def test_pictures_tell_classes_apart_and_have_few_colours(kept) -> None:
    from cards.answers import TINTS, picture

    assert len({tuple(tint) for tint in TINTS}) == 7
    classes = np.arange(7, dtype=np.uint8).reshape(1, 7)
    assert (picture("semseg", classes)[0] == TINTS).all()
    assert (picture("human_parts", classes)[0] == TINTS).all()
    shades = picture("saliency", np.arange(256, dtype=np.uint8).reshape(1, -1))[0]
    assert len(np.unique(shades, axis=0)) == 16
    assert (np.diff(shades[:, 0].astype(int)) <= 0).all(), "more salient is darker"
    normal = kept["literal.normals"][5, 1]
    made = picture("normals", normal)
    assert np.abs(made.astype(int) - normal.transpose(1, 2, 0)).max() <= 16
    assert set(np.unique(made)) <= {17 * i for i in range(16)}


# ---------------------------------------------------------------- the card of answers


def test_the_methods_and_stops_are_those_of_the_study() -> None:
    from cards import answers

    assert set(answers.METHODS.values()) == set(ON_THE_ROAD)
    assert answers.TS == TS
    assert len(answers.METHODS) * len(answers.TS) == 44
    assert tuple(answers.TASKS) == TASKS


@pytest.mark.parametrize(("t", "method"), [(0.0, "lora"), (0.3, "literal"), (1.0, "full"), (0.25, "centred")])
def test_the_card_of_answers_draws_what_was_kept(values, kept, t: float, method: str) -> None:
    from cards import answers

    card = answers.Answers(values, kept)
    fig = card.draw(t, method)
    check(fig, {plots.ROAD})
    scene, *four = pictures(fig)
    assert (scene == answers.photograph(kept, 1)).all()
    assert np.abs(scene.astype(int) - kept["truth.image"][1].transpose(1, 2, 0)).max() <= 16
    stop = {0.0: 0, 0.3: 3, 1.0: 10, 0.25: 2}[t]
    for task, drawn in zip(TASKS, four, strict=True):
        wanted = answers.picture(task, kept[f"{method}.{task}"][stop, 1], kept[f"truth.{task}"][1])
        assert (drawn == wanted).all()

    lines = [line for line in meter(fig).lines if to_hex(line.get_color()) == plots.ROAD]
    curves, marks = (
        [x for x in lines if x.get_marker() == "None"],
        [x for x in lines if x.get_marker() != "None"],
    )
    assert len(curves) == len(marks) == len({str(mark.get_marker()) for mark in marks}) == 4
    assert len({str(curve.get_linestyle()) + str(curve._dash_pattern) for curve in curves}) == 4
    for task, curve, mark in zip(TASKS, curves, marks, strict=True):
        road = values[f"{method}.road.{task}.change"]["mean"]
        walked = [s for s in TS if s < t] + [t]
        assert list(curve.get_xdata()) == walked
        assert curve.get_ydata() == pytest.approx(np.interp(walked, TS, road))
        assert mark.get_xdata() == [t]
        assert mark.get_ydata() == curve.get_ydata()[-1]
        low, high = meter(fig).get_ylim()
        assert low <= min(road) <= max(road) <= high
    assert f"n = {values[f'{method}.road.semseg.change']['n']}" in meter(fig).get_title("left")


def test_each_picture_is_named_by_its_lines_look(values, kept) -> None:
    from cards import answers

    fig = answers.Answers(values, kept).draw(1.0, "lora")
    marks = [x.get_marker() for x in meter(fig).lines if x.get_marker() not in ("None", None)]
    words = ["classes", "parts", "saliency", "normals"]
    heads = [text for text in fig.texts if text.get_text() in words]
    for head, key, mark in zip(heads, fig.artists, marks, strict=True):
        assert head.get_text() == words[marks.index(mark)]
        assert key.get_marker() == mark
        assert 0 < head.get_position()[0] - max(key.get_xdata()) < 0.03


def test_the_sentences_of_answers_hold_what_was_measured(values, kept) -> None:
    from cards import answers

    card = answers.Answers(values, kept)
    for method in ON_THE_ROAD:
        for t in (0.0, 0.4, 0.37, 1.0):
            found = numbers(card.alt(t, method).replace("mIoU", ""))
            wanted = [t]
            for task in TASKS:
                metric = "mean angle" if task == "normals" else "mIoU"
                road = values[f"{method}.road.{task}.{metric}"]["mean"]
                i = min(int(10 * t + 1e-9), 9)
                wanted.append(road[i] + (10 * t - i) * (road[i + 1] - road[i]))
            assert found == pytest.approx(wanted, abs=0.051)
    assert card.alt(0.5, "full").startswith("All weights, t = 0.5: ")


def test_the_limits_of_the_meter_hold_all_roads(values, kept) -> None:
    from cards import answers

    far = {**values}
    for task in TASKS:
        far[f"centred.road.{task}.change"] = {
            end: [-260.0] * 5 + [30.0] * 6 for end in ("mean", "low", "high")
        } | {"n": 3}
        for method in ("lora", "full", "literal"):
            far[f"{method}.road.{task}.change"] = {end: [-10.0] * 11 for end in ("mean", "low", "high")} | {
                "n": 3
            }
    assert answers.Answers(far, kept).limits == (-300, 100)
    near = {key: {**found, "mean": [-12.0] * 11} if ".change" in key else found for key, found in far.items()}
    assert answers.Answers(near, kept).limits == (-20, 10)


# ---------------------------------------------------------------- the effect before training


def test_the_push_on_the_map_is_the_studys_first_draw() -> None:
    from cards import field_effect

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.attn = nn.LayerNorm(24), nn.Module()
            self.attn.qkv = nn.Linear(24, 72)

        def forward(self, x):
            return self.norm1(x[..., :24])

    block = nn.Module()
    block.first = Block()
    block.forward = lambda x: block.first(x)  # type: ignore[method-assign]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        block.first.attn.qkv.weight.data.normal_()
        image = torch.rand(2, 3, 8, 24)
    found = effect.changes(block, image, seed=0)
    places = effect.entering(block, image)["first"]
    W = block.first.attn.qkv.weight.detach()
    for i, c in enumerate(effect.SCALES):
        for place, x in places.items():
            both = [
                float((x @ torch.tensor(field_effect.push(name, c)).T).norm() / (x @ W0.T).norm())
                for name, W0 in (("q", W[:24]), ("v", W[48:]))
            ]
            assert found[place][i] == pytest.approx(sum(both) / 2, rel=1e-4, abs=1e-7)


def test_a_push_is_a_softmax_of_rows() -> None:
    from cards import field_effect

    assert field_effect.push("q", 0.0) == pytest.approx(np.full((24, 24), 1 / 24))
    for name in "qv":
        sharp = field_effect.push(name, 16.0)
        assert sharp.sum(1) == pytest.approx(np.ones(24), abs=1e-5)
        assert sharp.max(1).mean() > 2 * field_effect.push(name, 1.0).max(1).mean()
        assert float(field_effect.logits()[name].std()) == pytest.approx(1, abs=0.3)
    assert (field_effect.push("q", 1.0) != field_effect.push("v", 1.0)).any()


@pytest.mark.parametrize(("scale", "t"), [(0.0, 0.0), (0.0, 1.0), (4.0, 0.6), (16.0, 1.0), (0.3, 0.5)])
def test_the_card_of_the_field_draws_what_was_measured(values, scale: float, t: float) -> None:
    from cards import field_effect

    fig = field_effect.FieldEffect(values).draw(scale, t)
    check(fig, {plots.PUSH})
    for name, shade in zip("qv", pictures(fig), strict=True):
        wanted = 255 * (1 - 0.8 * np.sqrt(t * field_effect.push(name, scale)))
        assert np.abs(shade - wanted).max() <= 0.5
    lines = [line for line in meter(fig).lines if to_hex(line.get_color()) == plots.PUSH]
    curves = [line for line in lines if line.get_marker() == "None"]
    walked = [c for c in effect.SCALES if c < scale] + [scale]
    for place, curve in zip(field_effect.LOOKS, curves, strict=True):
        mean = t * np.interp(walked, effect.SCALES, values[f"before.{place}"]["mean"])
        assert list(curve.get_xdata()) == walked
        assert curve.get_ydata() == pytest.approx(np.maximum(mean, field_effect.FLOOR))
        assert max(curve.get_ydata()) <= meter(fig).get_ylim()[1]
    ticks = dict(
        zip(meter(fig).get_yticks(), (x.get_text() for x in meter(fig).get_yticklabels()), strict=True)
    )
    assert ticks[field_effect.FLOOR] == "0"


def test_the_sentences_of_the_field_hold_what_was_measured(values) -> None:
    from cards import field_effect

    card, told = field_effect.FieldEffect(values), set()
    for scale in effect.SCALES:
        for t in field_effect.TS:
            sentence = card.alt(scale, t)
            told.add(sentence)
            first, second, *percents = numbers(sentence)
            assert (first, second) == (scale, t)
            for place, percent in zip(effect.PLACES, percents, strict=True):
                share = t * values[f"before.{place}"]["mean"][effect.SCALES.index(scale)]
                assert math.isclose(percent, 100 * share, rel_tol=0.06, abs_tol=1e-3)
    assert len(told) == 42


def test_what_is_said_of_a_small_share() -> None:
    from cards.field_effect import said

    assert [said(x) for x in (0, 1e-7, 2e-5, 0.0123, 0.62, 3.456)] == [
        "0 %",
        "less than 0.001 %",
        "0.002 %",
        "1.2 %",
        "62 %",
        "346 %",
    ]


# ---------------------------------------------------------------- stills and tables


def test_side_by_side_shows_the_truth_and_each_method_at_its_end(kept) -> None:
    from cards import side_by_side
    from cards.answers import picture

    assert set(side_by_side.NAMES) == set(METHODS)
    fig = side_by_side.side_by_side(kept, 3)
    check(fig, set())
    shown = pictures(fig)
    assert len(shown) == 4 * 10 + 1
    for j, task in enumerate(TASKS):
        truth = kept[f"truth.{task}"][3]
        column = shown[10 * j : 10 * j + 10]
        for method, drawn in zip(side_by_side.NAMES, column[1:], strict=True):
            assert (drawn == picture(task, kept[f"{method}.{task}"][-1, 3], truth)).all()
    right = side_by_side.filled("saliency", np.array([[0, 1, 255]], np.uint8))
    assert right.tolist() == [[0, 255, 0]]


def test_losses_and_learning_draw_the_epochs(values) -> None:
    from cards import side_by_side

    fig = side_by_side.losses(values)
    check(fig, {plots.ADAPTED, plots.ROAD})
    (ax,) = fig.axes
    for line, method in zip(ax.lines, side_by_side.FORMS, strict=True):
        assert list(line.get_ydata()) == values[f"{method}.loss by epoch"]["mean"]
        assert list(line.get_xdata()) == list(range(1, len(line.get_ydata()) + 1))
    fig = side_by_side.learning(values)
    check(fig, {plots.ADAPTED, plots.ROAD, plots.CONTROL})
    for ax, task in zip(fig.axes, TASKS, strict=True):
        metric = "mean angle" if task == "normals" else "mIoU"
        for line, method in zip(ax.lines, side_by_side.LOOKS, strict=True):
            assert list(line.get_ydata()) == values[f"{method}.{task}.{metric} by epoch"]["mean"]


def test_the_tables_hold_what_was_printed_and_measured(values) -> None:
    from cards import tables

    printed = {"single task": (60.0, 50.0, 40.0, 20.0), "theirs": (66.0, 50.0, 40.0, 21.0), "missing": None}
    table = tables.answers(printed, values)
    rows = {row[0]: row[1:] for row in table.rows if len(row) > 1}
    assert rows["theirs"] == ["66.00", "50.00", "40.00", "21.00", "+1.25"]  # (10 + 0 + 0 - 5)/4
    assert rows["missing"] == rows["all methods"] == ["–"] * 5
    assert set(tables.METHODS) == set(METHODS)
    for method, name in tables.METHODS.items():
        for task, cell in zip(TASKS, rows[name], strict=False):
            metric = "mean angle" if task == "normals" else "mIoU"
            found = values[f"{method}.{task}.{metric}"]
            read_back = [float(x.replace("−", "-")) for x in re.findall(r"−?\d+\.\d", cell)]
            assert read_back == pytest.approx([found[k] for k in ("mean", "low", "high")], abs=0.051)
        if method != "single":
            assert float(rows[name][-1].split()[0].replace("−", "-")) == pytest.approx(
                values[f"{method}.delta_m"]["mean"], abs=0.0051
            )
    assert rows["single task"][-1] == "0"
    costs = {row[0]: row[1:] for row in tables.costs(values).rows}
    for method, name in tables.METHODS.items():
        assert int(costs[name][0].replace(",", "")) == values[f"{method}.trainable"]["mean"]
        assert costs[name][-1] == ("4" if method in ("single", "lora-each") else "1")
    assert costs["joint LoRA"][0] == costs["DELoRA, literal"][0], "equal size"


def test_a_table_is_text_and_on_the_page_html_and_refuses_ragged_rows(monkeypatch) -> None:
    from cards.tables import Table

    table = Table(["a", "b <c>"], [["half"], ["one", "1.0"], ["three", "10.25"]])
    assert repr(table) == "a      b <c>\nhalf\none      1.0\nthree  10.25"
    assert table._repr_html_() is None
    monkeypatch.setenv("GEOLESSONS_PUBLISH", "1")
    made = table._repr_html_()
    assert "b &lt;c&gt;" in made
    assert made.count("<tr>") == 4
    assert '<th scope="rowgroup" colspan="2">half</th>' in made
    with pytest.raises(ValueError, match="3 entries; the table has 2"):
        Table(["a", "b"], [["1", "2", "3"]])

"""The book's cards, as its pages use them: nothing cut, nothing told ahead, few hues, and a true sentence."""

from __future__ import annotations

import ast
import json
import math
import re
import sys
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
from drawn import colours, meet, texts
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from geolessons import plots, running_example, widgets
from geolessons.plots import INK, WIDTH

BOOK = Path(__file__).parents[1] / "book"
PALETTE = {plots.START, plots.ADAPTED, plots.ROAD, plots.PUSH, plots.NOISE, plots.CONTROL}
PHONE = 328  # px that a phone leaves for a figure


# ---------------------------------------------------------------- what the pages show


def code(page):
    """The code cells of a page, parsed, but for those that are meant to fail."""
    cells = json.loads((BOOK / page).read_text(encoding="utf8"))["cells"]
    sources = (
        "".join(cell["source"])
        for cell in cells
        if cell["cell_type"] == "code" and "raises-exception" not in cell["metadata"].get("tags", [])
    )
    return [
        ast.parse("\n".join(line for line in source.split("\n") if line[:1] not in "%!"[: len(line)]))
        for source in sources
    ]


def calls(tree, name):
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return sum(isinstance(node.func, ast.Name) and node.func.id == name for node in nodes)


def names(tree, kind):
    """The names that a cell reads (`ast.Load`) or makes (`ast.Store`)."""
    found = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, kind)}
    if kind is ast.Store:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            if isinstance(node, ast.Import | ast.ImportFrom):
                found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return found


PAGES = {path.name: code(path.name) for path in sorted(BOOK.glob("*.ipynb"))}
SWEEPS = [
    (page, i) for page, cells in PAGES.items() for i in range(sum(calls(cell, "sweep") for cell in cells))
]
STILLS = [
    (page, i) for page, cells in PAGES.items() for i in range(sum(calls(cell, "show") for cell in cells))
]


class Shown:
    """Runs, of each page, the cells that show something and those that they need; keeps what was shown."""

    def __init__(self):
        self.pages = {}

    def page(self, page):
        if page not in self.pages:
            needed, chosen = set(), []
            for cell in reversed(PAGES[page]):
                if calls(cell, "sweep") + calls(cell, "show") or needed & names(cell, ast.Store):
                    chosen.insert(0, cell)
                    needed |= names(cell, ast.Load)
            self.pages[page] = sweeps, stills = [], []

            def sweep(*args, **options):
                sweeps.append((widgets.Sweep(*args, **split(options)), args[0]))

            def show(fig, **options):
                stills.append((fig, options["alt"]))

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(widgets, "sweep", sweep)
                patch.setattr(widgets, "show", show)
                patch.chdir(BOOK)
                space = {}
                for cell in chosen:
                    exec(compile(cell, page, "exec"), space)
        return self.pages[page]


def split(options):
    """The arguments of `sweep` as those of `Sweep`."""
    own = {name: options.pop(name) for name in ("alt", "frames", "labels", "start") if name in options}
    return {"alt": "", **own, "parameters": options}


def once(function):
    """Pages train the same networks: train them once."""
    kept = {}

    def get(data, *args, **options):
        key = repr((id(data), args, options))
        return kept.setdefault(key, None) or kept.update({key: function(data, *args, **options)}) or kept[key]

    return get


@pytest.fixture(scope="module")
def shown():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BOOK))
        from geolessons.data import digits as module

        digits = module.digits if hasattr(module, "digits") else module
        patch.setattr("geolessons.data.digits", once(digits))
        patch.setattr(running_example, "pretrain", once(running_example.pretrain))
        patch.setattr(running_example, "adapt", once(running_example.adapt))
        yield Shown()
    for name in [name for name in sys.modules if name.split(".")[0] == "cards"]:
        del sys.modules[name]


@pytest.fixture
def a_sweep(shown, request):
    page, i = request.param
    return shown.page(page)[0][i]


@pytest.fixture
def a_still(shown, request):
    page, i = request.param
    return shown.page(page)[1][i]


def label(given):
    return f"{given[0].removesuffix('.ipynb')}-{given[1]}"


each_sweep = pytest.mark.parametrize("a_sweep", SWEEPS, indirect=True, ids=map(label, SWEEPS))
each_still = pytest.mark.parametrize("a_still", STILLS, indirect=True, ids=map(label, STILLS))


def everywhere(card):
    """All frames of a card, as arguments of its `draw`."""
    return [
        dict(zip([s.name for s in card._sliders], values, strict=True))
        for values in product(*(s.values for s in card._sliders))
    ]


def some(card):
    """The ends, the start and two stops between, at each stop of the second slider."""
    main, *second = card._sliders
    last = len(main.values) - 1
    chosen = {main.values[i] for i in (0, main.start, last // 3, 2 * last // 3, last)}
    return [at for at in everywhere(card) if at[main.name] in chosen]


# ---------------------------------------------------------------- texts


def check_texts(fig):
    seen = texts(fig)
    assert seen
    for text, box in seen:
        words = text.get_text()
        assert box.x0 >= -1, f"{words!r} is cut at the left"
        assert box.x1 <= fig.bbox.width + 1, f"{words!r} is cut at the right"
        assert box.y0 >= -1, f"{words!r} is cut below"
        assert box.y1 <= fig.bbox.height + 1, f"{words!r} is cut above"
        assert text.get_fontsize() >= 9, f"{words!r} is too small"
        assert to_hex(text.get_color()) == INK, f"{words!r} is not ink"
    for (one, box), (other, box2) in combinations(seen, 2):
        assert not meet(box, box2), f"{one.get_text()!r} and {other.get_text()!r} overlap"


def check_phone(fig):
    """In a 328 px column base text is at least 10 px tall, notes 9 px."""
    assert fig.get_figwidth() == WIDTH
    shrink = PHONE / (WIDTH * 72)
    assert plots.STYLE["font.size"] * shrink >= 10
    assert min(text.get_fontsize() for text, _ in texts(fig)) * shrink >= 9


@each_sweep
def test_no_text_of_a_card_is_cut_covered_small_or_coloured(a_sweep):
    card, draw = a_sweep
    for at in some(card):
        fig = draw(**at)
        try:
            check_texts(fig)
            check_phone(fig)
        except AssertionError as error:
            raise AssertionError(f"at {at}: {error}") from None


@each_still
def test_no_text_of_a_still_is_cut_covered_small_or_coloured(a_still):
    check_texts(a_still[0])
    check_phone(a_still[0])


# ---------------------------------------------------------------- colours


@each_sweep
def test_a_card_has_at_most_four_hues_and_all_are_of_the_palette(a_sweep):
    card, draw = a_sweep
    hues = set().union(*(colours(draw(**at)) for at in some(card))) - {INK}
    assert hues <= PALETTE
    assert len(hues) <= 4


@each_still
def test_a_still_has_at_most_four_hues_and_all_are_of_the_palette(a_still):
    hues = colours(a_still[0]) - {INK}
    assert hues <= PALETTE
    assert len(hues) <= 4


# ---------------------------------------------------------------- what moves and what stays


@each_sweep
def test_axes_stay_and_pyplot_keeps_no_figure(a_sweep):
    card, draw = a_sweep
    seen = set()
    for at in everywhere(card):
        fig = draw(**at)
        boxes = (ax.get_position().bounds for ax in fig.axes)
        seen.add(
            tuple((*ax.get_xlim(), *ax.get_ylim(), *box) for ax, box in zip(fig.axes, boxes, strict=True))
        )
    assert len(seen) == 1
    assert plt.get_fignums() == []


def meters(fig):
    """The axes under the map, whose x axis is the main slider's: their lines of colour are the story."""
    lowest = min(fig.axes, key=lambda ax: ax.get_position().y0)
    return [ax for ax in fig.axes if ax.axison and ax.get_xlim() == lowest.get_xlim()]


@each_sweep
def test_curves_are_drawn_up_to_the_sliders_value_and_reach_it(a_sweep):
    card, draw = a_sweep
    name = card._sliders[0].name
    for at in everywhere(card):
        t, fig = at[name], draw(**at)
        for ax in meters(fig):
            lines = [line for line in ax.lines if to_hex(line.get_color()) != INK]
            ends = [float(np.max(line.get_xdata())) for line in lines if len(line.get_xdata())]
            assert max(ends) == pytest.approx(t), f"at {at}"
        for ax in meters(fig):
            ghosts = [line for line in ax.lines if to_hex(line.get_color()) == INK]
            assert all(line.get_linewidth() <= 0.8 for line in ghosts), "what runs ahead is thin ink"


@each_sweep
def test_the_slider_lies_on_the_meter(a_sweep):
    card, _ = a_sweep
    left, right, _ = card._first.track
    assert (left, right) == pytest.approx((0.12, 0.97), abs=1e-3)


# ---------------------------------------------------------------- words


NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?")


@each_sweep
def test_the_sentence_of_each_frame_has_its_value_and_what_was_measured(a_sweep):
    card, _ = a_sweep
    said = {}
    for at in everywhere(card):
        state = tuple(slider.find(at[slider.name]) for slider in card._sliders)
        sentence = card._caption(state)
        assert sentence[0].isupper(), sentence
        assert sentence.endswith("."), sentence
        assert sentence not in said.values(), f"the sentence at {at} is said elsewhere, too: {sentence}"
        said[tuple(at.values())] = sentence
        numbers = [float(number) for number in NUMBER.findall(sentence)]
        given = [value for value in at.values() if isinstance(value, int | float)]
        for value in given:
            assert any(math.isclose(value, number) for number in numbers), f"{value} is not in: {sentence}"
        assert len(numbers) > len(given), f"no measured number in: {sentence}"


@each_sweep
def test_the_sentence_has_the_value_between_two_stops_too(a_sweep):
    card, _ = a_sweep
    main = card._sliders[0]
    if not main.straight:
        pytest.skip("a kernel's slider has the stops alone")
    value = main.values[0] + 0.37 * (main.values[1] - main.values[0]) // 0.01 / 100
    value = round(main.values[0] + 0.01, 2)
    sentence = card._caption((main.find(value), *card._start[1:]))
    assert any(math.isclose(value, float(number)) for number in NUMBER.findall(sentence)), sentence


@each_still
def test_the_sentence_of_a_still(a_still):
    _, alt = a_still
    assert alt[0].isupper()
    assert alt.endswith(".")
    assert len(alt.split()) >= 8


# ---------------------------------------------------------------- how much


@pytest.mark.parametrize("page", sorted({page for page, _ in SWEEPS}))
def test_a_card_has_at_most_90_frames_and_a_page_180(shown, page):
    frames = [len(everywhere(card)) for card, _ in shown.page(page)[0]]
    assert max(frames) <= 90
    assert sum(frames) <= 180

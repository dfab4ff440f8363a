"""The book's cards, as its pages use them: nothing cut, nothing told ahead, few hues, and a true sentence."""

from __future__ import annotations

import ast
import copy
import json
import math
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from drawn import colours, meet, texts
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from torch import nn

from geolessons import data, page, plots, running_example, widgets
from geolessons.plots import INK, WIDTH

BOOK = Path(__file__).parents[1] / "book"
PALETTE = {plots.START, plots.ADAPTED, plots.ROAD, plots.PUSH, plots.NOISE, plots.CONTROL}
PHONE = 328  # px that a phone leaves for a figure


# ---------------------------------------------------------------- what the pages show


def code(path):
    """The code cells of a page, parsed, but for those that are meant to fail."""
    cells = json.loads(path.read_text(encoding="utf8"))["cells"]
    fails = [cell for cell in cells if "raises-exception" in cell["metadata"].get("tags", [])]
    return [
        ast.parse("".join(cell["source"]))
        for cell in cells
        if cell["cell_type"] == "code" and cell not in fails
    ]


def calls(tree, name):
    """All calls of a function, each as text."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [ast.dump(n) for n in nodes if isinstance(n.func, ast.Name) and n.func.id == name]


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


PAGES = {path.name: code(path) for path in sorted(BOOK.glob("*.ipynb"))}


def places(verb):
    """Page and number of each call; a call that an earlier page has word for word is left out."""
    found = {}
    for name, cells in PAGES.items():
        for i, call in enumerate(call for cell in cells for call in calls(cell, verb)):
            found.setdefault(call, (name, i))
    return list(found.values())


SWEEPS, STILLS = places("sweep"), places("show")


class Card:
    """A sweep as a page makes it, and its figures, each drawn once."""

    def __init__(self, draw, *, alt="", frames="drawing", labels=None, start=None, **parameters):
        self.draw, self.figures = draw, {}
        self.made = widgets.Sweep(
            draw, alt=alt, frames=frames, labels=labels, start=start, parameters=parameters
        )
        self.main, *self.second = self.made._sliders
        self.states = page.states(self.made._sliders)

    def figure(self, state):
        key = tuple(text for _, text in state)
        if key not in self.figures:
            self.figures[key] = self.draw(**self.made._values(state))
        return self.figures[key]

    def some(self):
        """All frames of one slider; of two, the ends of the first, and all of it at the second's start."""
        ends = self.main.texts[0], self.main.texts[-1]
        begin = [slider.texts[slider.start] for slider in self.second]
        return [s for s in self.states if s[0][1] in ends or [text for _, text in s[1:]] == begin]


class Shown:
    """Runs, of each page, the cells that show something and those that they need; keeps what was shown."""

    def __init__(self):
        self.pages = {}

    def page(self, name):
        if name not in self.pages:
            needed, chosen = set(), []
            for cell in reversed(PAGES[name]):
                if calls(cell, "sweep") + calls(cell, "show") or needed & names(cell, ast.Store):
                    chosen.insert(0, cell)
                    needed |= names(cell, ast.Load)
            self.pages[name] = cards, stills = [], []
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(widgets, "sweep", lambda draw, **options: cards.append(Card(draw, **options)))
                patch.setattr(widgets, "show", lambda fig, *, alt, **_: stills.append((fig, alt)))
                patch.chdir(BOOK)
                space = {}
                for cell in chosen:
                    exec(compile(cell, name, "exec"), space)
        return self.pages[name]


def once(function):
    """The pages train the same networks on the same data: do it once, each page with a model of its own."""
    kept = {}

    def get(given, *args, **options):
        key = content(given), args, tuple((name, content(value)) for name, value in options.items())
        if key not in kept:
            kept[key] = given, function(given, *args, **options)  # `given` is kept, or its id might be reused
        found = kept[key][1]
        return copy.deepcopy(found) if isinstance(found, nn.Module) else found

    return get


def content(given):
    """What a result depends on: equal for equal networks, and for data the thing itself."""
    if isinstance(given, nn.Module):
        return tuple((name, p.numpy(force=True).tobytes()) for name, p in given.named_parameters())
    return given if isinstance(given, str | int | float) else id(given)


@pytest.fixture(scope="module")
def shown():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BOOK))
        for module, name in ((data, "digits"), (running_example, "pretrain"), (running_example, "adapt")):
            patch.setattr(module, name, once(getattr(module, name)))
        yield Shown()


@pytest.fixture
def card(shown, request):
    name, i = request.param
    return shown.page(name)[0][i]


@pytest.fixture
def still(shown, request):
    name, i = request.param
    return shown.page(name)[1][i]


def label(given):
    return f"{given[0].removesuffix('.ipynb')}-{given[1]}"


each_sweep = pytest.mark.parametrize("card", SWEEPS, indirect=True, ids=map(label, SWEEPS))
each_still = pytest.mark.parametrize("still", STILLS, indirect=True, ids=map(label, STILLS))


# ---------------------------------------------------------------- texts


def check_texts(fig):
    """Each text lies in the figure, is ink, covers no other and can be read, on a phone, too."""
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
    # In a 328 px column base text is then at least 10 px tall, notes 9 px.
    assert fig.get_figwidth() == WIDTH
    shrink = PHONE / (WIDTH * 72)
    assert plots.STYLE["font.size"] * shrink >= 10
    assert min(text.get_fontsize() for text, _ in seen) * shrink >= 9


@each_sweep
def test_no_text_of_a_card_is_cut_covered_small_or_coloured(card):
    for state in card.some():
        try:
            check_texts(card.figure(state))
        except AssertionError as error:
            raise AssertionError(f"at {' and '.join(text for _, text in state)}: {error}") from None


@each_still
def test_no_text_of_a_still_is_cut_covered_small_or_coloured(still):
    check_texts(still[0])


# ---------------------------------------------------------------- colours


@each_sweep
def test_a_card_has_at_most_four_hues_and_all_are_of_the_palette(card):
    hues = set().union(*(colours(card.figure(state)) for state in card.some())) - {INK}
    assert hues <= PALETTE
    assert len(hues) <= 4


@each_still
def test_a_still_has_at_most_four_hues_and_all_are_of_the_palette(still):
    hues = colours(still[0]) - {INK}
    assert hues <= PALETTE
    assert len(hues) <= 4


# ---------------------------------------------------------------- what moves and what stays


@each_sweep
def test_axes_stay_and_pyplot_keeps_no_figure(card):
    seen = {
        tuple((ax.get_xlim(), ax.get_ylim(), ax.get_position().bounds) for ax in card.figure(state).axes)
        for state in card.states
    }
    assert len(seen) == 1
    assert plt.get_fignums() == []


@each_sweep
def test_curves_are_drawn_up_to_the_sliders_value_and_reach_it(card):
    for state in card.states:
        (t, text), fig = state[0], card.figure(state)
        lowest = min(fig.axes, key=lambda ax: ax.get_position().y0)
        for ax in fig.axes:
            if not ax.axison or ax.get_xlim() != lowest.get_xlim():
                continue  # the map shows all of the road
            ends = []
            for line in ax.lines:
                if to_hex(line.get_color()) == INK:
                    assert line.get_linewidth() <= 0.8, "what runs ahead is a ghost, thin ink"
                else:
                    along = np.min if ax.xaxis_inverted() else np.max
                    ends.append(float(along(line.get_xdata())))
            last = min(ends) if ax.xaxis_inverted() else max(ends)
            assert last == pytest.approx(t), f"at {text}"


@each_sweep
def test_the_slider_lies_on_the_meter(card):
    track = page.track(card.figure(card.made._start), card.main)
    assert (track.left, track.right) == pytest.approx((0.12, 0.97), abs=1e-3)


# ---------------------------------------------------------------- words


def numbers(sentence):
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?", sentence)]


def holds(sentence, value):
    return any(math.isclose(abs(value), number, abs_tol=1e-12) for number in numbers(sentence))


@each_sweep
def test_the_sentence_of_each_frame_has_its_value_and_what_was_measured(card):
    sentences = {state: card.made._caption(state) for state in card.states}
    for state, sentence in sentences.items():
        assert sentence[0].isupper(), sentence
        assert sentence.endswith("."), sentence
        given = [value for value, _ in state if isinstance(value, int | float)]
        for value in given:
            assert holds(sentence, value), f"{value} is not in: {sentence}"
        assert len(numbers(sentence)) > len(given), f"no measured number in: {sentence}"
    assert len(set(sentences.values())) == len(sentences), "no sentence is said of two frames"


@each_sweep
def test_the_sentence_has_a_value_between_two_stops_too(card):
    if not card.main.straight:
        pytest.skip("the slider has its stops alone")
    low, high = card.main.values[:2]
    value = round(low + 0.37 * (high - low), 2)
    sentence = card.made._caption((card.main.find(value), *card.made._start[1:]))
    assert holds(sentence, value), f"{value} is not in: {sentence}"


@each_still
def test_the_sentence_of_a_still(still):
    _, alt = still
    assert alt[0].isupper()
    assert alt.endswith(".")
    assert len(alt.split()) >= 8


# ---------------------------------------------------------------- how much


@pytest.mark.parametrize("name", sorted({name for name, _ in SWEEPS}))
def test_a_card_has_at_most_90_frames_and_a_page_180(shown, name):
    counts = [len(card.states) for card in shown.page(name)[0]]
    assert max(counts) <= 90
    assert sum(counts) <= 180

"""Sweeps and stills: what is shown, what is refused, and that nothing is left behind."""

from __future__ import annotations

import base64
import gc
import io
import json
import os
import re
import subprocess
import sys
import weakref
import zlib
from html import unescape

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from geolessons.widgets import INK, Still, Sweep, show, sweep

WIDGET = "application/vnd.jupyter.widget-view+json"


def draw(t):
    fig = plt.figure(figsize=(4.2, 2))
    ax = fig.add_axes([0.12, 0.3, 0.85, 0.6])
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.plot([0, t], [0, t], color="#116afd")
    ax.axvline(0.5, color=INK, alpha=0.375)
    ax.set_title(f"t = {t:.2f}")
    return fig


def draw2(t, pair):
    return draw(t)


def card(**changes):
    return sweep(
        draw, **{"t": [0, 0.25, 0.5, 0.75, 1], "alt": "At t = {t:.2f} the line has begun.", **changes}
    )


def unpacked(page):
    """What the page's script sees: the sliders, the captions, and the frames put together."""
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', page)[1])
    packed = json.loads(zlib.decompress(base64.b64decode(data["frames"]), -15))
    frames = ["".join(packed["parts"][i] for i in row) for row in packed["frames"]]
    return data, packed["captions"], frames


@pytest.fixture(autouse=True)
def _no_figure_left():
    yield
    assert plt.get_fignums() == []


@pytest.fixture
def publish(monkeypatch):
    monkeypatch.setenv("GEOLESSONS_PUBLISH", "1")


@pytest.fixture(autouse=True)
def _kernel(monkeypatch):
    monkeypatch.delenv("GEOLESSONS_PUBLISH", raising=False)


# ---------------------------------------------------------------- bundles


def test_one_bundle_either_way_with_the_same_picture_and_line(monkeypatch):
    live = card()._repr_mimebundle_()
    monkeypatch.setenv("GEOLESSONS_PUBLISH", "1")
    page = card()._repr_mimebundle_()
    assert set(live) == {WIDGET, "image/png", "text/plain"}
    assert set(page) == {"text/html", "image/png", "text/plain"}
    assert (
        live["text/plain"]
        == page["text/plain"]
        == "sweep over t (5 stops, 0 to 1): At t = 0.00 the line has begun."
    )
    assert live["image/png"] == page["image/png"]
    picture = Image.open(io.BytesIO(base64.b64decode(live["image/png"])))
    assert picture.mode == "P"
    assert picture.convert("RGB").getpixel((1, 1)) == (255, 255, 255)


def test_two_parameters_named_stops_labels_and_start():
    made = sweep(
        draw2,
        t=np.linspace(0, 1, 3),
        pair={"two seeds": 0, "matched": [1, 2]},
        start={"t": 0.5, "pair": "matched"},
        labels={"t": "how far along"},
        alt="{pair} at {t:.1f}",
    )
    assert (
        repr(made)
        == "sweep over t (3 stops, 0 to 1) and pair (2 stops, two seeds to matched): matched at 0.5"
    )
    page = made.html()
    data, captions, frames = unpacked(page)
    # the last parameter runs fastest, as the script counts
    assert captions == [f"{pair} at {t}" for t in ("0.0", "0.5", "1.0") for pair in ("two seeds", "matched")]
    assert len(frames) == 6
    assert [s["start"] for s in data["sliders"]] == [1, 1]
    assert 'aria-label="t, how far along"' in page
    assert 'aria-valuetext="pair: matched"' in page
    assert '<output class="geo-caption" aria-live="polite">matched at 0.5</output>' in page


@pytest.mark.parametrize(
    ("start", "text"), [({"t": 0.25}, "0.25"), ({"t": 3}, "0.75"), ({"t": -1}, "1.00"), ({"t": 1}, "1.00")]
)
def test_start_is_a_value_first_and_an_index_otherwise(start, text):
    assert repr(card(start=start)).endswith(f"At t = {text} the line has begun.")


def test_draw_gets_the_values_and_named_stops_hold_anything():
    seen = []

    def spy(t, pair):
        seen.append((t, pair))
        return draw(t)

    arrays = {"a": np.zeros(3), "b": np.ones(3)}
    made = sweep(
        spy, t=[0, 1], pair=arrays, start={"pair": "b"}, alt=lambda t, pair: f"sum {pair.sum() + t:.0f}"
    )
    made.html()
    assert len(seen) == 4, "each frame is drawn once"
    assert {(t, id(pair)) for t, pair in seen} == {(t, id(a)) for t in (0, 1) for a in arrays.values()}
    assert all(isinstance(t, int) for t, _ in seen)
    assert unpacked(made.html())[1] == ["sum 0", "sum 3", "sum 1", "sum 4"]
    assert len(seen) == 4, "the page is kept"


def test_frame_takes_any_value_between_the_ends_and_names():
    fig = card().frame(t=0.3)
    assert isinstance(fig, Figure)
    assert fig.axes[0].get_title() == "t = 0.30"
    both = sweep(draw2, t=[0, 1], pair={"x": 5, "y": 6}, alt="{t} {pair}")
    assert both.frame(pair="y").axes[0].get_title() == "t = 0.00"
    with pytest.raises(ValueError, match="outside the grid"):
        card().frame(t=2)
    with pytest.raises(ValueError, match=r"not a stop.*x, y"):
        both.frame(pair="z")
    with pytest.raises(ValueError, match="s is not a parameter"):
        card().frame(s=1)


@pytest.mark.parametrize(
    "grid", [[0, 0.5, 1], (0, 0.5, 1), np.array([0, 0.5, 1]), [np.float32(0), np.float64(0.5), 1]]
)
def test_grids_of_every_kind(grid):
    assert "(3 stops, 0 to 1)" in repr(card(t=grid))


def test_torch_grids_and_ranges():
    torch = pytest.importorskip("torch")
    assert "(5 stops, 0 to 1)" in repr(card(t=torch.linspace(0, 1, 5)))
    assert "(3 stops, 0 to 2)" in repr(sweep(draw, t=range(3), alt="{t:d}"))


@pytest.mark.parametrize(
    ("grid", "texts"),
    [
        ([0, 0.05, 0.1], ["0.00", "0.05", "0.10"]),
        ([1, 2, 8], ["1", "2", "8"]),
        ([0, 1 / 3, 1], ["0.000", "0.333", "1.000"]),
        ([1e-6, 1e-5, 1e-1], ["1e-06", "1e-05", "0.1"]),
        ([0.1, 0.1000001, 0.2], ["0.1", "0.1000001", "0.2"]),
    ],
)
def test_values_are_written_with_few_decimals_and_no_two_alike(grid, texts):
    assert card(t=grid)._sliders[0].texts == texts


# ---------------------------------------------------------------- the page


def test_the_page_is_deterministic_and_its_frames_follow_the_theme():
    page = card().html()
    assert page == card().html()
    _, captions, frames = unpacked(page)
    assert len(set(frames)) == 5
    assert captions[1] == "At t = 0.25 the line has begun."
    assert all("currentColor" in frame and INK not in frame for frame in frames)
    assert 'aria-label="At t = 0.00 the line has begun."' in page
    assert 'aria-label="At t' not in frames[0], "the script names a frame when it shows it"


def test_two_sweeps_on_a_page_share_no_id():
    ids = []
    for alt in ("one", "two"):
        frame = unpacked(card(alt=alt).html())[2][0]
        ids.append(set(re.findall(r' id="([^"]*)"', frame)))
        met = set(re.findall(r'(?:href="|url\()#([^")]+)', frame))
        assert met == ids[-1], "every reference is met, no id is idle"
    assert ids[0]
    assert not ids[0] & ids[1]


def test_pictures():
    page = card(frames="picture").html()
    data, _, frames = unpacked(page)
    assert data["kind"] == "picture"
    assert Image.open(io.BytesIO(base64.b64decode(frames[2]))).width == 441
    assert 'class="dark-light" alt="At t = 0.00' in page


def test_texts_are_escaped():
    made = sweep(draw2, t=[0, 1], pair={'</script><b>"': 1, "b & c": 2}, alt="<i>{pair}</i>")
    page = made.html()
    assert page.count("</script>") == 2
    assert "<b>" not in page
    assert "<i>" not in page
    data, captions, _ = unpacked(page)
    assert data["sliders"][1]["texts"][0] == '</script><b>"'
    assert captions[1] == "<i>b & c</i>"
    assert unescape(re.search(r'aria-valuetext="(pair[^"]*)"', page)[1]) == 'pair: </script><b>"'


# ---------------------------------------------------------------- track and axis


def along(made):
    data, _, _ = unpacked(made.html())
    inset = re.search(r"--geo-left:([\d.]+)%;--geo-right:([\d.]+)%", made.html())
    return float(inset[1]), float(inset[2]), data["sliders"][0]["at"]


def meter(left=0.12, width=0.85, xlim=(0, 1), scale="linear"):
    def draw(t):
        fig = Figure(figsize=(4.2, 3))
        fig.add_axes([0.3, 0.6, 0.3, 0.3])
        ax = fig.add_axes([left, 0.2, width, 0.3])
        ax.set_xscale(scale)
        ax.set_xlim(*xlim)
        return fig

    return draw


def test_the_track_lies_under_the_lowest_axes():
    assert along(sweep(meter(), t=[0, 0.5, 1], alt="x")) == (12, 3, [0, 1, 2])
    assert along(sweep(meter(0.2, 0.5), t=[0, 0.1, 1], alt="x")) == (20, 30, [0, 0.2, 2])
    # stops that end before the axis does
    assert along(sweep(meter(xlim=(0, 1.25)), t=[0, 1], alt="x"))[:2] == (12, 20)
    # on a log axis equal ratios are equal steps
    left, right, at = along(sweep(meter(xlim=(1, 100), scale="log"), t=[1, 10, 100], alt="x"))
    assert (left, right, at) == (12, 3, [0, 1, 2])


@pytest.mark.parametrize(
    "changes",
    [
        {"draw": meter(xlim=(2, 3))},  # the axis shows something else
        {"draw": meter(xlim=(0, 10))},  # the stops are a corner of it
        {"draw": meter(0.4, 0.2)},  # too short for a finger
        {"draw": lambda t: Figure()},  # no axes
        {"t": {"a": 0, "b": 0.5, "c": 1}},  # names have no place on an axis
    ],
)
def test_otherwise_the_track_has_the_usual_insets(changes):
    made = sweep(**{"draw": meter(), "t": [0, 0.1, 1], "alt": "x", **changes})
    assert along(made) == (12, 3, [0, 1, 2])


# ---------------------------------------------------------------- with a kernel


def controls(made):
    made._repr_mimebundle_()
    stage, *rows, caption = made._widget.children
    return stage, rows[1::2], caption


def test_with_a_kernel_every_value_is_drawn_on_demand():
    made = card(labels={"t": "how far along"})
    stage, (slider,), caption = controls(made)
    assert type(slider).__name__ == "FloatSlider"
    assert (slider.min, slider.max, slider.value) == (0, 1, 0)
    assert slider.step <= 0.01
    label = made._widget.children[1]
    assert "<span>t, how far along</span><span>0.00</span>" in label.value
    # the place on the meter's axis, less ipywidgets' own margin
    assert (slider.layout.width, slider.layout.margin) == (
        "calc(85.000% + 12px)",
        "0 0 0 calc(12.000% - 6px)",
    )
    before = stage.value
    slider.value = 0.37
    assert stage.value != before
    assert 'role="img" aria-label="At t = 0.37 the line has begun."' in stage.value
    assert "At t = 0.37" in caption.value
    assert "<span>0.37</span>" in label.value
    assert "currentColor" in stage.value
    assert "Output" not in str(type(stage))


def test_kernel_sliders_fit_their_grids():
    made = sweep(draw2, t=[1, 2, 3], pair={"x": 5, "y": 6}, start={"pair": "y"}, alt="{t} {pair}")
    stage, (numbers, names), _ = controls(made)
    assert type(numbers).__name__ == "IntSlider"
    assert type(names).__name__ == "SelectionSlider"
    names.index = 0
    numbers.value = 2
    assert 'aria-label="2 x"' in stage.value
    logs = controls(card(t=[1e-3, 1e-2, 1e-1, 1]))[1][0]
    assert type(logs).__name__ == "SelectionSlider"
    logs.index = 2
    assert logs.label == "0.100"


def test_an_error_of_draw_is_shown_and_goes_away():
    def fails(t):
        fig = draw(t)
        if t > 0.5:
            raise RuntimeError("too far <b>")
        return fig

    stage, (slider,), caption = controls(sweep(fails, t=[0.0, 1.0], alt="{t:.1f}"))
    slider.value = 0.75
    assert "RuntimeError: too far &lt;b&gt;" in caption.value
    assert 'role="alert"' in caption.value
    assert plt.get_fignums() == []
    slider.value = 0.25
    assert "RuntimeError" not in caption.value
    assert 'aria-label="0.2"' in stage.value


def test_without_ipywidgets_the_picture_remains(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert set(card()._repr_mimebundle_()) == {"image/png", "text/plain"}


# ---------------------------------------------------------------- in a kernel

SETUP = """
from geolessons.widgets import sweep, show
import matplotlib.pyplot as plt

def draw(t):
    fig = plt.figure(figsize=(4.2, 2))
    fig.add_axes([0.12, 0.3, 0.85, 0.6]).set(xlim=(0, 1))
    if t > 0.8:
        raise RuntimeError(f"too far: {t}")
    return fig

card = sweep(draw, t=[0, 0.5, 1], alt="At t = {t:.2f} it stands.")
"""
PLAIN = "plt.plot([1, 2]);"  # what a reader writes
LEFT = "import matplotlib_inline.backend_inline as b; print(len(b.show._to_draw), plt.get_fignums())"


class Kernel:
    """A real one; `run` gives what a cell shows, `move` what changes in the widgets when a slider moves."""

    def __init__(self, client):
        self.client = client

    def run(self, code):
        shown = []
        reply = self.client.execute_interactive(code, timeout=60, output_hook=shown.append)
        contents = [m["content"] for m in shown if m["msg_type"] not in ("status", "execute_input")]
        return reply["content"], contents

    def move(self, slider, value):
        """What the browser sends when a handle is moved, and what the kernel answers."""
        content = {
            "comm_id": slider,
            "data": {"method": "update", "state": {"value": value}, "buffer_paths": []},
        }
        asked = self.client.session.msg("comm_msg", content)
        self.client.shell_channel.send(asked)
        values = []
        while True:
            got = self.client.get_iopub_msg(timeout=30)
            if got["parent_header"].get("msg_id") != asked["header"]["msg_id"]:
                continue
            if got["msg_type"] == "status" and got["content"]["execution_state"] == "idle":
                return values
            state = got["content"].get("data", {}).get("state", {}) if got["msg_type"] == "comm_msg" else {}
            values += [str(state["value"])] if "value" in state else []


@pytest.fixture(scope="module")
def kernel():
    manager = pytest.importorskip("jupyter_client.manager")
    pytest.importorskip("ipykernel")
    # the one variable: pytest's backend is not a notebook's
    env = {
        name: value for name, value in os.environ.items() if name not in ("MPLBACKEND", "GEOLESSONS_PUBLISH")
    }
    started, client = manager.start_new_kernel(kernel_name="python3", env=env)
    try:
        yield Kernel(client)
    finally:
        client.stop_channels()
        started.shutdown_kernel(now=True)


@pytest.mark.filterwarnings("ignore")  # those of zmq and its sockets
def test_in_a_real_kernel(kernel):
    reply, _ = kernel.run(SETUP)
    assert reply["status"] == "ok", reply
    _, shown = kernel.run("card")
    assert set(shown[-1]["data"]) == {WIDGET, "image/png", "text/plain"}

    # A sweep drew the first figure of the session: the reader's own figures show all the same.
    _, shown = kernel.run(PLAIN)
    assert [set(each["data"]) for each in shown] == [{"image/png", "text/plain"}]

    # Any value is drawn on demand, ...
    _, shown = kernel.run("print(card._widget.children[2].model_id)")
    slider = shown[0]["text"].strip()
    values = kernel.move(slider, 0.37)
    assert any('aria-label="At t = 0.37 it stands."' in value and "<svg" in value for value in values)
    # ... what draw raises is seen in place of the sentence, ...
    values = kernel.move(slider, 0.93)
    assert any('role="alert"' in value and "RuntimeError: too far: 0.93" in value for value in values)
    assert not any("<svg" in value for value in values)
    # ... goes away again, ...
    values = kernel.move(slider, 0.12)
    assert any(">At t = 0.12 it stands.<" in value for value in values)
    # ... and no figure waits in the backend for the next cell.
    for i in range(5):
        kernel.move(slider, i / 10)
    _, shown = kernel.run(LEFT)
    assert shown[0]["text"] == "0 []\n"
    _, shown = kernel.run("show(plt.figure(), alt='A blank.')")
    assert [set(each["data"]) for each in shown] == [{"image/png", "text/plain"}], "once, not twice"


# ---------------------------------------------------------------- refusals

REFUSED = {
    "no parameter": (lambda: sweep(draw, alt="x"), TypeError, "one or two parameters; got none"),
    "three": (lambda: sweep(draw, a=[0, 1], b=[0, 1], c=[0, 1], alt="x"), TypeError, "got 3: a, b, c"),
    "empty": (lambda: card(t=[]), ValueError, "grid of t is empty; give at least two"),
    "empty names": (lambda: card(t={}), ValueError, "grid of t is empty"),
    "one stop": (lambda: card(t=[1]), ValueError, "only one stop"),
    "text grid": (lambda: card(t="012"), TypeError, "t must be a grid of numbers.*got str"),
    "number": (lambda: card(t=3), TypeError, "t must be a grid of numbers.*got int"),
    "strings": (lambda: card(t=["a", "b"]), TypeError, r"t\[0\] is 'a', not a number.*give names"),
    "bools": (lambda: card(t=[False, True]), TypeError, r"t\[0\] is False"),
    "matrix": (lambda: card(t=np.zeros((2, 2))), TypeError, r"t\[0\] is \[0.0, 0.0\]"),
    "nan": (lambda: card(t=[0, float("nan")]), ValueError, r"t\[1\] is nan; stops are finite"),
    "inf": (lambda: card(t=[0, float("inf")]), ValueError, r"t\[1\] is inf"),
    "twice": (lambda: card(t=[0, 1, 1]), ValueError, "stop 1 twice, at 1 and 2"),
    "down": (lambda: card(t=[0, 2, 1]), ValueError, "goes down from 2 to 1.*Sort"),
    "no alt": (lambda: sweep(draw, t=[0, 1]), TypeError, "alt is missing.*cannot see.*{t}"),
    "blank alt": (lambda: card(alt="  "), TypeError, "alt is missing"),
    "unknown field": (
        lambda: card(alt="{t} {n:.2f}"),
        ValueError,
        r"alt names {n}, but the parameters are t\.",
    ),
    "positional field": (lambda: card(alt="at {}"), ValueError, "alt names {}"),
    "broken template": (lambda: card(alt="at {t"), ValueError, "alt is not a template"),
    "wrong format": (lambda: card(alt="{t:d}", t=[0.5, 1]), ValueError, "filled in for t = 0.5"),
    "format of a name": (
        lambda: card(alt="{t:.2f}", t={"a": "u", "b": "v"}),
        ValueError,
        "filled in for t = a",
    ),
    "alt's names": (lambda: card(alt=lambda s: "x"), TypeError, r"alt is called as alt\(t=…\)"),
    "alt's answer": (lambda: card(alt=lambda t: None), TypeError, "alt must return a sentence; for t = 0.00"),
    "draw's names": (
        lambda: sweep(lambda s: None, t=[0, 1], alt="x"),
        TypeError,
        r"draw is called as draw\(t=…\)",
    ),
    "draw called": (lambda: sweep(None, t=[0, 1], alt="x"), TypeError, "draw must be a function.*NoneType"),
    "start": (lambda: card(start={"t": 0.3}), ValueError, r"start\['t'\] is 0.3.*0.00, 0.25"),
    "start's index": (lambda: card(start={"t": 9}), ValueError, r"start\['t'\] is 9"),
    "start's name": (lambda: card(start={"u": 0}), ValueError, "start names 'u'"),
    "label's name": (lambda: card(labels={"u": "x"}), ValueError, "labels names 'u'"),
    "frames": (lambda: card(frames="video"), ValueError, "frames is 'video'"),
    "still alt": (lambda: show(Figure()), TypeError, "alt is missing"),
    "still alt function": (lambda: show(Figure(), alt=lambda: "x"), TypeError, "not a function"),
    "still fig": (lambda: show(None, alt="x"), TypeError, "fig must be a matplotlib figure; got NoneType"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_argument_and_say_what_would_be_right(case):
    make, kind, message = REFUSED[case]
    with pytest.raises(kind, match=re.compile(message, re.DOTALL)):
        make()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda: None, "got NoneType. End it with `return fig`"),
        (plt.subplots, "got tuple. .*fig alone"),
        (lambda: plt.subplots()[1], "got Axes. .*ax.figure"),
        (lambda: 3, "got int. Make one"),
    ],
)
def test_draw_that_returns_no_figure(answer, message):
    made = sweep(lambda t: answer(), t=[0, 1], alt="x")
    for use in (made.html, made.frame, made._repr_mimebundle_):
        with pytest.raises(TypeError, match=f"What draw returns must be a matplotlib figure; {message}"):
            use()
        assert plt.get_fignums() == []


# ---------------------------------------------------------------- nothing is left behind


def test_nothing_leaks_over_200_frames():
    alive = []

    def counted(t):
        fig = draw(t)
        alive.append(weakref.ref(fig))
        assert len(plt.get_fignums()) == 1
        return fig

    sweep(counted, t=range(200), alt="x").html()
    gc.collect()
    assert len(alive) == 200
    assert sum(ref() is not None for ref in alive) == 0


def test_an_exception_half_way_leaves_no_figure_and_the_readers_figures_stay():
    mine = plt.figure()

    def fails(t):
        draw(t)
        fig = draw(t)
        if t == 2:
            raise RuntimeError("half-way")
        return fig

    with pytest.raises(RuntimeError, match="half-way"):
        sweep(fails, t=range(4), alt="x").html()
    assert plt.get_fignums() == [mine.number]
    plt.close(mine)


def test_settings_stay_as_they_were(publish):
    def rude(t):
        plt.rcParams["font.size"] = 30
        return draw(t)

    with mpl.rc_context({"savefig.bbox": "tight", "font.size": 7}):
        before = dict(mpl.rcParams)
        bundle = sweep(rude, t=[0, 1], alt="x")._repr_mimebundle_()
        assert dict(mpl.rcParams) == before
    assert 'viewBox="0 0 302.4 144"' in bundle["text/html"], "the figure is not cut to its ink"


def test_progress_leaves_nothing_in_a_notebook(capfd):
    card().html()
    assert capfd.readouterr() == ("", "")


def test_importing_is_light():
    heavy = ("matplotlib", "ipywidgets", "PIL")
    code = f"import sys, geolessons.widgets; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------- stills and pages


def test_stills(monkeypatch):
    still = show(draw(0.5), alt="A line, half-way & still.")
    assert isinstance(still, Still)
    live = still._repr_mimebundle_()
    monkeypatch.setenv("GEOLESSONS_PUBLISH", "1")
    page = still._repr_mimebundle_()
    assert set(live) == {"image/png", "text/plain"}
    assert live["text/plain"] == page["text/plain"] == "figure: A line, half-way & still."
    assert '<figure class="geo-sweep geo-still"' in page["text/html"]
    assert 'role="img" aria-label="A line, half-way &amp; still."' in page["text/html"]
    for absent in ("<figcaption", "<script", "<input"):
        assert absent not in page["text/html"]
    assert "max-width:420px" in page["text/html"]


def test_captions_of_stills():
    assert '<span class="geo-caption">seen</span>' in show(draw(0), alt="seen", caption=True).html()
    assert '<span class="geo-caption">said</span>' in show(draw(0), alt="seen", caption="said").html()
    assert 'src="data:image/png;base64,' in show(draw(0), alt="seen", frames="picture").html()


def test_a_page_is_written_in_one_step(tmp_path, monkeypatch):
    target = tmp_path / "card.html"
    target.write_text("old")
    assert card().save(target) == target
    text = target.read_text()
    assert text.startswith("<!doctype html>")
    assert not re.search(r'(?:src|href)="(?:http|//)', text), "self-contained"
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        card().save(target)
    assert target.read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["card.html"]


def test_the_ink_is_that_of_the_plots():
    plots = pytest.importorskip("geolessons.plots")
    assert getattr(plots, "INK", INK) == INK


def test_public_names():
    assert isinstance(card(), Sweep)

"""Frames: a figure as vectors that follow the theme, as a small picture, and many of them in little room."""

from __future__ import annotations

import base64
import io
import json
import re
import xml.etree.ElementTree as ET
import zlib

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from geolessons import plots
from geolessons.frames import INK, as_html, as_png, as_text, check_kind, closed, drawing, own_ids, pack

HUES = (plots.START, plots.ADAPTED, plots.ROAD, plots.PUSH, plots.NOISE, plots.CONTROL)


def draw(t=0.75):
    with drawing():
        fig = Figure(figsize=(4.2, 2))
        ax = fig.add_axes([0.12, 0.3, 0.85, 0.6])
        ax.set_xlim(0, 1)
        ax.set_ylim(0, 1)
        ax.plot([0, t], [0, t], color="#116afd")
        ax.axvline(0.5, color=INK, alpha=0.375)
        ax.set_title(f"t = {t:.2f}")
    return fig


# ---------------------------------------------------------------- drawings


def test_a_drawing_is_bare_and_follows_the_theme():
    frame = as_text(draw(), "drawing")
    assert frame == as_text(draw(), "drawing")
    assert frame.startswith("<svg ")
    assert ET.fromstring(frame).attrib["viewBox"] == "0 0 302.4 144"
    assert "currentColor" in frame
    assert "#116afd" in frame
    for leftover in (INK, "#ffffff", "<style", "<metadata", "<!--", "<?xml", "font-family", 'width="302'):
        assert leftover not in frame, leftover


def test_rounding_moves_nothing_by_more_than_half_a_tenth_and_spares_scales():
    fig, raw = draw(), io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "path"}):
        fig.savefig(raw, format="svg", transparent=True)
    text, frame = raw.getvalue().decode(), as_text(fig, "drawing")

    def line(svg):
        return [float(x) for x in re.findall(r"-?[\d.]+", re.search(r'd="([^"]*)"[^>]*#116afd', svg)[1])]

    assert line(frame) == pytest.approx(line(text), abs=0.0501)
    assert all(abs(x * 10 - round(x * 10)) < 1e-6 for x in line(frame))
    assert "opacity: 0.375" in frame
    assert "scale(0.015625)" in frame
    glyph = r'<path id="[^"]*DejaVuSans-13" d="([^"]*)"'
    assert re.search(glyph, frame)[1].split() == re.search(glyph, text)[1].split()


def test_plain_matplotlib_black_and_default_text_are_ink():
    with drawing():
        fig, ax = plt.subplots()
        ax.plot([0, 1], "k")
        ax.set_title("words")
        frame = as_text(closed(fig, "fig"), "drawing")
    assert "#000000" not in frame
    assert "stroke: currentColor" in frame


def test_pictures_inside_a_drawing_stay_as_they_are():
    fig = Figure(figsize=(2, 2))
    fig.add_axes([0, 0, 1, 1]).imshow(np.random.default_rng(0).random((8, 8)), interpolation="none")
    raw = io.BytesIO()
    with mpl.rc_context({"svg.image_inline": True}):
        fig.savefig(raw, format="svg", dpi=120)
    png = r"data:image/png;base64,([A-Za-z0-9+/=\s]+)"
    one, other = (re.search(png, svg)[1] for svg in (as_text(fig, "drawing"), raw.getvalue().decode()))
    assert base64.b64decode(one) == base64.b64decode(other)


def test_ids_are_a_figures_own_and_every_reference_is_met():
    frame = as_text(draw(), "drawing")
    frames = [own_ids(frame, seed) for seed in ("one", "two", "one")]
    ids = [set(re.findall(r' id="([^"]*)"', each)) for each in frames]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert frames[0] == frames[2]
    for each, own in zip(frames, ids, strict=True):
        assert set(re.findall(r'(?:href="|url\()#([^")]+)', each)) == own
    assert own_ids("iVBORw0KGgo", "one") == "iVBORw0KGgo", "a picture has no ids"


def test_a_frame_takes_its_sentence_as_its_name():
    assert 'role="img" aria-label="a &lt;b&gt; &quot;c&quot;"' in as_html(
        as_text(draw(), "drawing"), 'a <b> "c"'
    )
    said = as_html(as_text(draw(), "picture"), "a <b>")
    assert said.startswith('<img class="dark-light" alt="a &lt;b&gt;" src="data:image/png;base64,iVBOR')


# ---------------------------------------------------------------- pictures


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_pictures_are_palette_png_on_white():
    png = base64.b64decode(as_text(draw(), "picture"))
    assert Image.open(io.BytesIO(png)).mode == "P"
    assert pixels(png).shape[1] == 441
    assert tuple(pixels(png)[1, 1]) == (255, 255, 255)


def test_the_palette_keeps_every_colour_of_a_drawing():
    fig, full = draw(), io.BytesIO()
    for i, colour in enumerate(HUES):
        fig.axes[0].plot([0, 1], [0, i / 5], color=colour)
        fig.axes[0].plot(0.9, i / 5, "o", color=colour, ms=2)
    fig.savefig(full, dpi=120, facecolor="white")
    assert np.abs(pixels(as_png(fig, 120)) - pixels(full.getvalue())).max() <= 12


@pytest.mark.parametrize("kind", ["drawing", "picture"])
def test_a_figure_is_not_cut_to_its_ink(kind):
    whole = as_text(draw(), kind)
    with mpl.rc_context({"savefig.bbox": "tight"}):
        assert as_text(draw(), kind) == whole


def test_kinds():
    for kind in ("drawing", "picture"):
        check_kind(kind)
    with pytest.raises(ValueError, match="frames is 'video'; choose"):
        check_kind("video")


# ---------------------------------------------------------------- packing


def test_packing_loses_nothing():
    frames = [own_ids(as_text(draw(t), "drawing"), "seed") for t in (0, 0.5, 1)] + ["", "iVBOR+/="]
    captions = ["eins", "zwei", "„drei“", "", "<b>"]
    packed = json.loads(zlib.decompress(base64.b64decode(pack(captions, frames)), -15))
    assert packed["captions"] == captions
    assert ["".join(packed["parts"][i] for i in row) for row in packed["frames"]] == frames


def test_twenty_more_frames_cost_less_than_one_in_plain_text():
    frames = [as_text(draw(t), "drawing") for t in np.linspace(0, 1, 22)]
    few, many = (len(pack(["x"] * n, frames[:n])) for n in (2, 22))
    assert many - few < len(frames[0])


# ---------------------------------------------------------------- nothing is left behind


def test_a_drawing_leaves_settings_and_the_readers_figures_alone():
    mine = plt.figure()
    before = dict(mpl.rcParams)

    def fail():
        plt.rcParams["font.size"] = 30
        plt.ion()
        plt.figure()
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"), drawing():
        fail()
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == [mine.number]
    plt.close(mine)


def test_no_window_opens_while_drawing():
    with mpl.rc_context({"interactive": True}):
        with drawing():
            assert not mpl.is_interactive()
        assert mpl.is_interactive()

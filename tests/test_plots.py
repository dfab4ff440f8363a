"""The visual language: colours that can be told apart and read on both pages, and drawings that fit."""

from __future__ import annotations

import math
from itertools import combinations

import matplotlib as mpl
import numpy as np
import pytest
from drawn import meet, texts
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb

from geolessons import frames, plots
from geolessons.plots import Mark, card, label, panel, ruler, styled

HUES = {name: getattr(plots, name) for name in ("START", "ADAPTED", "ROAD", "PUSH", "NOISE", "CONTROL")}
PAGES = {"light": "#ffffff", "dark": "#14181e"}

# ---------------------------------------------------------------- colours


def linear(colour):
    """Linear light of an sRGB colour (IEC 61966-2-1)."""
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    """The ratio of WCAG 2.2, 1 to 21."""
    light = sorted(0.05 + float(linear(each) @ (0.2126, 0.7152, 0.0722)) for each in (one, other))
    return light[1] / light[0]


def lab(rgb):
    """CIELAB (D65) of linear light."""
    to_xyz = [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
    x, y, z = (
        v ** (1 / 3) if v > (6 / 29) ** 3 else v / (3 * (6 / 29) ** 2) + 4 / 29
        for v in np.array(to_xyz) @ rgb / (0.95047, 1.0, 1.08883)
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def distance(one, other):
    """CIEDE2000 of two CIELAB colours (Sharma, Wu and Dalal 2005)."""
    (l1, a1, b1), (l2, a2, b2) = one, other
    mean = ((math.hypot(a1, b1) + math.hypot(a2, b2)) / 2) ** 7
    grey = 0.5 * (1 - math.sqrt(mean / (mean + 25**7)))
    a1, a2 = a1 * (1 + grey), a2 * (1 + grey)
    c1, c2 = math.hypot(a1, b1), math.hypot(a2, b2)
    h1, h2 = (math.degrees(math.atan2(b, a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = (h2 - h1 + 180) % 360 - 180 if c1 * c2 else 0.0
    dl, dc, dh = l2 - l1, c2 - c1, 2 * math.sqrt(c1 * c2) * math.sin(math.radians(turn / 2))
    lm, cm, hm = (l1 + l2) / 2, (c1 + c2) / 2, (h1 + turn / 2) % 360 if c1 * c2 else h1 + h2
    cos = (math.cos(math.radians(k * hm - p)) for k, p in ((1, 30), (2, 0), (3, -6), (4, 63)))
    t = 1 + sum(w * c for w, c in zip((-0.17, 0.24, 0.32, -0.20), cos, strict=True))
    sl = 1 + 0.015 * (lm - 50) ** 2 / math.sqrt(20 + (lm - 50) ** 2)
    sc, sh = 1 + 0.045 * cm, 1 + 0.015 * cm * t
    bend = (
        2
        * math.sqrt(cm**7 / (cm**7 + 25**7))
        * math.sin(math.radians(60 * math.exp(-(((hm - 275) / 25) ** 2))))
    )
    light, chroma, hue = dl / sl, dc / sc, dh / sh
    return math.sqrt(light**2 + chroma**2 + hue**2 - bend * chroma * hue)


# Linear light as people without one kind of cone see it (Machado, Oliveira and Fernandes 2009, severity 1).
SIGHT = {
    "usual": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [  # from the test data of Sharma, Wu and Dalal
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 0, 0), (50, -1, 2), 2.3669),
        ((50, 2.5, 0), (50, 0, -2.5), 4.3065),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_the_distance_of_these_tests_is_ciede2000(one, other, expected):
    assert distance(one, other) == pytest.approx(expected, abs=1e-4)
    assert distance(other, one) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("name", HUES)
def test_every_hue_is_seen_on_both_pages(name, page):
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast(HUES[name], PAGES[page]) >= 3


@pytest.mark.parametrize(
    ("sight", "least"), [("usual", 20), ("protanopia", 12), ("deuteranopia", 12), ("tritanopia", 12)]
)
def test_any_two_hues_can_be_told_apart(sight, least):
    seen = {name: lab(np.clip(np.array(SIGHT[sight]) @ linear(hue), 0, 1)) for name, hue in HUES.items()}
    for one, other in combinations(seen, 2):
        assert distance(seen[one], seen[other]) >= least, f"{one} and {other}"


def test_the_ink_is_that_of_the_frames():
    assert plots.INK == frames.INK
    assert plots.INK not in HUES.values()


# ---------------------------------------------------------------- the style


def test_styled_leaves_the_settings_untouched():
    before = dict(mpl.rcParams)

    @styled
    def draw(fail):
        """Say what."""
        seen = mpl.rcParams["font.size"], mpl.rcParams["text.color"]
        mpl.rcParams["lines.linewidth"] = 30
        if fail:
            raise RuntimeError("half-way")
        return seen

    assert draw(False) == (10, plots.INK)
    with pytest.raises(RuntimeError, match="half-way"):
        draw(True)
    assert dict(mpl.rcParams) == before
    assert (draw.__name__, draw.__doc__) == ("draw", "Say what.")
    for figure in (card, panel, lambda: ruler([Mark(1.0, "one")])):
        figure()
        assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("height", "share", "title"), [(4.4, 0.52, True), (3.4, 0.4, False), (4.9, 0.36, True)]
)
def test_a_cards_two_floors_have_the_sliders_insets(height, share, title):
    fig, above, below = card(height=height, share=share, title=title)
    assert tuple(fig.get_size_inches()) == (4.2, height)
    for ax in (above, below):
        box = ax.get_position()
        assert (box.x0, box.x1) == pytest.approx((0.12, 0.97), abs=1e-12)
        assert 0 <= box.y0 < box.y1 <= 1
    assert below.get_position().y1 < above.get_position().y0
    assert not above.axison
    assert below.axison
    assert tuple(panel()[1].get_position().intervalx) == pytest.approx((0.12, 0.97))


# ---------------------------------------------------------------- texts


CROWDS = {
    "one": [1.0],
    "the ends": [6e-8, math.pi],
    "close at the top": [3.14, 3.1, 3.0, 2.9, 2.8],
    "close at the bottom": [6e-8, 6.1e-8, 7e-8, 8e-8],
    "equal": [0.5] * 6,
    "many": list(np.geomspace(6e-8, math.pi, 24)),
}


@pytest.mark.parametrize("height", [5.2, 6.4])
@pytest.mark.parametrize("crowd", CROWDS)
def test_labels_of_the_ruler_do_not_overlap_and_none_is_cut(crowd, height):
    fig = ruler(
        [Mark(angle, f"mark {i}", i % 2 == 0) for i, angle in enumerate(CROWDS[crowd])], height=height
    )
    seen = texts(fig)
    assert len([text for text, _ in seen if "mark" in text.get_text()]) == len(CROWDS[crowd])
    for text, box in seen:
        assert -1 <= box.x0 < box.x1 <= fig.bbox.width + 1, text.get_text()
        assert -1 <= box.y0 < box.y1 <= fig.bbox.height + 1, text.get_text()
    for (one, box), (other, box2) in combinations(seen, 2):
        assert not meet(box, box2), (one.get_text(), other.get_text())


def test_the_ruler_keeps_the_order_and_puts_marks_at_their_angle():
    fig = ruler([Mark(1e-3, "second"), Mark(1.0, "third"), Mark(1e-6, "first", True)])
    (ax,) = fig.axes
    assert [text.get_text().split()[-1] for text in ax.texts] == ["first", "second", "third"]
    for line, angle in zip(ax.lines, (1e-6, 1e-3, 1.0), strict=True):
        place = ax.transData.inverted().transform(ax.transAxes.transform((0, line.get_ydata()[0])))
        assert place[1] == pytest.approx(angle)
    assert [line.get_color() for line in ax.lines] == [plots.ROAD, plots.INK, plots.INK]
    assert [text.get_text().split()[0] for text in ax.texts] == ["1.0·10⁻⁶", "1.0·10⁻³", "1"]


@pytest.mark.parametrize("angle", [0, -1, math.nextafter(math.pi, 4), math.inf, math.nan])
def test_the_ruler_refuses_what_is_no_angle(angle):
    with pytest.raises(ValueError, match=r"'wrong' is at .*; an angle on the ruler is in \(0, π\]"):
        ruler([Mark(1.0, "right"), Mark(angle, "wrong")])


def test_a_label_is_ink_with_a_stroke_of_the_lines_colour():
    _, ax = panel()
    label(ax, 0.5, 0.5, "the road", plots.ROAD, to=(-8, 3))
    (text,) = ax.texts
    assert (text.get_color(), text.get_size(), text.get_ha()) == (plots.INK, 9, "right")
    assert mpl.colors.to_hex(text.arrow_patch.get_edgecolor()) == plots.ROAD

"""The visual language of the book: one meaning a colour, ink for the rest, no boxes.

Figures are drawn with `INK`, which the published page turns into its own text colour; all other
colours have at least 3:1 contrast on white and on the dark page.  Colour never carries a meaning alone:
marks and line styles repeat it.  Decorate a drawing function with `@styled`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from geolessons.frames import INK

__all__ = [
    "ADAPTED",
    "CONTROL",
    "INK",
    "NOISE",
    "PUSH",
    "ROAD",
    "START",
    "Mark",
    "card",
    "label",
    "panel",
    "ruler",
    "styled",
]

START = "#67687d"  # W0, the old task: open circle, dotted line
ADAPTED = "#e97034"  # adapted weights, the new task: filled circle, solid line
ROAD = "#116afd"  # a path and its t: arc solid, straight line dashed
PUSH = "#008e6e"  # velocity, gradient: arrow
NOISE = "#c07cb1"  # noise: dots, dash-dot line
CONTROL = "#8f5b07"  # the control arm: square, long dashes

STRAIGHT = (0, (4, 2.5))  # dash pattern of a straight road
WIDTH = 4.2  # inches; the axes span 12 % to 97 % of it, as the slider below does
LEFT, SPAN = 0.12, 0.85

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "lines.linewidth": 2.0,
    "lines.markersize": 7,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "patch.edgecolor": INK,
    "figure.dpi": 100,
    "axes.titlepad": 6,
}

Draw = TypeVar("Draw", bound=Callable[..., Any])


def styled(draw: Draw) -> Draw:
    """Run a drawing function under the book's style; the global style is left as it was."""
    return mpl.rc_context(STYLE)(draw)


@styled
def card(*, height: float = 4.4, share: float = 0.52, title: bool = True) -> tuple[Figure, Axes, Axes]:
    """A card of two floors: the map above, the meter below, both 12 % to 97 % of the width.

    Args:
        height: Inches.
        share: Of the height that belongs to the map.
        title: Leave room for a title above the map.

    Returns:
        The figure, the map's axes (frame and ticks off), the meter's axes.
    """
    fig = Figure(figsize=(WIDTH, height))
    bottom, gap = 0.44 / height, 0.36 / height
    above = fig.add_axes((LEFT, 1 - share, SPAN, share - (0.26 / height if title else 0)))
    below = fig.add_axes((LEFT, bottom, SPAN, 1 - share - bottom - gap))
    above.set_axis_off()
    return fig, above, below


@styled
def panel(*, height: float = 2.8, left: float = LEFT) -> tuple[Figure, Axes]:
    """A still figure of one panel, as wide as a card."""
    fig = Figure(figsize=(WIDTH, height))
    ax = fig.add_axes((left, 0.46 / height, LEFT + SPAN - left, 1 - 0.76 / height))
    return fig, ax


def label(
    ax: Axes, x: float, y: float, text: str, colour: str, *, to: tuple[float, float] = (8, 0), **style: Any
) -> None:
    """Name a line beside it: ink text, with a short stroke of the line's colour.

    Args:
        ax: Where the line is.
        x: Point of the line, data coordinates.
        y: Point of the line, data coordinates.
        text: Two or three words.
        colour: Of the stroke.
        to: Where the text stands from there, in points.
        **style: Passed on to `Axes.annotate`.
    """
    stroke = {"arrowstyle": "-", "color": colour, "lw": 2, "shrinkA": 2, "shrinkB": 3}
    sides = {"ha": "left" if to[0] >= 0 else "right", "va": "center", "size": 9, "color": INK}
    ax.annotate(text, (x, y), xytext=to, textcoords="offset points", arrowprops=stroke, **{**sides, **style})


def ghost(ax: Axes, xs: Sequence[float], ys: Sequence[float], letter: str) -> None:
    """A candidate answer: a thin line of faint ink with its letter at the right end."""
    ax.plot(xs, ys, color=INK, lw=0.8, alpha=0.28)
    ax.annotate(
        letter, (xs[-1], ys[-1]), xytext=(-3, 4), textcoords="offset points", size=9, ha="right", alpha=0.6
    )


class Mark(NamedTuple):
    """A named angle (radians) on the ruler; `new` marks are drawn in colour."""

    angle: float
    text: str
    new: bool = False


@styled
def ruler(marks: Sequence[Mark], *, height: float = 5.2) -> Figure:
    """The ruler: named angles on one logarithmic axis from 10⁻⁷ to π.

    Args:
        marks: Angles in (0, π]; labels that would touch are moved apart.
        height: Inches.

    Raises:
        ValueError: If an angle is not in (0, π].
    """
    for mark in marks:
        if not 0 < mark.angle <= math.pi:
            raise ValueError(f"marks: {mark.text!r} is at {mark.angle}; an angle on the ruler is in (0, π]")
    fig = Figure(figsize=(WIDTH, height))
    tall = height - 0.5  # inches of the axis; what is left is for its title and the lowest label
    ax = fig.add_axes((0.13, 0.14 / height, 0.04, tall / height))
    ax.set(yscale="log", ylim=(3e-8, 4.2), xlim=(0, 1), xticks=[])
    ax.set_yticks([10.0**-k for k in range(7, -1, -1)])
    ax.set_yticklabels([_power(-k) for k in range(7, -1, -1)])
    ax.minorticks_off()
    ax.spines["bottom"].set_visible(False)
    ax.set_title("angle (rad)", fontweight="normal", fontsize=9, pad=8)
    ordered = sorted(marks)
    bottom, top = (math.log(y) for y in ax.get_ylim())
    starts = [(math.log(mark.angle) - bottom) / (top - bottom) for mark in ordered]
    for mark, start, y in zip(ordered, starts, _apart(starts, 0.17 / tall), strict=True):
        style: Any = {"color": ROAD, "lw": 2.0} if mark.new else {"color": INK, "lw": 0.8, "alpha": 0.6}
        ax.plot([0, 1, 2.2, 2.8], [start, start, y, y], clip_on=False, transform=ax.transAxes, **style)
        words = f"{_short(mark.angle)}  {mark.text}"
        ax.text(3.1, y, words, size=9, va="center", alpha=1.0 if mark.new else 0.7, transform=ax.transAxes)
    return fig


def _apart(heights: list[float], least: float) -> list[float]:
    """Heights in rising order, moved so that neighbours are `least` apart and none leaves [0, 1]."""
    placed: list[float] = []
    for y in heights:
        placed.append(max(y, placed[-1] + least) if placed else y)
    top = 1.0
    for i in range(len(placed) - 1, -1, -1):
        placed[i] = min(placed[i], top)
        top = placed[i] - least
    return placed


def _short(angle: float) -> str:
    if angle >= 0.01:
        return f"{angle:.2g}"
    power = math.floor(math.log10(angle))
    return f"{angle / 10.0**power:.1f}·{_power(power)}"


def _power(power: int) -> str:
    raised = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return "1" if power == 0 else f"10{raised}"

"""Card C1.1: the arc and the chord between two points of a sphere, and the length of the weights."""

import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from geolessons import plots

TILT = math.radians(32)  # of the plane of the two roads, towards the reader
STOPS = {
    "2°, just above mergekit's threshold": 2,
    "12°, a gentle fine-tune": 12,
    "44°, our LoRA": 44,
    "60°, two seeds, neurons matched": 60,
    "90°, two seeds": 90,
    "120°, wide": 120,
    "150°, wider": 150,
}


def chord_length(t: float, angle: float) -> float:
    """‖(1−t)u + tv‖ for unit vectors u, v at `angle` degrees."""
    return math.sqrt(1 - 2 * t * (1 - t) * (1 - math.cos(math.radians(angle))))


def alt(t: float, angle: float) -> str:
    """The caption of a frame."""
    return (
        f"Angle {angle}°, t = {t:.2f}: the straight road is at length {_digits(chord_length(t, angle))}, "
        "the round one at 1."
    )


@plots.styled
def draw(t: float, angle: float) -> Figure:
    """One frame; angle in degrees."""
    fig, above, meter = plots.card(height=4.6, share=0.56)
    _sphere(above, t, math.radians(angle))
    _meter(meter, t, angle)
    return fig


def _seen(phi):
    """The point at angle phi on the unit circle of the tilted plane, as the reader sees it."""
    return np.cos(phi), np.sin(phi) * math.cos(TILT)


def _sphere(ax, t: float, omega: float) -> None:
    ax.set(xlim=(-1.62, 1.62), ylim=(-1.12, 1.12), aspect="equal")
    ax.add_patch(Circle((0, 0), 1, fill=False, lw=0.8, alpha=0.7))
    turn = np.linspace(0, np.pi, 60)
    ax.plot(*_seen(turn), color=plots.INK, lw=0.6, alpha=0.4)
    ax.plot(*_seen(-turn), color=plots.INK, lw=0.6, alpha=0.4, ls=(0, (1, 2)))
    equator = np.linspace(np.pi, 2 * np.pi, 60)
    ax.plot(np.cos(equator), 0.35 * np.sin(equator), color=plots.INK, lw=0.6, alpha=0.25)
    ax.plot(0, 0, "+", color=plots.INK, ms=8, mew=1)
    ax.text(0.06, -0.1, "0", size=9, va="top")

    first, last = np.pi / 2 + omega / 2, np.pi / 2 - omega / 2
    (x0, y0), (x1, y1) = _seen(first), _seen(last)
    for x, y in ((x0, y0), (x1, y1)):
        ax.plot([0, x], [0, y], color=plots.INK, lw=0.6, alpha=0.4)
    ax.plot(*_seen(np.linspace(first, last, 60)), color=plots.ROAD)
    ax.plot([x0, x1], [y0, y1], color=plots.ROAD, ls=plots.STRAIGHT)
    on_arc = _seen(first + t * (last - first))
    on_chord = ((1 - t) * x0 + t * x1, (1 - t) * y0 + t * y1)
    ax.plot(*zip(on_arc, on_chord, strict=True), color=plots.INK, lw=0.8)
    ax.plot(x0, y0, "o", mfc="none", mec=plots.START, mew=2)
    ax.plot(x1, y1, "o", color=plots.ADAPTED)
    ax.plot(*on_arc, "o", color=plots.ROAD, ms=5, zorder=5)
    ax.plot(*on_chord, "o", color=plots.ROAD, ms=5, zorder=5)
    ax.annotate("W₀", (x0, y0), xytext=(-9, 4), textcoords="offset points", ha="right")
    ax.annotate("W₁", (x1, y1), xytext=(9, 4), textcoords="offset points")
    ax.set_title("two roads on a sphere of weights", x=0)


def _meter(ax, t: float, angle: float) -> None:
    ts = np.linspace(0, 1, 61)
    if angle == 90:
        for letter, low in (("A", 0.50), ("B", 0.71), ("C", 0.98)):
            ax.plot(ts, 1 - 4 * (1 - low) * ts * (1 - ts), color=plots.INK, lw=0.8, alpha=0.28)
            ax.text(0.62, 1 - 0.9424 * (1 - low) - 0.035, letter, size=9, alpha=0.6, ha="center", va="top")
    walked = np.append(ts[ts < t - 1e-9], t)
    ax.plot(walked, np.ones_like(walked), color=plots.ROAD)
    ax.plot(walked, [chord_length(s, angle) for s in walked], color=plots.ROAD, ls=plots.STRAIGHT)
    ax.axvline(t, color=plots.INK, lw=0.6, alpha=0.4)
    for value in (1.0, chord_length(t, angle)):
        ax.plot([t], [value], "o", color=plots.ROAD, ms=5, clip_on=False, zorder=5)
    ax.set(xlim=(0, 1), ylim=(0, 1.1), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    ax.set_xticklabels(["0", "0.5", "1"])
    ax.set_title("length of the weights on the way")
    ax.set_xlabel("t, how far along")


def _digits(length: float) -> str:
    """Two digits, or as many as show that the length is not 1."""
    return f"{length:.2f}" if length < 0.99 or length == 1 else f"{length:.4f}"

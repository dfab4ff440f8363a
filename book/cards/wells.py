"""Card C3.1: a narrow deep valley and a wide shallow one, and what averaging over nudges makes of them."""

import functools
import math

import numpy as np
import torch
from matplotlib.figure import Figure

from geolessons import plots

WELLS = {"narrow": (-0.8, 1.0, 0.15), "wide": (0.8, 0.8, 0.6)}  # centre, depth, width
SIGMAS = [i / 20 for i in range(13)]
STOPS = {"in the narrow valley": 0.0, "on its slope": 0.25, "half-way": 0.5, "on the far slope": 0.75}
STOPS |= {"in the wide valley": 1.0}
NUDGES = 60
SIDE = 0.0  # left of it is the narrow valley, right of it the wide one


def land(x: np.ndarray, sigma: float = 0.0) -> np.ndarray:
    """The land, or its average over normal nudges of size σ: wells stay Gaussian, widths add in squares."""
    total = np.zeros_like(np.asarray(x, float))
    for centre, depth, width in WELLS.values():
        wider = math.hypot(width, sigma)
        total -= depth * width / wider * np.exp(-0.5 * ((x - centre) / wider) ** 2)
    return total


@functools.cache
def lowest(sigma: float) -> dict[str, tuple[float, float]]:
    """Place and height of the lowest point of each valley that the average still has, to a thousandth."""
    found = {}
    for name, (low, high) in {"narrow": (-2.0, SIDE), "wide": (SIDE, 2.6)}.items():
        xs = np.linspace(low, high, 2601)
        heights = land(xs, sigma)
        inner = heights[1:-1]
        (bottoms,) = np.nonzero((inner < heights[:-2]) & (inner <= heights[2:]))
        if len(bottoms):
            found[name] = float(xs[bottoms[0] + 1]), float(inner[bottoms[0]])
    return found


def winner(sigma: float) -> str:
    """The valley that holds the lowest point."""
    found = lowest(sigma)
    return min(found, key=lambda name: found[name][1])


@functools.cache
def normals() -> np.ndarray:
    """Sixty draws from a normal distribution, used at every stop."""
    return torch.randn(NUDGES, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()


def point(t: float) -> float:
    """Where the point stands: in the narrow valley at t = 0, in the wide one at t = 1."""
    (start, *_), (end, *_) = WELLS.values()
    return start + t * (end - start)


def nudged(sigma: float, t: float) -> tuple[np.ndarray, float, float]:
    """The nudged copies, the mean of their heights and its standard error."""
    places = point(t) + sigma * normals()
    heights = land(places)
    return places, float(heights.mean()), float(heights.std(ddof=1) / math.sqrt(NUDGES))


def alt(sigma: float, t: float) -> str:
    """The caption of a frame."""
    name = winner(sigma)
    where, height = lowest(sigma)[name]
    _, mean, error = nudged(sigma, t)
    return (
        f"Noise {sigma:.2f}: the average is lowest in the {name} valley, {height:.2f} at x = {where:.2f}. "
        f"Sixty nudged copies of the point at t = {t:.2f} average {mean:.2f} ± {error:.2f}."
    )


@plots.styled
def draw(sigma: float, t: float) -> Figure:
    """One frame."""
    fig, above, meter = plots.card(height=4.5, share=0.58)
    xs = np.linspace(-2.1, 2.7, 241)
    above.fill_between(xs, land(xs), -1.15, color=plots.INK, alpha=0.12, lw=0)
    above.plot(xs, land(xs), color=plots.INK, lw=1)
    places, mean, _ = nudged(sigma, t)
    if sigma:
        above.plot(xs, land(xs, sigma), color=plots.NOISE, ls="-.")
        above.plot(places, land(places), "o", color=plots.NOISE, ms=4, mew=0, zorder=4)
    x = point(t)
    above.plot([x, x], [float(land(np.array(x))), mean], color=plots.INK, lw=0.6, alpha=0.6)
    above.plot(x, float(land(np.array(x))), "o", mfc="none", mec=plots.START, mew=2, zorder=5)
    above.plot(x, mean, "o", color=plots.ADAPTED, ms=5, zorder=6)
    place, height = lowest(sigma)[winner(sigma)]
    above.plot(place, height - 0.06, "^", color=plots.ADAPTED, ms=7, zorder=6)
    above.text(-0.8, 0.07, "narrow", size=9, ha="center")
    above.text(0.8, 0.07, "wide", size=9, ha="center")
    above.set(xlim=(-2.1, 2.7), ylim=(-1.15, 0.16))
    above.set_title("land (ink), averaged over nudges (mauve)", x=0)

    walked = np.linspace(0, sigma, 2 + round(sigma * 100))
    ends = {"narrow": ("-", "o"), "wide": ((0, (5, 3)), "D")}
    for name, (dashes, mark) in ends.items():
        kept = [float(s) for s in walked if name in lowest(float(s))]
        heights = [lowest(s)[name][1] for s in kept]
        meter.plot(kept, heights, color=plots.NOISE, ls=dashes)
        meter.plot(kept[-1], heights[-1], mark, color=plots.NOISE, ms=5, clip_on=False, zorder=5)
        start = -WELLS[name][1]
        up = -7 if name == "narrow" else 8
        meter.annotate(name, (0, start), xytext=(8, up), textcoords="offset points", size=9, va="center")
    meter.axvline(sigma, color=plots.INK, lw=0.6, alpha=0.4)
    meter.set(xlim=(0, 0.6), ylim=(-1.3, 0), xticks=[0, 0.2, 0.4, 0.6], yticks=[-1, -0.5, 0])
    meter.set_title("lowest point of the average, by valley")
    meter.set_xlabel("σ, size of the nudges")
    return fig

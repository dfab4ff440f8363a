"""Card C3.3: how large nudges of the weights are in the output, for rows of any width."""

import functools
import math

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from geolessons import plots
from geolessons.draws import row_noise, seed_of

WIDTHS = [16, 40, 100, 256, 640, 1600, 4096]
SIGMAS = [0.05, 0.15, 0.3, 0.5, 0.8]
SHOWN, COPIES, LIMIT = 12, 6, 3.5  # weights on the map, nudged copies of each, and how far one sees
ROWS, INPUTS, DRAWS = 64, 400, 8
WAYS = {  # words, the factor by which a deviation differs from Eq. 5, colour, dashes, mark
    "scaled": ("with 1/√k", lambda k: 1.0, plots.NOISE, "-.", "o"),
    "plain": ("without it", math.sqrt, plots.CONTROL, (0, (5, 3)), "s"),
}


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@functools.cache
def share(k: int, sigma: float, way: str) -> float:
    """The variance of ε·x over that of W·x: 64 rows of k weights, 400 centred inputs, 8 draws of noise."""
    W, X = _normal(ROWS, k, seed=k), _normal(INPUTS, k, seed=k + 1)
    generator = torch.Generator().manual_seed(seed_of((k,), f"{way} {sigma:g}"))  # draws of its own
    factor = WAYS[way][1](k)
    noise = torch.cat([row_noise(W, sigma * factor, generator) for _ in range(DRAWS)])
    return float((X @ noise.mT).var() / (X @ W.mT).var())


def law(k: int, sigma: float, way: str) -> float:
    """The closed form: σ² with 1/√k, k·σ² without."""
    return sigma**2 * (k if way == "plain" else 1)


@functools.cache
def nudges(k: int, sigma: float, way: str) -> tuple[np.ndarray, np.ndarray]:
    """The first weights (12,) of a row of k, in units of its rms, and nudged copies of them (6, 12)."""
    W = _normal(1, k, seed=3)
    rms = float(W.square().mean().sqrt())
    w = W[0, :SHOWN].numpy() / rms
    # the same unit draws in all frames, so that a slider moves dots along; by Eq. 5 they are times σ·rms
    return w, w + sigma * WAYS[way][1](k) * _normal(COPIES, SHOWN, seed=4).numpy()


def alt(k: int, sigma: float) -> str:
    """The caption of a frame."""
    scaled, plain = (share(k, sigma, way) for way in WAYS)
    return (
        f"Rows of {k} weights, σ = {sigma:g}: the noise's variance in the output is {scaled:.4f} of the "
        f"signal's with the factor 1/√k, and {plain:.2f} without it."
    )


@plots.styled
def draw(k: int, sigma: float) -> Figure:
    """One frame."""
    fig, above, meter = plots.card(height=5.0, share=0.46)
    for i, (way, (words, _, colour, dashes, mark)) in enumerate(WAYS.items()):
        left = i * (SHOWN + 2)
        places = left + np.arange(SHOWN)
        w, copies = nudges(k, sigma, way)
        xs, ys = np.broadcast_to(places, copies.shape).ravel(), copies.ravel()
        inside = np.abs(ys) <= LIMIT
        above.plot([left - 0.5, left + SHOWN - 0.5], [0, 0], color=plots.INK, lw=0.6, alpha=0.4)
        above.plot(xs[inside], ys[inside], ".", color=plots.NOISE, ms=6, mew=0)
        for side, arrow in ((1, "^"), (-1, "v")):  # what is out of sight
            out = places[(side * copies > LIMIT).any(0)]
            above.plot(out, [side * (LIMIT + 0.5)] * len(out), arrow, color=plots.NOISE, ms=4, mew=0)
        above.plot(places, w, "o", mfc="none", mec=plots.START, mew=1.2, ms=4, zorder=5)
        above.plot([left, left + 2.2], [5.1, 5.1], color=colour, ls=dashes)
        above.plot(left + 1.1, 5.1, mark, color=colour, ms=5)
        above.text(left + 2.8, 5.1, words, size=9, va="center")
    above.set(xlim=(-1, 2 * SHOWN + 2), ylim=(-LIMIT - 0.8, 5.6))
    above.set_title(f"{SHOWN} weights of a row, {COPIES} nudges of each", x=0)

    walked = [width for width in WIDTHS if width <= k]
    for way, (_, _, colour, dashes, mark) in WAYS.items():
        found = [share(width, sigma, way) for width in walked]
        meter.plot(walked, found, color=colour, ls=dashes, marker=mark, ms=5, clip_on=False)
        closed = [law(width, sigma, way) for width in walked]
        meter.plot(walked, closed, color=plots.INK, lw=0.6, zorder=5)
    meter.axvline(k, color=plots.INK, lw=0.6, alpha=0.4)
    meter.set(xscale="log", yscale="log", xlim=(WIDTHS[0], WIDTHS[-1]), ylim=(1e-3, 1e4))
    meter.set_xticks([16, 100, 640, 4096])
    meter.set_xticklabels(["16", "100", "640", "4096"])
    meter.get_xticklabels()[-1].set_ha("right")  # or it would be cut
    meter.set_yticks([1e-2, 1, 1e2, 1e4])
    meter.set_yticklabels(["0.01", "1", "100", "10⁴"])
    meter.minorticks_off()
    meter.set_title("variance of the output, noise : signal (log)")
    meter.set_xlabel("k, weights in a row (thin: σ² and kσ²)")
    return fig

"""Card C3.4: noise that is added and subtracted again, and what it leaves on the weights."""

import functools

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from geolessons import plots
from geolessons.draws import row_noise
from geolessons.studies.drift import FORMATS, NOISES, STOPS, start

ROW = 96  # weights on the map
LOOKS = {
    "constant": ("σ = 0.05 throughout", "-.", "o"),
    "cosine": ("σ growing to 0.15", (0, (1, 1.5)), "^"),
}
SEEN = 1e-12  # where the drawing puts a drift of 0
THRESHOLD = float(np.arccos(0.9995))  # mergekit's: below this angle it takes the straight road


@functools.cache
def row(kind: str) -> dict[int, np.ndarray]:
    """One row of weights in a format, at the start (0) and after each number of steps, in units of its rms.

    The steps are written out: W += ε, W −= ε, both rounded, with σ = 0.05 at each step.
    """
    w0 = start(0, (1, ROW))[kind]
    rms = float(w0.double().square().mean().sqrt())
    sigma, _ = NOISES["constant"]
    generator = torch.Generator().manual_seed(0)
    noise = row_noise(w0.float().expand(STOPS[-1], ROW), sigma, generator).to(w0.dtype)
    w = w0[0].clone()
    found = {0: w.double().numpy() / rms}
    for i, eps in enumerate(noise.unbind(), start=1):
        w.add_(eps).sub_(eps)
        if i in STOPS:
            found[i] = w.double().numpy() / rms
    return found


class Drift:
    """One row of weights after N steps above; the drift of a whole weight, up to N, below."""

    def __init__(self, values: dict[str, dict]):
        """`values` are those of the study `drift`."""
        self.values = values
        self.stops = {kind: kind for kind in FORMATS}

    def at(self, N: int, kind: str, noise: str, way: str = "subtracted") -> dict[str, float]:
        """The drift after N steps, a share of the weights' length: mean and 95 % interval over the seeds."""
        return self.values[f"{way}.{noise}.{kind}.{N}.drift"]

    def alt(self, N: int, kind: str) -> str:
        steady, growing = (self.at(N, kind, noise)["mean"] for noise in LOOKS)
        never = self.at(N, kind, "constant", "functional")["mean"]
        return (
            f"Weights in {kind}, number of steps {N}: noise of σ = 0.05 that is subtracted again leaves them "
            f"off by {steady:.2g} of their length, noise growing to 0.15 by {growing:.2g}, and noise that "
            f"was never there by {never:g}."
        )

    @plots.styled
    def draw(self, N: int, kind: str) -> Figure:
        fig, above, meter = plots.card(height=5.3, share=0.44)
        above.set_axis_on()
        box = above.get_position()
        above.set_position((box.x0, box.y0 + 0.075, box.width, box.height - 0.075))
        before, after = row(kind)[0], row(kind)[N]
        above.vlines(before, 0, after - before, color=plots.INK, lw=0.6, alpha=0.4)
        above.plot(before, np.zeros(ROW), "o", mfc="none", mec=plots.START, mew=0.8, ms=4)
        above.plot(before, after - before, ".", color=plots.NOISE, ms=6, mew=0, clip_on=False)
        above.set(xlim=(-3.2, 3.2), ylim=(-0.15, 0.15), xticks=[-2, 0, 2], yticks=[-0.1, 0, 0.1])
        above.set_yticklabels(["−0.1", "0", "0.1"])
        above.set_title(f"what stays on {ROW} weights (rms = 1), σ = 0.05")
        above.set_xlabel("the weight before")

        walked = [n for n in STOPS if n <= N]
        for i, (noise, (words, dashes, mark)) in enumerate(LOOKS.items()):
            style = {"color": plots.NOISE, "ls": dashes, "marker": mark, "ms": 5, "mew": 0}
            x, y = 0.14 + 0.44 * i, 0.463
            fig.add_artist(Line2D([x, x + 0.035, x + 0.07], [y] * 3, markevery=[1], **style))
            fig.text(x + 0.085, y, words, size=9, va="center")
            seen = [n for n in walked if self.at(n, kind, noise)["mean"] > 0]
            if not seen:  # the cosine begins with no noise at all
                continue
            found = [self.at(n, kind, noise) for n in seen]
            low, mean, high = (np.clip([f[k] for f in found], SEEN, None) for k in ("low", "mean", "high"))
            meter.fill_between(seen, low, high, color=plots.NOISE, alpha=0.2, lw=0)
            meter.plot(seen, mean, clip_on=False, **style)
        never = [self.at(n, kind, "constant", "functional")["high"] for n in walked]
        meter.plot(walked, np.clip(never, SEEN, None), color=plots.ROAD, marker="s", ms=4, clip_on=False)
        meter.axhline(THRESHOLD, color=plots.INK, lw=0.6, alpha=0.4)
        meter.text(1.2, THRESHOLD * 1.5, f"{THRESHOLD:.4f}: mergekit's threshold, as an angle", size=9)
        meter.text(1.2, SEEN * 2.2, "noise that was never there: 0", size=9)
        for up in (0.1, 0.125):  # between 0 and the first power of ten the axis is cut
            cut = {"transform": meter.transAxes, "clip_on": False, "color": plots.INK, "lw": 0.8}
            meter.plot([-0.012, 0.012], [up - 0.008, up + 0.008], **cut)
        meter.axvline(N, color=plots.INK, lw=0.6, alpha=0.4)
        box = meter.get_position()
        meter.set_position((box.x0, box.y0, box.width, box.height - 0.05))
        meter.set(xscale="log", yscale="log", xlim=(STOPS[0], STOPS[-1]), ylim=(SEEN / 2, 1))
        meter.set_yticks([SEEN, 1e-9, 1e-6, 1e-3, 1])
        meter.set_yticklabels(["0", "10⁻⁹", "10⁻⁶", "0.001", "1"])
        meter.set_xticks([1, 10, 100, 1_000, 10_000])
        meter.set_xticklabels(["1", "10", "100", "1,000", "10⁴"])
        meter.minorticks_off()
        n = self.at(N, kind, "constant")["n"]
        meter.set_title(f"drift, share of the weights' length (log), n = {n}", pad=24)
        meter.set_xlabel("N, steps of adding and subtracting")
        return fig

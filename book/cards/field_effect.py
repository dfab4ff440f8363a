"""Card C4.3: what the paper's field does to the outputs of q and v before any training, and where."""

import functools

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from geolessons import plots
from geolessons.studies.multitask.effect import PLACES, RANK, SCALES

TS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
WIDTH = 24  # of q and v in the first block of our Swin
LOOKS = {
    "norm": ("behind the norm", "-", "o"),
    "plain norm": ("same, no scale and shift", (0, (5, 2)), "s"),
    "raw": ("raw", (0, (1, 1.2)), "^"),
}
FLOOR = 1e-4  # where the drawing puts a change of 0


@functools.cache
def logits() -> dict[str, torch.Tensor]:
    """Z of q and v in the first block as the study draws them for seed 0, each (24, 24)."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name in ("q", "v"):
        left, right = (torch.randn(WIDTH, RANK, generator=generator) for _ in range(2))
        found[name] = left @ right.T / RANK**0.5
    return found


def push(name: str, scale: float) -> np.ndarray:
    """The field on q or on v of the first block, at a logit scale: softmax over each row, (24, 24)."""
    return torch.softmax(scale * logits()[name], 1).numpy()


class FieldEffect:
    """Two pushes as pictures above; the change of what q and v say, up to the logit scale, below."""

    def __init__(self, values: dict[str, dict]):
        """`values` are those of the study `multitask`."""
        self.values = {place: values[f"before.{place}"] for place in PLACES}

    def at(self, scale: float, t: float, place: str, end: str = "mean") -> float:
        """The change as a share of the output, in a straight line between two stops."""
        return float(t * np.interp(scale, SCALES, self.values[place][end]))

    def alt(self, scale: float, t: float) -> str:
        norm, plain, raw = (said(self.at(scale, t, place)) for place in PLACES)
        return (
            f"Logits of scale {scale:g}, t = {t:.1f}: the field changes the outputs of q and v by {norm} "
            f"behind the layer norm, by {plain} behind one without scale and shift, by {raw} on raw features."
        )

    @plots.styled
    def draw(self, scale: float, t: float) -> Figure:
        height, side = 4.6, 1.5
        fig = Figure(figsize=(plots.WIDTH, height))
        meter = fig.add_axes((plots.LEFT, 0.44 / height, plots.SPAN, 1.5 / height))
        for name, x in (("q", plots.LEFT), ("v", plots.LEFT + plots.SPAN - side / plots.WIDTH)):
            box = (x, 1 - (0.28 + side) / height, side / plots.WIDTH, side / height)
            ax = fig.add_axes(box)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(True)
            # the root makes 1/24 and 1 both visible; all pictures share the scale
            shade = (255 * (1 - 0.8 * np.sqrt(t * push(name, scale)))).round().astype(np.uint8)
            ax.imshow(shade, cmap="gray", vmin=0, vmax=255, interpolation="none")
            ax.set_title(f"added to {name}")
        fig.text(
            0.5 + 0.045,
            1 - (0.28 + side / 2) / height,
            "first\nblock,\n24 × 24",
            size=9,
            ha="center",
            va="center",
        )

        walked = [c for c in SCALES if c < scale - 1e-9] + [scale]
        places = {"norm": (plots.LEFT, 0.0), "raw": (0.62, 0.0), "plain norm": (plots.LEFT, 0.17)}
        for place, (words, dashes, mark) in LOOKS.items():
            style = {"color": plots.PUSH, "ls": dashes, "marker": mark, "ms": 5, "mew": 0}
            x, down = places[place]
            y = 1 - (0.28 + side + 0.18 + down) / height
            fig.add_artist(Line2D([x, x + 0.045, x + 0.09], [y, y, y], markevery=[1], **style))
            fig.text(x + 0.105, y - 0.003, words, size=9, va="center")
            mean, low, high = (
                np.clip([self.at(c, t, place, end) for c in walked], FLOOR, None)
                for end in ("mean", "low", "high")
            )
            meter.fill_between(walked, low, high, color=plots.PUSH, alpha=0.15, lw=0)
            meter.plot(walked, mean, color=plots.PUSH, ls=dashes, clip_on=False)
            meter.plot(scale, mean[-1], mark, color=plots.PUSH, ms=5.5, mew=0, clip_on=False, zorder=5)
        meter.axvline(scale, color=plots.INK, lw=0.6, alpha=0.4)
        for up in (0.06, 0.09):  # between 0 and the first power of ten the axis is cut
            cut = {"transform": meter.transAxes, "clip_on": False, "color": plots.INK, "lw": 0.8}
            meter.plot([-0.012, 0.012], [up - 0.01, up + 0.01], **cut)
        meter.set_xscale("symlog", base=2, linthresh=0.5, linscale=1)
        meter.set(xlim=(0, SCALES[-1]), yscale="log", ylim=(FLOOR, 20))
        meter.set_xticks(SCALES)
        meter.set_xticklabels([f"{c:g}" for c in SCALES])
        meter.set_yticks([FLOOR, 1e-3, 1e-2, 0.1, 1, 10])
        meter.set_yticklabels(["0", "0.1 %", "1 %", "10 %", "100 %", "×10"])
        meter.minorticks_off()
        n = self.values["norm"]["n"]
        meter.set_title(f"change of the outputs of q and v (log), n = {n}")
        meter.set_xlabel("scale of the logits")
        return fig


def said(share: float) -> str:
    """A share in words, to two digits; what rounding leaves is no number worth saying."""
    if share < 1e-5:
        return "0 %" if share == 0 else "less than 0.001 %"
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %"

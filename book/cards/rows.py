"""Card C2.1: the rows of a 28 × 2 matrix as points, and where a field pushes them."""

import numpy as np
import torch
from matplotlib.figure import Figure

from geolessons import plots
from geolessons.fields import ConstantField, Field, integrate

LIMIT = 2.6


def weights(seed: int = 0) -> torch.Tensor:
    """The 28 × 2 matrix that is pushed."""
    return torch.randn(28, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lora_push(seed: int = 1) -> ConstantField:
    """A constant push of rank 1: every row moves along one line, one way or the other."""
    g = torch.Generator().manual_seed(seed)
    B = torch.randn(28, 1, generator=g, dtype=torch.float64)
    return ConstantField(torch.tensor([[0.8, 0.5]], dtype=torch.float64), B)


class Rows:
    """Rows on the plane of their two weights above; what each row gained in sum, below."""

    def __init__(self, fields: dict[str, Field], steps: int = 32):
        """`fields` maps a stop's name to a field on 28 × 2 matrices."""
        self.W0, self.fields, self.steps = weights(), fields, steps
        self.stops = {name: name for name in fields}

    def at(self, t: float, field: str) -> np.ndarray:
        with torch.no_grad():
            return integrate(self.fields[field], self.W0, horizon=t, steps=self.steps, method="rk4").numpy()

    def alt(self, t: float, field: str | None = None) -> str:
        name = field or next(iter(self.fields))
        gains = (self.at(t, name) - self.W0.numpy()).sum(1)
        return f"{name}, t = {t:.2f}: the 28 rows gain from {gains.min():.2f} to {gains.max():.2f} in sum."

    @plots.styled
    def draw(self, t: float, field: str | None = None) -> Figure:
        name = field or next(iter(self.fields))
        fig, above, meter = plots.card(height=4.7, share=0.62)
        above.set(xlim=(-LIMIT * 1.28, LIMIT * 1.28), ylim=(-LIMIT, LIMIT), aspect="equal")
        above.axhline(0, color=plots.INK, lw=0.6, alpha=0.3)
        above.axvline(0, color=plots.INK, lw=0.6, alpha=0.3)
        above.text(
            LIMIT * 1.28, -LIMIT, "across: weight on input 1\nup: weight on input 2", size=9, ha="right"
        )
        start, now = self.W0.numpy(), self.at(t, name)
        for a, b in zip(start, now, strict=True):
            if t > 0:
                arrow = {"arrowstyle": "-|>", "color": plots.PUSH, "lw": 0.8, "shrinkA": 0, "shrinkB": 2}
                above.annotate("", b, a, arrowprops=arrow)
        above.plot(*start.T, "o", mfc="none", mec=plots.START, mew=1.2, ms=5)
        above.plot(*now.T, "o", color=plots.ADAPTED, ms=4)
        above.set_title("28 rows of a weight matrix", x=0)

        ts = np.linspace(0, 1, 11)
        walked = np.append(ts[ts < t - 1e-9], t)
        gains = np.array([(self.at(s, name) - start).sum(1) for s in walked])
        meter.plot(walked, gains, color=plots.PUSH, lw=0.8)
        meter.plot([t] * len(start), gains[-1], "o", color=plots.ADAPTED, ms=3, clip_on=False)
        meter.axvline(t, color=plots.INK, lw=0.6, alpha=0.4)
        meter.set(xlim=(0, 1), ylim=(-3.5, 3.5), xticks=[0, 0.5, 1], yticks=[-2, 0, 2])
        meter.set_xticklabels(["0", "0.5", "1"])
        meter.set_title("what each row gained in sum")
        meter.set_xlabel("t, how far along")
        return fig

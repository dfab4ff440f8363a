"""Card C2.1: the rows of a 28 × 2 matrix as points, and where a field pushes them."""

import numpy as np
import torch
from matplotlib.figure import Figure

from geolessons import plots
from geolessons.fields import ConstantField, Field, Method, SoftmaxField, integrate

ACROSS, UP = (-4.35, 4.35), (-3.75, 2.75)  # holds all 28 rows, wherever these fields push them
SHORT = 0.09  # arrows end this much before their dot


def weights(seed: int = 0) -> torch.Tensor:
    """The 28 × 2 matrix that is pushed."""
    return torch.randn(28, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lora_push(seed: int = 1) -> ConstantField:
    """A constant push of rank 1: every row moves along one line, one way or the other."""
    g = torch.Generator().manual_seed(seed)
    B = torch.randn(28, 1, generator=g, dtype=torch.float64)
    return ConstantField(torch.tensor([[0.8, 0.5]], dtype=torch.float64), B)


def softmax_push(spread: float, seed: int = 2) -> SoftmaxField:
    """DELoRA's field of rank 1, its logits scaled to a standard deviation, as training would scale them."""
    W = weights()
    field = SoftmaxField((28, 2), 1, generator=torch.Generator().manual_seed(seed), dtype=W.dtype)
    with torch.no_grad():
        field.W1.mul_(spread / field.logits(W).std())
    return field


class Rows:
    """Rows on the plane of their two weights above; what each row gained in sum, below."""

    def __init__(self, fields: dict[str, Field], steps: int = 32, method: Method = "rk4"):
        """`fields` maps a stop's name to a field on 28 × 2 matrices."""
        self.W0, self.fields, self.steps, self.method = weights(), fields, steps, method
        self.stops = {name: name for name in fields}
        gains = [self.gains(1.0, name) for name in fields]
        self.rising = min(float(gain.min()) for gain in gains) >= 0

    def at(self, t: float, field: str) -> np.ndarray:
        with torch.no_grad():
            W = integrate(self.fields[field], self.W0, horizon=t, steps=self.steps, method=self.method)
        return W.numpy()

    def gains(self, t: float, field: str) -> np.ndarray:
        """What each row has gained in sum."""
        return (self.at(t, field) - self.W0.numpy()).sum(1)

    def fan(self, t: float, field: str) -> float:
        """The least angle, in degrees, that holds the arrows of all rows."""
        across, up = (self.at(t, field) - self.W0.numpy()).T
        headings = np.sort(np.degrees(np.arctan2(up, across)))
        gaps = np.diff(headings, append=headings[0] + 360)
        return float(360 - gaps.max())

    def alt(self, t: float, field: str | None = None) -> str:
        name = field or next(iter(self.fields))
        gains = self.gains(t, name)
        fan = f"; their arrows lie within {self.fan(t, name):.1f}°" if t > 0 else ""
        said = f"the 28 rows gain from {gains.min():.2f} to {gains.max():.2f} in sum{fan}."
        return f"{name[0].upper() + name[1:]}, t = {t:.2f}: {said}"

    @plots.styled
    def draw(self, t: float, field: str | None = None) -> Figure:
        name = field or next(iter(self.fields))
        fig, above, meter = plots.card(height=4.7, share=0.62)
        above.set(xlim=ACROSS, ylim=UP, aspect="equal")
        above.axhline(0, color=plots.INK, lw=0.6, alpha=0.3)
        above.axvline(0, color=plots.INK, lw=0.6, alpha=0.3)
        above.text(ACROSS[1], UP[0], "across: weight on input 1\nup: weight on input 2", size=9, ha="right")
        start, now = self.W0.numpy(), self.at(t, name)
        if t > 0:
            moves = now - start
            lengths = np.linalg.norm(moves, axis=1, keepdims=True).clip(min=1e-9)
            moves = moves * (1 - SHORT / lengths).clip(min=0)
            heads = {"headwidth": 6, "headlength": 8, "headaxislength": 8, "minshaft": 1, "minlength": 0}
            scale = {"angles": "xy", "scale_units": "xy", "scale": 1, "units": "inches", "width": 0.011}
            above.quiver(*start.T, *moves.T, color=plots.PUSH, zorder=2, **scale, **heads)
        above.plot(*start.T, "o", mfc="none", mec=plots.START, mew=1.2, ms=5)
        above.plot(*now.T, "o", color=plots.ADAPTED, ms=4)
        which = f": {name}" if len(self.fields) > 1 else ""
        above.set_title(f"28 rows of a weight matrix{which}", x=0)

        ts = np.linspace(0, 1, 11)
        walked = np.append(ts[ts < t - 1e-9], t)
        gains = np.array([self.gains(s, name) for s in walked])
        meter.plot(walked, gains, color=plots.PUSH, lw=0.8)
        meter.plot([t] * len(start), gains[-1], "o", color=plots.ADAPTED, ms=3, clip_on=False)
        meter.axvline(t, color=plots.INK, lw=0.6, alpha=0.4)
        ylim, yticks = ((0, 1.15), [0, 0.5, 1]) if self.rising else ((-3.5, 3.5), [-2, 0, 2])
        meter.set(xlim=(0, 1), ylim=ylim, xticks=[0, 0.5, 1], yticks=yticks)
        meter.set_xticklabels(["0", "0.5", "1"])
        meter.set_title("what each row gained in sum")
        meter.set_xlabel("t, how far along")
        return fig

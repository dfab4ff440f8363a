"""Card C2.2: LoRA's road on the land, in the plane through W₀, LoRA and full fine-tuning."""

import numpy as np
from matplotlib.figure import Figure
from torch import nn

from geolessons import plots
from geolessons.data import Split
from geolessons.metrics import loss_and_accuracy
from geolessons.paths import Line, evaluate
from geolessons.trees import Params, axpy, dot, norm

GRID = 33


class Plane:
    """The test loss over the plane through three networks above; along LoRA's road, up to t, below."""

    def __init__(self, model: nn.Module, W0: Params, lora: Params, full: Params, data: Split):
        self.model, self.W0, self.metric = model, W0, loss_and_accuracy(data.x_test, data.y_test)
        self.road = Line(W0, lora)
        first, second = axpy(-1, W0, lora), axpy(-1, W0, full)
        size = float(norm(first))
        self.across = axpy(-float(dot(first, second) / dot(first, first)), first, second)
        height = float(norm(self.across))
        self.full = float(dot(first, second)) / size**2, height / size
        self.xs, self.ys = np.linspace(-0.35, 1.35, GRID), np.linspace(-0.35, self.full[1] + 0.35, GRID)
        self.land = np.empty((GRID, GRID))
        for i, y in enumerate(self.ys):  # one straight walk a row
            start = axpy(float(y) * size / height, self.across, W0)
            row = Line(start, axpy(1, first, start), extrapolate=True)
            self.land[i] = [loss for loss, _ in evaluate(row, model, self.metric, self.xs).values]
        self.seen: dict[float, float] = {}

    def loss(self, t: float) -> float:
        t = round(float(t), 6)
        if t not in self.seen:
            self.seen[t] = evaluate(self.road, self.model, self.metric, [t]).values[0][0]
        return self.seen[t]

    def alt(self, t: float) -> str:
        return f"At t = {t:.2f} on LoRA's road the loss on lying digits is {self.loss(t):.2f}."

    @plots.styled
    def draw(self, t: float) -> Figure:
        fig, above, meter = plots.card(height=4.7, share=0.6)
        levels = np.quantile(self.land, np.linspace(0, 1, 9))[1:-1]
        for level in levels:  # veils of ink: the more, the higher
            above.contourf(self.xs, self.ys, self.land, [level, np.inf], colors=[plots.INK], alpha=0.06)
        above.set(xlim=(self.xs[0], self.xs[-1]), ylim=(self.ys[0], self.ys[-1]))
        above.plot([0, 1], [0, 0], color=plots.ROAD, ls=plots.STRAIGHT)
        above.plot(0, 0, "o", mfc="none", mec=plots.START, mew=2)
        above.plot(1, 0, "o", color=plots.ADAPTED)
        above.plot(*self.full, "s", color=plots.CONTROL)
        above.plot(t, 0, "o", color=plots.ROAD, ms=5, zorder=5)
        names = (("W₀", (0, 0), -12), ("LoRA", (1, 0), -12), ("full fine-tuning", self.full, 11))
        for text, place, up in names:
            style = {"textcoords": "offset points", "ha": "center", "va": "center"}
            above.annotate(text, place, xytext=(0, up), **style)
        above.set_title("loss on the plane of three networks", x=0)

        ts = np.linspace(0, 1, 21)
        walked = np.append(ts[ts < t - 1e-9], t)
        meter.plot(walked, [self.loss(s) for s in walked], color=plots.ADAPTED)
        meter.plot(t, self.loss(t), "o", color=plots.ADAPTED, clip_on=False, zorder=5)
        meter.axvline(t, color=plots.INK, lw=0.6, alpha=0.4)
        meter.set(xlim=(0, 1), ylim=(0.1, 30), yscale="log", xticks=[0, 0.5, 1], yticks=[0.1, 1, 10])
        meter.set_xticklabels(["0", "0.5", "1"])
        meter.set_yticklabels(["0.1", "1", "10"])
        meter.minorticks_off()
        meter.set_title("test loss on lying digits (nats, log scale)")
        meter.set_xlabel("t, how far along")
        return fig

"""Card C1.5: the road after training: what GLRA does to the frozen weights on its way, and the loss there."""

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from geolessons import plots
from geolessons.arcs import coefficients
from geolessons.data import Split
from geolessons.metrics import loss_and_accuracy
from geolessons.paths import Line, Slerp, evaluate
from geolessons.studies import glra
from geolessons.trees import params_of

ROADS = {  # arm: its road, name, colour, line, mark
    "lora": (Line, "LoRA", plots.ADAPTED, plots.STRAIGHT, "o"),
    "glra": (Slerp, "GLRA", plots.ROAD, "-", "D"),
}


class After:
    """The factor of W0 above, the test loss below, along the roads of trained LoRA and GLRA, up to t."""

    def __init__(self, model: nn.Module, data: Split, stops: dict[str, tuple[str, float]], epochs: int = 10):
        """`stops` maps a name to an optimiser and its learning rate."""
        W0, metric = params_of(model), loss_and_accuracy(data.x_test, data.y_test)
        self.ts = [i / 20 for i in range(21)]
        self.runs: dict[str, dict] = {}
        for name, (optimiser, lr) in stops.items():
            runs = {
                arm: glra.train(model, data, arm, optimiser, lr, 0, epochs=epochs, batch=64) for arm in ROADS
            }
            losses = {}
            for arm, (road, *_) in ROADS.items():
                curve = evaluate(road(W0, runs[arm].W), model, metric, self.ts)
                losses[arm] = [loss for loss, _ in curve.values]
            omega = runs["glra"].by_stage["omega"][-1]
            wide = torch.tensor(omega, dtype=torch.float64)
            factor = [float(sum(coefficients(wide, t))) for t in self.ts]
            self.runs[name] = {"losses": losses, "factor": factor, "omega": omega}
        self.stops = {name: name for name in stops}

    def alt(self, t: float, optimiser: str) -> str:
        run = self.runs[optimiser]
        lora, arc = (np.interp(t, self.ts, run["losses"][arm]) for arm in ROADS)
        factor = np.interp(t, self.ts, run["factor"])
        return (
            f"{optimiser}, t = {t:.2f}: loss {lora:.2f} on LoRA's road and {arc:.2f} on GLRA's, "
            f"where W₀ is multiplied by {factor:.2f}."
        )

    @plots.styled
    def draw(self, t: float, optimiser: str) -> Figure:
        run = self.runs[optimiser]
        fig, _, loss = plots.card(height=4.6, share=0.44)
        box = loss.get_position()
        factor = fig.add_axes((box.x0, box.y1 + 0.09, box.width, 0.85 - box.y1))
        walked = [s for s in self.ts if s < t - 1e-9] + [t]
        for arm, (_, name, colour, line, mark) in ROADS.items():
            values = run["factor"] if arm == "glra" else np.ones(21)
            for ax, whole in ((factor, values), (loss, run["losses"][arm])):
                ys = np.interp(walked, self.ts, whole)
                ax.plot(walked, ys, color=colour, ls=line)
                ax.plot(t, ys[-1], mark, color=colour, ms=6, clip_on=False, zorder=5)
            y = 0.92 - 0.14 * list(ROADS).index(arm)
            factor.annotate(
                "",
                (0.03, y),
                (0.1, y),
                "axes fraction",
                "axes fraction",
                arrowprops={"arrowstyle": "-", "color": colour, "ls": line, "lw": 2},
            )
            factor.text(0.12, y, name, transform=factor.transAxes, size=9, va="center")
        words = f"{optimiser}, final angle {run['omega']:.1f}"
        factor.text(0.98, 0.92, words, transform=factor.transAxes, size=9, ha="right", va="center")
        for ax in (factor, loss):
            ax.axvline(t, color=plots.INK, lw=0.6, alpha=0.4)
            ax.set(xlim=(0, 1), xticks=[0, 0.5, 1])
            ax.set_xticklabels(["0", "0.5", "1"] if ax is loss else [])
        factor.set(ylim=(0.95, 1.35), yticks=[1, 1.1, 1.2, 1.3])
        factor.set_title("what W₀ is multiplied by")
        loss.set(yscale="log", ylim=(0.1, 5), yticks=[0.1, 1])
        loss.set_yticklabels(["0.1", "1"])
        loss.minorticks_off()
        loss.set_title("test loss (nats, log scale)")
        loss.set_xlabel("t, how far along")
        return fig

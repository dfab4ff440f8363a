"""Card C1.2: loss and accuracy on the straight and the round road between real networks."""

import numpy as np
from matplotlib.figure import Figure
from torch import nn

from geolessons import plots
from geolessons.metrics import loss_and_accuracy
from geolessons.paths import Line, Slerp, evaluate
from geolessons.trees import Params, axpy, dot, norm

ROADS = {"straight": (Line, plots.STRAIGHT), "round": (Slerp, "-")}


class Hills:
    """The plane through 0, W0 and W1 above; accuracy and loss up to t, on both roads, below."""

    def __init__(self, model: nn.Module, pairs: dict[str, tuple[Params, Params, object]], step: float = 0.05):
        """`pairs` maps a stop's name to (W0, W1, split): start and end of the road, and what is read."""
        self.model, self.step = model, step
        self.pairs = {name: self._pair(*parts) for name, parts in pairs.items()}
        self.stops = {name: name for name in pairs}
        self.seen: dict[tuple, tuple] = {}

    @staticmethod
    def _pair(W0: Params, W1: Params, split) -> dict:
        across = axpy(float(-dot(W0, W1) / dot(W0, W0)), W0, W1)
        axes = (W0, float(norm(W0))), (across, float(norm(across)))
        roads = {name: make(W0, W1) for name, (make, _) in ROADS.items()}
        return {"roads": roads, "axes": axes, "metric": loss_and_accuracy(split.x_test, split.y_test)}

    def at(self, t: float, pair: str, road: str) -> tuple[float, float, float, float]:
        """Loss, accuracy, and the two coordinates in the plane through 0, W0 and W1, in units of ‖W0‖."""
        key = (round(float(t), 6), pair, road)
        if key not in self.seen:
            stop = self.pairs[pair]
            path = stop["roads"][road]
            loss, share = evaluate(path, self.model, stop["metric"], [key[0]]).values[0]
            W, unit = path.at(key[0]), stop["axes"][0][1]
            x, y = (float(dot(W, axis)) / size / unit for axis, size in stop["axes"])
            self.seen[key] = loss, share, x, y
        return self.seen[key]

    def alt(self, t: float, pair: str) -> str:
        (l0, a0, *_), (l1, a1, *_) = (self.at(t, pair, road) for road in ROADS)
        where = f"{pair[0].upper() + pair[1:]}, t = {t:.2f}"
        return (
            f"{where}: the straight road has loss {l0:.2f} and reads {100 * a0:.0f} %, "
            f"the round one {l1:.2f} and {100 * a1:.0f} %."
        )

    @plots.styled
    def draw(self, t: float, pair: str) -> Figure:
        height = 4.9
        fig, above, loss = plots.card(height=height, share=0.36)
        box = loss.get_position()
        loss.set_position((box.x0, box.y0, box.width, box.height * 0.5))
        share = fig.add_axes((box.x0, box.y0 + box.height * 0.66, box.width, box.height * 0.34))
        ts = [round(i * self.step, 6) for i in range(round(1 / self.step) + 1)]
        walked = [s for s in ts if s < t - 1e-9] + [t]
        above.set(xlim=(-0.75, 1.95), ylim=(-0.12, 1.14), aspect="equal")
        above.plot(0, 0, "+", color=plots.INK, ms=8, mew=1)
        above.text(-0.08, 0, "0", size=9, ha="right", va="center")
        for road, (_, dashes) in ROADS.items():
            whole = np.array([self.at(s, pair, road) for s in ts])
            up_to = np.array([self.at(s, pair, road) for s in walked])
            style = {"color": plots.ROAD, "ls": dashes}
            above.plot(whole[:, 2], whole[:, 3], **style)
            above.plot(*up_to[-1, 2:], "o", color=plots.ROAD, ms=5, zorder=5)
            for ax, column in ((loss, 0), (share, 1)):
                ax.plot(walked, up_to[:, column], **style)
                ax.plot(t, up_to[-1, column], "o", color=plots.ROAD, ms=5, clip_on=False, zorder=5)
        (x0, y0), (x1, y1) = (self.at(s, pair, "straight")[2:] for s in (0, 1))
        above.plot(x0, y0, "o", mfc="none", mec=plots.START, mew=2)
        above.plot(x1, y1, "o", color=plots.ADAPTED)
        above.annotate("W₀", (x0, y0), xytext=(8, 0), textcoords="offset points", va="center")
        above.annotate("W₁", (x1, y1), xytext=(8, 4), textcoords="offset points")
        above.set_title("the plane of the two networks and zero", x=0)
        for ax in (loss, share):
            ax.axvline(t, color=plots.INK, lw=0.6, alpha=0.4)
            ax.set(xlim=(0, 1), xticks=[0, 0.5, 1])
            ax.set_xticklabels(["0", "0.5", "1"] if ax is loss else [])
        share.set(ylim=(0, 1), yticks=[0, 0.5, 1])
        share.set_yticklabels(["0", "50 %", "100 %"])
        share.set_title("share of test digits read")
        loss.set(yscale="log", ylim=(0.03, 20), yticks=[0.1, 1, 10])
        loss.set_yticklabels(["0.1", "1", "10"])
        loss.minorticks_off()
        loss.set_title("test loss (nats, log scale)")
        loss.set_xlabel("t, how far along (dashed: straight, solid: round)")
        return fig

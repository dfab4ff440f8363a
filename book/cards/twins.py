"""Card C1.4: LoRA, ramped LoRA and GLRA from one start: where they go, and how close the last two stay."""

import copy

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from torch import nn

from geolessons import plots
from geolessons.data import Split
from geolessons.metrics import loss_and_accuracy
from geolessons.studies import glra
from geolessons.trees import flatten, params_of

NOTE = {"size": 9, "ha": "right", "va": "bottom"}
STAGES = np.arange(11) / 10
LOOKS = {  # arm: name, colour, line, width, mark, its size; the control is drawn over GLRA
    "lora": ("LoRA", plots.ADAPTED, "-", 2, "o", 6),
    "glra": ("GLRA", plots.ROAD, "-", 2.6, "D", 7),
    "ramped": ("ramped LoRA", plots.CONTROL, (0, (5, 3)), 1.6, "s", 4.5),
}


class Twins:
    """The plane of the four ends above, in updates of ramped LoRA; test loss up to u below.

    The map is classical scaling: the plane that shows most of the distances between W0 and the three ends.
    """

    def __init__(self, model: nn.Module, data: Split, rates: list[float], *, epochs: int = 10, seed: int = 0):
        W0 = params_of(model, [f"{layer}.weight" for layer in glra.LAYERS])
        self.first = loss_and_accuracy(data.x_test, data.y_test)(model)[0]
        nudged = copy.deepcopy(model)
        g = torch.Generator().manual_seed(seed)
        for p in nudged.parameters():
            p.data = p.data * (1 + 1e-6 * torch.randn(p.shape, generator=g, dtype=p.dtype))
        self.runs: dict[str, dict] = {}
        for rate in rates:
            options = {"epochs": epochs, "batch": 64}
            runs = {arm: glra.train(model, data, arm, "adamw", rate, seed, **options) for arm in LOOKS}
            again = glra.train(nudged, data, "ramped", "adamw", rate, seed, **options)
            roads = {arm: torch.stack([flatten(W) for W in run.walked]) for arm, run in runs.items()}
            stop = self._stop(flatten(W0), roads, torch.stack([flatten(W) for W in again.walked]))
            stop["loss"] = {arm: [self.first, *run.by_stage["test loss"]] for arm, run in runs.items()}
            stop["omega"] = runs["glra"].by_stage["omega"][-1]
            self.runs[f"ω = {stop['omega']:.1f}"] = stop
        self.stops = {name: name for name in self.runs}

    @staticmethod
    def _stop(W0: torch.Tensor, roads: dict[str, torch.Tensor], again: torch.Tensor) -> dict:
        unit = float((roads["ramped"][-1] - W0).norm())
        walked = {
            arm: torch.cat([torch.zeros(1, len(W0)), (road - W0) / unit]) for arm, road in roads.items()
        }
        ends = torch.stack([torch.zeros_like(W0), *(road[-1] for road in walked.values())])
        _, size, axes = torch.linalg.svd(ends - ends.mean(0), full_matrices=False)
        plane = axes[:2] * torch.sign(axes[:2] @ ends.sum(0))[:, None]  # turned the same way for every stop
        seen = {arm: (road @ plane.T).numpy() for arm, road in walked.items()}
        gaps = {arm: (road - walked["ramped"]).norm(dim=1).tolist() for arm, road in walked.items()}
        floor = [0.0, *((again - roads["ramped"]).norm(dim=1) / unit).tolist()]
        return {"seen": seen, "gaps": gaps, "floor": floor, "hidden": float(size[2] ** 2 / (size**2).sum())}

    def alt(self, u: float, lr: str) -> str:
        run = self.runs[lr]
        near, far = (np.interp(u, STAGES, run["gaps"][arm]) for arm in ("glra", "lora"))
        return (
            f"Final angle {run['omega']:.1f}, u = {u:.2f} of the training: GLRA is {near:.3f} and LoRA "
            f"{far:.3f} of an update away from ramped LoRA."
        )

    @plots.styled
    def draw(self, u: float, lr: str) -> Figure:
        run = self.runs[lr]
        fig, above, meter = plots.card(height=4.9, share=0.58)
        above.set(xlim=(-0.1, 1.15), ylim=(-0.27, 0.56), aspect="equal")
        above.set_title("map of the three runs", x=0)
        floor = np.interp(u, STAGES, run["floor"])
        above.add_patch(
            Circle(_walked(u, run["seen"]["ramped"])[-1], floor, fill=False, lw=0.8, ls=":", zorder=6)
        )
        above.plot(0, 0, "o", mfc="none", mec=plots.START, mew=2)
        above.annotate("W₀", (0, 0), xytext=(0, -13), textcoords="offset points", ha="center", va="center")
        for j, (arm, (name, colour, line, width, mark, size)) in enumerate(LOOKS.items()):
            road = _walked(u, run["seen"][arm])
            above.plot(*road.T, color=colour, ls=line, lw=width)
            above.plot(*road[-1], mark, color=colour, ms=size, zorder=5)
            losses = _walked(u, np.stack([STAGES, run["loss"][arm]], 1))
            meter.plot(*losses.T, color=colour, ls=line, lw=width)
            meter.plot(*losses[-1], mark, color=colour, ms=size, clip_on=False, zorder=5)
            x, y = 0.04, 0.97 - 0.09 * j
            key = {"transform": above.transAxes, "color": colour, "ls": line, "lw": width}
            above.plot([x - 0.035, x + 0.035], [y, y], **key)
            above.plot(x, y, mark, transform=above.transAxes, color=colour, ms=size)
            above.text(x + 0.06, y, name, transform=above.transAxes, size=9, va="center")
        above.text(
            1,
            0,
            f"not shown: {100 * run['hidden']:.0f} % of squared distances",
            **NOTE,
            transform=above.transAxes,
        )
        meter.axvline(u, color=plots.INK, lw=0.6, alpha=0.4)
        meter.set(xlim=(0, 1), xticks=[0, 0.5, 1], yscale="log", ylim=(0.1, 5), yticks=[0.1, 1])
        meter.set_xticklabels(["0", "0.5", "1"])
        meter.set_yticklabels(["0.1", "1"])
        meter.minorticks_off()
        meter.set_title("test loss (nats, log scale)")
        meter.set_xlabel("u, share of training done")
        return fig


def _walked(u: float, points: np.ndarray) -> np.ndarray:
    """The points of the stages up to u, and the point at u, between two of them."""
    there = [np.interp(u, STAGES, column) for column in points.T]
    return np.vstack([points[u - 1e-9 > STAGES], there])

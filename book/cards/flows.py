"""Card C2.5: a field trained with few Euler steps, followed in more of them."""

import math

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.func import functional_call

from geolessons import plots
from geolessons.data import Split
from geolessons.fields import Field, integrate
from geolessons.metrics import loss_and_accuracy
from geolessons.paths import Line, evaluate
from geolessons.trees import Params, axpy, dot, norm

STOPS = {f"K = {k}": k for k in (1, 2, 4, 8, 16, 32)}
ACROSS, UP = (-0.18, 1.26), (-0.2, 0.78)  # the part of the plane that is shown, in lengths of the jump
GRID = (21, 15)


class Flows:
    """Euler's polyline on the land above; what its end reads, up to K, below."""

    def __init__(self, model: nn.Module, W0: Params, fields: dict[str, dict[str, Field]], data: Split):
        """`fields` maps a stop's name to the field of each matrix; a constant one must not be the first."""
        self.model, self.W0, self.data = model, W0, data
        self.metric = loss_and_accuracy(data.x_test, data.y_test)
        self.stops = {name: name for name in fields}
        self.read: dict[tuple[str, int], float] = {}
        self.nodes: dict[tuple[str, int], np.ndarray] = {}
        self.lands: dict[str, np.ndarray] = {}
        self.jumps: dict[str, float] = {}
        other = None
        for name, field in fields.items():
            roads = {K: self._walk(field, K) for K in STOPS.values()}
            first, last = (axpy(-1, W0, roads[K][-1]) for K in (1, 32))
            size = float(norm(first))
            self.jumps[name] = size / float(norm(W0))
            across = self._across(first, last)
            if norm(across) < 1e-6 * size:  # it does not bend: any plane will do
                across = self._across(first, other)
            other = last
            height = float(norm(across))
            for K, road in roads.items():
                moves = [axpy(-1, W0, W) for W in road]
                self.nodes[name, K] = np.array(
                    [[float(dot(first, m)) / size**2, float(dot(across, m)) / height / size] for m in moves]
                )
                self.read[name, K] = self._read(road[-1])
            self.lands[name] = self._land(first, axpy(size / height - 1, across, across))

    def _walk(self, fields: dict[str, Field], K: int) -> list[Params]:
        road = [self.W0]
        with torch.no_grad():
            for _ in range(K):
                W = road[-1]
                moved = {key: integrate(field, W[key], horizon=1 / K) for key, field in fields.items()}
                road.append({**W, **moved})
        return road

    @staticmethod
    def _across(first: Params, last: Params) -> Params:
        return axpy(-float(dot(first, last) / dot(first, first)), first, last)

    @torch.no_grad()
    def _read(self, W: Params) -> float:
        return self.metric(lambda x: functional_call(self.model, W, (x,)))[1]

    def _land(self, first: Params, across: Params) -> np.ndarray:
        """The test loss on a grid of the plane; each row is one straight walk."""
        rows = []
        for y in np.linspace(*UP, GRID[1]):
            start = axpy(float(y), across, self.W0)
            row = Line(start, axpy(1, first, start), extrapolate=True)
            xs = np.linspace(*ACROSS, GRID[0])
            rows.append([loss for loss, _ in evaluate(row, self.model, self.metric, xs).values])
        return np.array(rows)

    def alt(self, K: int, field: str) -> str:
        where = f"{field[0].upper() + field[1:]}, K = {K}"
        read = f"reads {100 * self.read[field, K]:.0f} % of the tilted digits"
        if K == 1:
            return f"{where}: one step jumps {self.jumps[field]:.2f} of ‖W₀‖ far and {read}."
        away = math.dist(self.nodes[field, K][-1], (1, 0))
        return f"{where}: the end {read} and lies {away:.2f} of the jump away from where one step ends."

    @plots.styled
    def draw(self, K: int, field: str) -> Figure:
        fig, above, meter = plots.card(height=4.9, share=0.56)
        self._map(above, K, field)
        self._meter(meter, K, field)
        return fig

    def _map(self, ax, K: int, field: str) -> None:
        land = self.lands[field]
        xs, ys = (np.linspace(*span, n) for span, n in zip((ACROSS, UP), GRID, strict=True))
        for level in np.quantile(land, np.linspace(0, 1, 9))[1:-1]:  # veils of ink: the more, the higher
            ax.contourf(xs, ys, land, [level, np.inf], colors=[plots.INK], alpha=0.06)
        ax.set(xlim=ACROSS, ylim=UP, aspect="equal")
        for k in (k for k in STOPS.values() if k < K):
            ax.plot(*self.nodes[field, k].T, color=plots.ROAD, lw=0.8, ls=plots.STRAIGHT, alpha=0.7)
        road = self.nodes[field, K]
        ax.plot(*road.T, color=plots.ROAD, marker="o", ms=3)
        ax.plot(*road[-1], "o", color=plots.ADAPTED, zorder=5)
        ax.plot(0, 0, "o", mfc="none", mec=plots.START, mew=2)
        style = {"textcoords": "offset points", "ha": "center", "va": "center"}
        ax.annotate("W₀", (0, 0), xytext=(0, -13), **style)
        ax.annotate("one step", (1, 0), xytext=(0, -13), **style)
        if K > 1:
            ax.annotate(f"{K} steps", road[-1], xytext=(0, 13), **style)
        ax.set_title("test loss, and Euler's steps to t = 1", x=0)

    def _meter(self, ax, K: int, field: str) -> None:
        ks = list(STOPS.values())
        start = self.read[field, 1]
        for letter, change, up in (("A", 0.05, 5), ("B", 0.0, -6), ("C", -0.17, -6)):
            ax.plot([1, 32], [start, start + change], color=plots.INK, lw=0.8, alpha=0.28)
            place = {"xytext": (-4, up), "textcoords": "offset points", "ha": "right", "va": "center"}
            ax.annotate(letter, (32, start + change), size=9, alpha=0.6, **place)
        walked = [k for k in ks if k < K] + [K]
        ax.plot(walked, [self.read[field, k] for k in walked], color=plots.ADAPTED, marker="o", ms=4)
        ax.plot(K, self.read[field, K], "o", color=plots.ADAPTED, clip_on=False, zorder=5)
        ax.axvline(K, color=plots.INK, lw=0.6, alpha=0.4)
        ax.set(xscale="log", xlim=(1, 32), ylim=(0.55, 1), yticks=[0.6, 0.8, 1])
        ax.set_yticklabels(["60 %", "80 %", "100 %"])
        ax.set_xticks(ks)
        ax.set_xticklabels([str(k) for k in ks])
        ax.minorticks_off()
        ax.set_title("share of tilted test digits read")
        ax.set_xlabel("K, number of Euler steps")

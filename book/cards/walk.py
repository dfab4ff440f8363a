"""Card C0.1: walk from a network to its adapted self, and watch what it reads."""

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import nn

from geolessons import plots
from geolessons.data import Split
from geolessons.metrics import accuracy
from geolessons.paths import Path, evaluate

SHOWN = 8
STEP = 0.05


class Walk:
    """Eight lying digits and eight first-layer neurons above; the share of digits read, up to t, below."""

    def __init__(self, road: Path, model: nn.Module, upright: Split, lying: Split):
        """The road must extrapolate to t = 1.5; digits 0 to 7 of the test set are shown, one of each."""
        self.road, self.model, self.upright, self.lying = road, model, upright, lying
        self.which = [int((lying.y_test == digit).nonzero()[0]) for digit in range(SHOWN)]
        self.read: dict[float, tuple[float, float, list[int]]] = {}
        neurons = torch.stack([W["fc1.weight"] for W in (road.W0, road.W1)])
        self.limit = float(neurons.abs().quantile(0.995))

    def at(self, t: float) -> tuple[float, float, list[int]]:
        """Share of lying digits read, of upright digits read, and the answers to the eight shown."""
        t = round(float(t), 6)
        if t not in self.read:

            def metric(run):
                new = run(self.lying.x_test)
                old = accuracy(run(self.upright.x_test), self.upright.y_test)
                return accuracy(new, self.lying.y_test), old, new[self.which].argmax(1).tolist()

            self.read[t] = evaluate(self.road, self.model, metric, [t]).values[0]
        return self.read[t]

    def alt(self, t: float) -> str:
        new, old, answers = self.at(t)
        right = sum(a == d for d, a in enumerate(answers))
        return (
            f"At t = {t:.2f} the network reads {100 * new:.0f} % of the lying and {100 * old:.0f} % of the "
            f"upright digits; {right} of the eight shown are right."
        )

    @plots.styled
    def draw(self, t: float) -> Figure:
        fig, above, meter = plots.card(height=4.3, share=0.46, title=False)
        self._digits(above, t)
        self._meter(meter, t)
        return fig

    def _digits(self, ax, t: float) -> None:
        answers = self.at(t)[2]
        ax.set(xlim=(0, SHOWN), ylim=(0, 3.62))
        for i, answer in enumerate(answers):
            image = self.lying.x_test[self.which[i]].reshape(8, 8).numpy()
            ink = torch.zeros(8, 8, 4).numpy()
            ink[..., :3], ink[..., 3] = (0.5, 0.5, 0.56), image  # seen on white and on dark
            ax.imshow(ink, extent=(i + 0.08, i + 0.92, 2.2, 3.04), interpolation="none")
            right = answer == i
            colour, width = (plots.PUSH, 1.8) if right else (plots.INK, 0.4)
            ax.add_patch(Rectangle((i + 0.04, 2.16), 0.92, 0.92, fill=False, ec=colour, lw=width))
            text, weight = (f"✓ {answer}", "bold") if right else (f"{answer}", "normal")
            ax.text(i + 0.5, 1.88, text, ha="center", va="center", fontweight=weight)
            neuron = self.road.at(t)["fc1.weight"][16 * i].reshape(8, 8).numpy()
            grey = {"cmap": "gray", "vmin": -self.limit, "vmax": self.limit, "interpolation": "none"}
            ax.imshow(neuron, extent=(i + 0.08, i + 0.92, 0.1, 0.94), **grey)
        ax.set_aspect("auto")
        ax.text(0.04, 3.2, "lying digits, and what the network reads", fontweight="bold", va="bottom")
        ax.text(0.04, 1.1, "eight of the 128 first-layer neurons", fontweight="bold", va="bottom")

    def _meter(self, ax, t: float) -> None:
        ts = [round(i * STEP, 6) for i in range(round(1.5 / STEP) + 1)]
        for letter, power in (("A", 1.0), ("B", 5.0), ("C", 0.2)):
            xs = [(i / 60) ** 2 for i in range(61)]
            ax.plot(xs, [0.1 + 0.87 * x**power for x in xs], color=plots.INK, lw=0.8, alpha=0.28)
            at = {"A": 0.3, "B": 0.4, "C": 0.1}[letter]
            up = 0.12 if letter == "B" else 0.05
            ax.text(at, 0.1 + 0.87 * at**power + up, letter, size=9, alpha=0.6, ha="right")
        ax.axvspan(1, 1.5, color=plots.INK, alpha=0.06, lw=0)
        ax.text(1.25, 1.03, "beyond training", size=9, ha="center", va="bottom")
        walked = [x for x in ts if x < t - 1e-9] + [t]
        new, old = ([self.at(x)[k] for x in walked] for k in (0, 1))
        ax.plot(walked, old, color=plots.START, ls=":")
        ax.plot(walked, new, color=plots.ADAPTED)
        ax.plot([t], [old[-1]], "o", mfc="none", mec=plots.START, mew=2, clip_on=False, zorder=5)
        ax.plot([t], [new[-1]], "o", color=plots.ADAPTED, clip_on=False, zorder=5)
        side = (9, "left", 0) if t < 1.2 else (-9, "right", -10)  # below the falling curves
        close = abs(new[-1] - old[-1]) < 0.12
        for value, word, up in ((old[-1], "upright", 1), (new[-1], "lying", -1)):
            shift = 7 * up * (1 if old[-1] >= new[-1] else -1) if close else side[2]
            place = {"xytext": (side[0], shift), "textcoords": "offset points", "ha": side[1], "va": "center"}
            ax.annotate(word, (t, value), size=9, **place)
        ax.axvline(t, color=plots.INK, lw=0.6, alpha=0.4)
        ax.set(xlim=(0, 1.5), ylim=(0, 1), xticks=[0, 0.5, 1, 1.5], yticks=[0, 0.5, 1])
        ax.set_yticklabels(["0", "50 %", "100 %"])
        ax.set_xticklabels(["0", "0.5", "1", "1.5"])
        ax.set_title("share of test digits read")
        ax.set_xlabel("t, how far along")

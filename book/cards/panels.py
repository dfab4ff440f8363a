"""The four panels of GLRA's Figure 1, from the study: five arms, two optimisers, three data sets."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from geolessons import plots
from geolessons.studies.glra import RATES

NAMES = {"digits": "Tilted digits", "mnist": "Turned MNIST", "fashion": "Fashion-MNIST"}
LOOKS = {
    "bitfit": ("BitFit", plots.INK, ":", 0.8, None),
    "full": ("full", plots.INK, "-", 0.8, None),
    "lora": ("LoRA", plots.ADAPTED, "-", 2, "o"),
    "glra": ("GLRA", plots.ROAD, "-", 2.4, "D"),
    "ramped": ("ramped LoRA", plots.CONTROL, (0, (5, 3)), 1.6, "s"),
}
PANELS = {  # values: title, lowest and highest value shown, ticks; all but accuracy on a logarithmic axis
    "train loss": ("training loss (nats)", (0.01, 6), (0.01, 0.1, 1)),
    "test accuracy": ("test accuracy, at the current t", (0, 1), (0, 0.5, 1)),
    "gradient norm": ("gradient norm", (0.05, 10), (0.1, 1, 10)),
    "distance": ("distance from W₀", (0.02, 60), (0.1, 1, 10)),
}
THREE = ("lora", "ramped", "glra")
SPEEDS = ("small steps", "large steps")
STAGES = np.arange(1, 11) / 10


class Panels:
    """Mean and 95 % interval over the seeds, by stage of training up to u, for one setting at a time."""

    def __init__(self, results: dict[str, dict]):
        """`results` maps a data set's name to the values of its study."""
        self.settings = {
            f"{NAMES[data]}, {title}, {speed}": (data, f"{optimiser}.{lr:g}")
            for data in results
            for optimiser, title in (("adamw", "AdamW"), ("sgd", "SGD"))
            for speed, lr in zip(SPEEDS, RATES[data][optimiser], strict=True)
        }
        self.results = results

    def alt(self, u: float, setting: tuple[str, str]) -> str:
        data, at = setting
        kind, lr = at.split(".", 1)
        values = self.results[data]
        curves = {arm: values[f"{at}.{arm}.test accuracy by stage"]["mean"] for arm in THREE}
        read = ", ".join(
            f"{LOOKS[arm][0]} {100 * np.interp(u, STAGES, curve):.1f} %" for arm, curve in curves.items()
        )
        optimiser = {"adamw": "AdamW", "sgd": "SGD"}[kind]
        omega = values[f"{at}.glra.omega"]["mean"]
        return (
            f"{NAMES[data]}, {optimiser} {lr}, final angle {omega:.2f}, u = {u:.2f} of the training: "
            f"test accuracy {read}."
        )

    @plots.styled
    def draw(self, u: float, setting: tuple[str, str]) -> Figure:
        data, at = setting
        height = 5.35
        fig = Figure(figsize=(plots.WIDTH, height))
        walked = [*STAGES[u - 1e-9 > STAGES], u]
        for j, (what, (title, limits, ticks)) in enumerate(PANELS.items()):
            ax = fig.add_axes((plots.LEFT, (0.44 + 1.13 * (3 - j)) / height, plots.SPAN, 0.83 / height))
            for arm, (_, colour, line, width, mark) in LOOKS.items():
                curve = self.results[data][f"{at}.{arm}.{what} by stage"]
                mean, low, high = (np.interp(walked, STAGES, curve[key]) for key in ("mean", "low", "high"))
                ax.fill_between(walked, np.maximum(low, limits[0]), high, color=colour, alpha=0.2, lw=0)
                ax.plot(walked, mean, color=colour, ls=line, lw=width)
                if mark:
                    ax.plot(u, mean[-1], mark, color=colour, ms=4, clip_on=False, zorder=5)
            ax.axvline(u, color=plots.INK, lw=0.6, alpha=0.4)
            if what != "test accuracy":
                ax.set_yscale("log")
            ax.set(xlim=(0.1, 1), ylim=limits, xticks=[0.1, 0.5, 1], yticks=ticks)
            ax.set_yticklabels([f"{tick:g}" for tick in ticks])
            ax.set_xticklabels(["0.1", "0.5", "1"] if j == 3 else [])
            ax.minorticks_off()
            ax.set_title(title)
        ax.set_xlabel("u, share of training done")
        for j, (name, colour, line, width, _) in enumerate(LOOKS.values()):
            x, y = plots.LEFT + (0, 0.26, 0.52)[j % 3], 0.983 - 0.035 * (j // 3)
            stroke = {"color": colour, "ls": line, "lw": width, "transform": fig.transFigure}
            fig.add_artist(Line2D([x, x + 0.07], [y, y], **stroke))
            fig.text(x + 0.085, y, name, size=9, va="center")
        return fig


@plots.styled
def parting(results: dict[str, dict]) -> Figure:
    """GLRA's distance from ramped LoRA against ω: a dot a run; below, the chaos floor of the same run."""
    fig, ax = plots.panel(height=3.2)
    marks = {"digits": "o", "mnist": "^", "fashion": "D"}
    for data, values in results.items():
        for optimiser, rates in RATES[data].items():
            for lr in rates:
                at = f"{optimiser}.{lr:g}"
                omegas = values[f"{at}.glra.largest omega"]["each"]
                floors = [max(1e-5, floor) for floor in values[f"{at}.chaos floor"]["each"]]
                ax.plot(omegas, floors, "_", color=plots.INK, alpha=0.5, ms=6, mew=1)
                ax.plot(omegas, values[f"{at}.gap to ramped"]["each"], marks[data], color=plots.ROAD, ms=4.5)
    ax.axhline(0.05, color=plots.INK, lw=0.6, alpha=0.4)
    ax.set(
        yscale="log", xlim=(0, 1.5), ylim=(0.7e-5, 1), xticks=[0, 0.5, 1, 1.5], xlabel="largest angle ω (rad)"
    )
    ax.set_xticklabels(["0", "0.5", "1", "1.5"])
    ax.set_yticks([1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1])
    ax.set_yticklabels(["10⁻⁵", "10⁻⁴", "10⁻³", "1 %", "10 %", "100 %"])
    ax.minorticks_off()
    ax.set_title("gap to ramped LoRA, share of the move")
    return fig

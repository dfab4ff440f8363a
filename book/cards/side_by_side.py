"""Stills of page 4B: what all methods answer, how they learned, and the loss of fields that wait."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cards.answers import TASKS, hang, photograph, picture
from geolessons import plots

NAMES = {
    "single": "single task",
    "full": "all weights",
    "lora": "joint LoRA",
    "lora-each": "LoRA a task",
    "literal": "literal",
    "centred": "centred",
    "normalised": "normalised",
    "normalised-4": "… in 4 steps",
    "mtlora": "MTLoRA",
}
FORMS = ("lora", "literal", "centred", "normalised")
LOOKS = {  # colour, dashes, mark, opacity
    "lora": (plots.ADAPTED, "-", "o", 1),
    "full": (plots.CONTROL, (0, (5, 2)), "s", 1),
    "literal": (plots.ROAD, (0, (1, 1.2)), "^", 1),
    "centred": (plots.ROAD, "-", "D", 1),
    "normalised": (plots.INK, "-", None, 0.55),
    "mtlora": (plots.INK, (0, (4, 2)), None, 0.8),
}


@plots.styled
def side_by_side(kept: Mapping[str, np.ndarray], scene: int) -> Figure:
    """A scene, the truth of its four answers, and what each method answers: a row a method."""
    side, gap, left = 0.72, 0.05, 1.06
    rows = ["truth", *(method for method in NAMES if f"{method}.semseg" in kept)]
    height = 0.3 + len(rows) * (side + gap)
    fig = Figure(figsize=(plots.WIDTH, height))
    for j, (task, (word, *_)) in enumerate(TASKS.items()):
        x = (left + j * (side + gap)) / plots.WIDTH
        fig.text(x, 1 - 0.2 / height, word, size=9)
        truth = kept[f"truth.{task}"][scene]
        for i, method in enumerate(rows):
            y = 1 - (0.28 + (i + 1) * (side + gap) - gap) / height
            ax = fig.add_axes((x, y, side / plots.WIDTH, side / height))
            if i:
                hang(ax, picture(task, kept[f"{method}.{task}"][-1, scene], truth))
                if not j:
                    fig.text(0.01, y + side / 2 / height, NAMES[method], size=9, va="center")
            else:
                hang(ax, picture(task, filled(task, truth), truth))
    ax = fig.add_axes((0.01, 1 - (0.28 + side) / height, side / plots.WIDTH, side / height))
    hang(ax, photograph(kept, scene))
    fig.text(0.01, 1 - 0.2 / height, "the scene", size=9)
    return fig


def filled(task: str, truth: np.ndarray) -> np.ndarray:
    """A truth in the form of an answer; its unknown pixels will be under the outline."""
    return np.where(truth == 1, 255, 0) if task == "saliency" else truth


@plots.styled
def losses(values: dict[str, dict]) -> Figure:
    """The training loss by epoch of three forms of the field, beside LoRA's."""
    fig, ax = plots.panel(height=2.75)
    box = ax.get_position()
    ax.set_position((box.x0, box.y0, box.width, box.height - 0.15))
    _key(fig, FORMS, 0.965)
    for method in FORMS:
        _curve(ax, values[f"{method}.loss by epoch"], *LOOKS[method])
    ax.set(ylim=(0, None), xlabel="epoch")
    ax.set_title(f"weighted training loss, n = {values['lora.loss by epoch']['n']}")
    return fig


@plots.styled
def learning(values: dict[str, dict]) -> Figure:
    """The four metrics by epoch for six methods."""
    height, tall = 6.3, 0.98
    fig = Figure(figsize=(plots.WIDTH, height))
    _key(fig, tuple(LOOKS), 0.985)
    for j, (word, metric, *_) in enumerate(TASKS.values()):
        ax = fig.add_axes((plots.LEFT, 1 - (0.68 + j * 1.36 + tall) / height, plots.SPAN, tall / height))
        for method, look in LOOKS.items():
            _curve(ax, values[f"{method}.{metric} by epoch"], *look)
        ax.locator_params(axis="y", nbins=4)
        unit = "mean angle of normals, ° (less is better)" if word == "normals" else f"{word}, mIoU %"
        ax.set_title(unit)
        if j < 3:
            ax.set_xticklabels([])
    ax.set_xlabel("epoch")
    return fig


def _curve(ax, curve: dict, colour: str, dashes, mark: str | None, alpha: float) -> None:
    epochs = range(1, len(curve["mean"]) + 1)
    ax.plot(epochs, curve["mean"], color=colour, ls=dashes, marker=mark, ms=4, lw=1.6, alpha=alpha)
    ax.fill_between(epochs, curve["low"], curve["high"], color=colour, alpha=0.12 * alpha, lw=0)
    ax.set_xlim(0.9, max(len(epochs), 2) + 0.1)
    ax.set_xticks(epochs)


def _key(fig: Figure, methods: tuple[str, ...], y: float) -> None:
    for i, method in enumerate(methods):
        colour, dashes, mark, alpha = LOOKS[method]
        x, at = plots.LEFT + 0.29 * (i % 3), y - 0.2 / fig.get_figheight() * (i // 3)
        style = {"color": colour, "ls": dashes, "marker": mark, "ms": 4, "lw": 1.6, "alpha": alpha}
        fig.add_artist(Line2D([x, x + 0.035, x + 0.07], [at] * 3, markevery=[1], **style))
        fig.text(x + 0.08, at, NAMES[method], size=9, va="center")

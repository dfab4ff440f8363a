"""Card C4.1: one scene and its four answers on the way to the adapted weights, for one method at a time."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from geolessons import plots

METHODS = {
    "joint LoRA": "lora",
    "DELoRA, literal": "literal",
    "DELoRA, centred": "centred",
    "all weights": "full",
}
TASKS = {  # name, metric, dashes and mark
    "semseg": ("classes", "semseg.mIoU", "-", "o"),
    "human_parts": ("parts", "human_parts.mIoU", (0, (5, 2)), "s"),
    "saliency": ("saliency", "saliency.mIoU", (0, (1, 1.2)), "^"),
    "normals": ("normals", "normals.mean angle", "-.", "D"),
}
TS = tuple(i / 10 for i in range(11))
UNKNOWN = 255  # of a label
NOTHING, LIGHT, DARK = (238, 240, 243), (243, 244, 246), (98, 100, 118)
HUES = (plots.ADAPTED, plots.ROAD, plots.PUSH, plots.NOISE, plots.CONTROL, plots.START)
TINTS = np.array([NOTHING, *([round(255 * (0.2 + 0.8 * c)) for c in to_rgb(hue)] for hue in HUES)], np.uint8)
OUTLINE = (1, 2, 3)


def outline(truth: np.ndarray) -> np.ndarray:
    """Where a truth of one picture, (H, W) or (3, H, W), says that nothing is known: its outlines."""
    return ~truth.any(0) if truth.ndim == 3 else truth == UNKNOWN


def picture(task: str, said: np.ndarray, truth: np.ndarray | None = None) -> np.ndarray:
    """An answer as a picture (H, W, 3) of bytes, few different ones, with the true outline in ink.

    Args:
        task: Whose answer it is.
        said: As the study keeps it: class numbers (H, W), saliency 0 to 255 (H, W), a normal (3, H, W).
        truth: Its truth; without it there is no outline.
    """
    if task == "normals":
        found = said.transpose(1, 2, 0) // 16 * 17
    elif task == "saliency":
        share = (said // 16 / 15)[..., None]
        found = (LIGHT + share * np.subtract(DARK, LIGHT)).round().astype(np.uint8)
    else:
        found = TINTS[np.minimum(said, len(TINTS) - 1)]
    if truth is not None:
        found = np.where(outline(truth)[..., None], np.uint8(OUTLINE), found)
    return found.astype(np.uint8)


def photograph(kept: Mapping[str, np.ndarray], scene: int) -> np.ndarray:
    """The scene itself as a picture (H, W, 3) of bytes, few different ones."""
    return (kept["truth.image"][scene].transpose(1, 2, 0) // 16 * 17).astype(np.uint8)


def hang(ax: Axes, image: np.ndarray) -> None:
    """Show a picture, each of its pixels a square, in axes without a frame."""
    ax.set_axis_off()
    ax.imshow(image, interpolation="none")


class Answers:
    """A scene and four answers above; their change against single-task networks, up to t, below."""

    def __init__(self, values: dict[str, dict], kept: Mapping[str, np.ndarray], scene: int = 1):
        """`values` and `kept` are the study's, from its .json and .npz; `scene` is one of four."""
        self.values, self.kept, self.scene = values, dict(kept), scene
        self.stops = METHODS
        roads = [values[f"{m}.road.{task}.change"]["mean"] for m in METHODS.values() for task in TASKS]
        low, high = (float(end(map(end, roads))) for end in (min, max))
        step = 10 if high - low < 60 else 25 if high - low < 200 else 100
        self.limits = step * np.floor(min(low, -1) / step), step * np.ceil(max(high, 1) / step)

    def at(self, t: float, method: str, key: str) -> float:
        """A curve of the road at t: the mean over the seeds, in a straight line between two stops."""
        return float(np.interp(t, TS, self.values[f"{method}.road.{key}"]["mean"]))

    def alt(self, t: float, method: str) -> str:
        name = next(words for words, key in METHODS.items() if key == method)
        read = {task: self.at(t, method, metric) for task, (_, metric, *_) in TASKS.items()}
        return (
            f"{name[0].upper()}{name[1:]}, t = {t:g}: mIoU {read['semseg']:.1f} % of classes, "
            f"{read['human_parts']:.1f} % of parts, {read['saliency']:.1f} % of saliency; normals are "
            f"{read['normals']:.1f}° off."
        )

    @plots.styled
    def draw(self, t: float, method: str) -> Figure:
        height, side = 4.75, 1.13
        fig = Figure(figsize=(plots.WIDTH, height))
        meter = fig.add_axes((plots.LEFT, 0.44 / height, plots.SPAN, 1.2 / height))
        wide, high = side / plots.WIDTH, side / height
        columns = [plots.LEFT + i * (plots.SPAN - wide) / 2 for i in range(3)]
        rows = [1 - 0.24 / height - high, 1 - 0.5 / height - 2 * high]
        i = round(10 * t)  # between two stops, the nearer one's pictures
        hang(fig.add_axes((columns[0], rows[0], wide, high)), photograph(self.kept, self.scene))
        fig.text(columns[0], rows[0] + high + 0.07 / height, "the scene", size=9)
        fig.text(columns[0], rows[1] + 0.55 * high, "ink:\nthe true outline", size=9, va="center")
        for j, (task, (word, _, dashes, mark)) in enumerate(TASKS.items()):
            x, y = columns[1 + j % 2], rows[j // 2]
            said, truth = self.kept[f"{method}.{task}"][i, self.scene], self.kept[f"truth.{task}"][self.scene]
            hang(fig.add_axes((x, y, wide, high)), picture(task, said, truth))
            y += high + 0.115 / height
            style = {"color": plots.ROAD, "ls": dashes, "marker": mark, "ms": 4.5, "mew": 0}
            fig.add_artist(Line2D([x, x + 0.045, x + 0.09], [y, y, y], markevery=[1], **style))
            fig.text(x + 0.105, y - 0.005, word, size=9, va="center")

        walked = [s for s in TS if s < t - 1e-9] + [t]
        for task, (_, _, dashes, mark) in TASKS.items():
            curve = self.values[f"{method}.road.{task}.change"]
            mean, low, high_ = (np.interp(walked, TS, curve[key]) for key in ("mean", "low", "high"))
            band = [np.clip(end, *self.limits) for end in (low, high_)]
            meter.fill_between(walked, *band, color=plots.ROAD, alpha=0.1, lw=0)
            meter.plot(walked, mean, color=plots.ROAD, ls=dashes)
            meter.plot(t, mean[-1], mark, color=plots.ROAD, ms=5, mew=0, clip_on=False, zorder=5)
        meter.axhline(0, color=plots.INK, lw=0.6, alpha=0.4)
        meter.axvline(t, color=plots.INK, lw=0.6, alpha=0.4)
        meter.set(xlim=(0, 1), ylim=self.limits, xticks=[0, 0.5, 1])
        meter.set_xticklabels(["0", "0.5", "1"])
        ticks = np.linspace(self.limits[0], 0, 3)
        meter.set_yticks(ticks)
        meter.set_yticklabels([f"{tick:.0f}".replace("-", "−") for tick in ticks])
        n = self.values[f"{method}.road.semseg.change"]["n"]
        meter.set_title(f"change against single tasks, %, n = {n}")
        meter.set_xlabel("t, from the pre-trained backbone to the adapted one")
        return fig

"""Card C4.2, one rendered scene in any light and pose with its four answers, and stills of such scenes."""

import functools

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from cards.answers import picture
from geolessons import plots
from geolessons.data.dense import TASKS, Dense
from geolessons.data.scenes import draw as plan
from geolessons.data.scenes import render

SIZE = 96
LIGHTS = [0, 15, 30, 45, 60, 75, 90]  # degrees: from the front to the right
POSES = [0.0, 0.15, 0.3, 0.5, 0.7, 0.85, 1.0]
HARDER = (0.0, 0.25, 0.5, 0.75, 1.0)
WORDS = {"semseg": "classes", "human_parts": "human parts", "saliency": "salient", "normals": "normals"}
SEEN = 0.05  # of the way from black to white: what counts as another colour


@functools.cache
def scene(light: float, pose: float) -> Dense:
    """The card's scene, one picture without a leading axis: a person, a box, a ball."""
    return Dense(*(x[0] for x in render(_plan(), SIZE, light=float(light), pose=float(pose))))


@functools.cache
def _plan():
    return plan(1, seed=3, difficulty=0.35, start=8)


def changed(light: float, pose: float) -> tuple[float, float]:
    """Pixels that are not as in the first frame, %: those of the picture, and those with another answer."""
    one, other = scene(LIGHTS[0], POSES[0]), scene(light, pose)
    seen = ((one.image - other.image).abs() > SEEN).any(0)
    told = (one.normals - other.normals).abs().amax(0) > 1e-6
    for a, b in zip(one[1:4], other[1:4], strict=True):
        told |= a != b
    return 100 * float(seen.float().mean()), 100 * float(told.float().mean())


def told(task: str, sample: Dense) -> np.ndarray:
    """A true answer as a picture (H, W, 3) of bytes; what nobody knows, the outlines, is ink."""
    known = getattr(sample, task)
    if task == "normals":
        truth = ((known + 1) * 127.5 * (known != 0).any(0)).round().byte().numpy()
        return picture(task, truth, truth)
    truth = known.byte().numpy()
    return picture(task, 255 * (truth == 1) if task == "saliency" else truth, truth)


def labels(truth: Tensor) -> np.ndarray:
    """Class numbers (H, W) as a picture; what nobody knows is ink."""
    found = truth.byte().numpy()
    return picture("semseg", found, found)


def photo(image: Tensor) -> np.ndarray:
    """An image as a picture (H, W, 3) of bytes; of each colour 32 steps, which keeps the page small."""
    return (image.permute(1, 2, 0) * 31).round().mul(255 / 31).byte().numpy()


def alt(light: float, pose: float) -> str:
    """The caption of a frame."""
    seen, answers = changed(light, pose)
    return (
        f"Light {light:g}° from the front, pose {pose:g}: of the pixels of the first frame "
        f"{seen:.0f} % look different, and {answers:.0f} % have another answer."
    )


def hung(fig: Figure, floor: float, pictures: list[tuple[float, float, float, str, np.ndarray]]) -> None:
    """Hang pictures above a height: left and lower edge, side, name, image; all in inches.

    All share one axes: an axes of its own takes longer to make than a picture to draw.
    """
    wide, high = fig.get_size_inches()
    ax = fig.add_axes((0, floor / high, 1, 1 - floor / high))
    ax.set_axis_off()
    for x, y, side, name, image in pictures:
        ax.imshow(image, interpolation="none", extent=(x, x + side, y, y + side), aspect="auto")
        fig.text(x / wide, (y + side + 0.07) / high, name, size=9)
    ax.set(xlim=(0, wide), ylim=(floor, high))


@plots.styled
def draw(light: float, pose: float) -> Figure:
    """One frame."""
    height, side, small = 4.4, 1.8, 0.8
    fig = Figure(figsize=(plots.WIDTH, height))
    sample = scene(light, pose)
    left, right = plots.LEFT * plots.WIDTH, (plots.LEFT + plots.SPAN) * plots.WIDTH
    pictures = [(left, height - 0.24 - side, side, "the picture", photo(sample.image))]
    for i, task in enumerate(TASKS):
        x, y = right - small - (1 - i % 2) * (small + 0.08), height - 0.24 - small - (i // 2) * (side - small)
        pictures.append((x, y, small, WORDS[task], told(task, sample)))
    hung(fig, 2.2, pictures)

    meter = fig.add_axes((plots.LEFT, 0.44 / height, plots.SPAN, 1.2 / height))
    walked = [a for a in LIGHTS if a < light - 1e-9] + [light]
    key = 0.44 + 1.2 + 0.12
    looks = {
        "the picture": (plots.NOISE, "-.", "o"),
        "any of the four answers": (plots.ADAPTED, "-", "s"),
    }
    for i, (name, (colour, dashes, mark)) in enumerate(looks.items()):
        heights = [changed(a, pose)[i] for a in walked]
        meter.plot(walked, heights, color=colour, ls=dashes)
        meter.plot(light, heights[-1], mark, color=colour, ms=5, clip_on=False, zorder=5)
        place = plots.LEFT + 0.33 * i, key / height
        style = {"color": colour, "ls": dashes, "marker": mark, "ms": 4.5, "markevery": [1]}
        fig.add_artist(Line2D([place[0] + d for d in (0, 0.04, 0.08)], [place[1]] * 3, **style))
        fig.text(place[0] + 0.095, place[1] - 0.003, name, size=9, va="center")
    meter.axvline(light, color=plots.INK, lw=0.6, alpha=0.4)
    meter.set(xlim=(LIGHTS[0], LIGHTS[-1]), ylim=(0, 100), xticks=[0, 45, 90], yticks=[0, 50, 100])
    meter.set_xticklabels(["0° front", "45°", "90° right"])
    meter.get_xticklabels()[0].set_ha("left")
    meter.get_xticklabels()[2].set_ha("right")
    meter.set_title("pixels that are not as in the first frame, %", pad=22)
    meter.set_xlabel("where the light comes from")
    return fig


@plots.styled
def harder() -> Figure:
    """One scene at five difficulties: the picture, and its classes below."""
    height, gap = 1.95, 0.04
    side = (plots.WIDTH * 0.96 - 4 * gap) / 5
    fig = Figure(figsize=(plots.WIDTH, height))
    pictures = []
    for i, difficulty in enumerate(HARDER):
        one = Dense(*(x[0] for x in render(plan(1, seed=3, difficulty=difficulty, start=16), SIZE)))
        x, y = 0.02 * plots.WIDTH + i * (side + gap), height - 0.24 - side
        pictures.append((x, y, side, f"{difficulty:g}", photo(one.image)))
        pictures.append((x, y - side - gap, side, "", told("semseg", one)))
    hung(fig, 0, pictures)
    return fig


@plots.styled
def row(pictures: dict[str, np.ndarray]) -> Figure:
    """Two to four pictures side by side, each named above."""
    count, gap = len(pictures), 0.1
    side = (plots.WIDTH * 0.96 - (count - 1) * gap) / count
    fig = Figure(figsize=(plots.WIDTH, side + 0.3))
    left = 0.02 * plots.WIDTH
    hung(fig, 0, [(left + i * (side + gap), 0.04, side, *named) for i, named in enumerate(pictures.items())])
    return fig


@plots.styled
def two_models(predictions: dict[str, Tensor], errors: dict[str, Tensor]) -> Figure:
    """Two models' normals (3, H, W), and how far off their pixels are: degrees, in any shape."""
    height, side = 3.8, 1.7
    fig = Figure(figsize=(plots.WIDTH, height))
    ax = fig.add_axes((plots.LEFT, 0.44 / height, plots.SPAN, 0.95 / height))
    looks, pictures = ((plots.ROAD, -1), (plots.CONTROL, 1)), []
    for i, ((name, n), (colour, shift)) in enumerate(zip(predictions.items(), looks, strict=True)):
        said = picture("normals", ((n + 1) * 127.5).round().byte().numpy())
        x = (plots.LEFT + i * plots.SPAN) * plots.WIDTH - i * side
        pictures.append((x, height - 0.24 - side, side, f"      {name}", said))
        stroke = [x / plots.WIDTH + 0.005, x / plots.WIDTH + 0.033], [1 - 0.12 / height] * 2
        fig.add_artist(Line2D(*stroke, color=colour, lw=4))
        where, many = np.unique(errors[name].numpy(), return_counts=True)
        ax.bar(where + 1.2 * shift, 100 * many / many.sum(), 2.4, color=colour)
    ax.set(xlim=(0, 120), ylim=(0, 100), xticks=[0, 30, 60, 90, 120], yticks=[0, 50, 100])
    ax.set_title("pixels, %, by how far off they are")
    ax.set_xlabel("angle to the true normal, degrees")
    hung(fig, 1.7, pictures)
    return fig

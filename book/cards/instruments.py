"""Card C1.3: four instruments read the same small angle between two float32 weights."""

import math

import torch
from matplotlib.figure import Figure
from torch import Tensor

from geolessons import angle, plots

TRUE = [1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6]  # ever smaller, as the slider goes
FLOOR = 1e-8  # where the drawing puts a reading of 0, and errors too small to draw


def pair_at(omega: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """W0 (256, 392) and the factors B, A of an update, float64, with W0 and W0 + B·A at angle omega."""
    g = torch.Generator().manual_seed(seed)
    W0, A = (torch.randn(shape, generator=g, dtype=torch.float64) for shape in ((256, 392), (4, 392)))
    B = torch.randn(256, 4, generator=g, dtype=torch.float64)
    low, high = 0.0, 1.0  # the angle grows with the size of the update: halve the interval
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if float(angle(W0, W0 + middle * B @ A)) < omega else (low, middle)
    return W0, low * B, A


def total(x: Tensor) -> Tensor:
    """The sum of all entries, in pairs: the same bits on every processor, and little rounding."""
    x = torch.nn.functional.pad(x.flatten(), (0, (1 << (x.numel() - 1).bit_length()) - x.numel()))
    while len(x) > 1:
        x = x[: len(x) // 2] + x[len(x) // 2 :]
    return x[0]


def length(x: Tensor) -> Tensor:
    """The Euclidean length, in the dtype given."""
    return total(x * x).sqrt()


def by_arccos(u: Tensor, v: Tensor) -> float:
    """The textbook formula, in the dtype given, with the usual clamp."""
    return float(torch.arccos((total(u * v) / (length(u) * length(v))).clamp(-1, 1)))


def by_atan2(u: Tensor, v: Tensor) -> float:
    """Kahan's formula, in the dtype given."""
    u, v = u / length(u), v / length(v)
    return float(2 * torch.atan2(length(u - v), length(u + v)))


def by_factors(W0: Tensor, B: Tensor, A: Tensor) -> float:
    """From W0, B and A, in the dtype given; W0 + B·A is never formed."""
    n0 = length(W0)
    along = total((B.T @ W0) * A) / n0
    across = (total((B.T @ B) * (A @ A.T)) - along**2).clamp(min=0).sqrt()
    return float(torch.atan2(across, n0 + along))


class Instruments:
    """Four readings of one angle above; their relative errors, up to that angle, below."""

    names = ("arccos, float32", "atan2, float32", "float64 sums", "from the factors")
    marks = ("s", "^", "o", "D")
    colours = (plots.CONTROL, plots.START, plots.ROAD, plots.ADAPTED)

    def __init__(self) -> None:
        self.readings: dict[float, list[float]] = {}

    def read(self, omega: float) -> list[float]:
        """What the four instruments say of the true angle omega, in the order of `names`."""
        if omega not in self.readings:
            W0, B, A = pair_at(omega)
            u, v = W0.float(), (W0 + B @ A).float()
            factors = by_factors(W0.float(), B.float(), A.float())
            self.readings[omega] = [by_arccos(u, v), by_atan2(u, v), float(angle(u, v)), factors]
        return self.readings[omega]

    def alt(self, omega: float) -> str:
        r = self.read(omega)
        return (
            f"True angle {omega:.0e}: arccos says {r[0]:.1e}, atan2 in float32 {r[1]:.1e}, "
            f"atan2 with float64 sums {r[2]:.1e}, the factors {r[3]:.1e}."
        )

    @plots.styled
    def draw(self, omega: float) -> Figure:
        fig, above, meter = plots.card(height=4.6, share=0.42)
        above.set(xlim=(math.log10(TRUE[0]), math.log10(TRUE[-1])), ylim=(0.4, 4.3))
        true = math.log10(omega)
        above.axvline(true, color=plots.INK, lw=0.8)
        above.set_title("what each says; the line is the truth", y=1.02)
        for i, value in enumerate(self.read(omega)):
            y = 3.7 - i
            place = math.log10(max(value, FLOOR))
            above.axhline(y, color=plots.INK, lw=0.6, alpha=0.25)
            above.plot(max(place, -6.12), y, self.marks[i], color=self.colours[i], ms=7, clip_on=False)
            left = true < -3.5
            words = f"{self.names[i]}: {value:.1e}"
            side = {"ha": "left", "x": 0.0} if left else {"ha": "right", "x": 1.0}
            above.text(y=y + 0.12, s=words, size=9, transform=_along(above), va="bottom", **side)
        walked = [w for w in TRUE if w >= omega * (1 - 1e-9)]
        for i, (mark, colour) in enumerate(zip(self.marks, self.colours, strict=True)):
            errors = [max(abs(self.read(w)[i] - w) / w, FLOOR) for w in walked]
            meter.plot(walked, errors, color=colour, marker=mark, ms=4, lw=1.5)
        meter.set(xscale="log", yscale="log", xlim=(TRUE[0], TRUE[-1]), ylim=(FLOOR, 1e3))
        meter.set_yticks([1e-8, 1e-4, 1, 1e3])
        meter.set_yticklabels(["10⁻⁸", "10⁻⁴", "1", "10³"])
        meter.set_xticks([1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6])
        meter.set_xticklabels(["0.1", "10⁻²", "10⁻³", "10⁻⁴", "10⁻⁵", "10⁻⁶"])
        meter.minorticks_off()
        meter.get_xticklabels()[-1].set_horizontalalignment("right")
        meter.axhline(1, color=plots.INK, lw=0.6, alpha=0.4)
        meter.axvline(omega, color=plots.INK, lw=0.6, alpha=0.4)
        meter.set_title("relative error")
        meter.set_xlabel("true angle ω (rad)")
        return fig


def _along(ax):
    """Horizontal place as a share of the axes, height in data coordinates."""
    return ax.get_yaxis_transform()

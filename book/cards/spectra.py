"""Card C2.4: the singular values of an update, and how many of them are not zero."""

import functools

import torch
from matplotlib.figure import Figure
from torch import Tensor

from geolessons import plots
from geolessons.adapters import LoRA
from geolessons.fields import SoftmaxField

WIDTH, RANK = 96, 8
SPREADS = [5e-5, 1.5e-4, 5e-4, 1.5e-3, 5e-3, 1.5e-2, 5e-2, 0.15, 0.5, 1.5, 5.0]
SEEN = {torch.float64: 1e-13, torch.float32: 1e-6}  # shares of the largest singular value that count
FLOOR = 1e-17  # where the drawing puts a singular value of 0
LOOKS = {
    torch.float64: ("field, float64", plots.PUSH, "-", "o"),
    torch.float32: ("field, float32", plots.NOISE, "-.", "^"),
}


@functools.cache
def frozen() -> Tensor:
    """W0 (96, 96) of the usual size, float64."""
    generator = torch.Generator().manual_seed(0)
    return 0.02 * torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64)


@functools.cache
def spectrum(spread: float, dtype: torch.dtype) -> Tensor:
    """The singular values of the field's update, as shares of the largest; the logits spread by `spread`."""
    generator = torch.Generator().manual_seed(100)
    field = SoftmaxField((WIDTH, WIDTH), RANK, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        field.W1.mul_(spread / field.logits(frozen()).std())
        update = field.to(dtype)(frozen().to(dtype))
    found = torch.linalg.svdvals(update.double())
    return found / found[0]


@functools.cache
def of_lora() -> Tensor:
    """The same of an update of LoRA with as many parameters."""
    generator = torch.Generator().manual_seed(100)
    lora = LoRA((WIDTH, WIDTH), RANK, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        lora.B.normal_(generator=generator)
        found = torch.linalg.svdvals(lora.scale * lora.B @ lora.A)
    return found / found[0]


def rank(spread: float, dtype: torch.dtype) -> int:
    """How many singular values count in this format."""
    return int((spectrum(spread, dtype) > SEEN[dtype]).sum())


def alt(spread: float) -> str:
    """The caption of a frame."""
    double, single = rank(spread, torch.float64), rank(spread, torch.float32)
    return (
        f"Logits spread by {spread:g}: the update has rank {double} in float64 and {single} in float32, "
        f"LoRA's has {RANK}."
    )


@plots.styled
def draw(spread: float) -> Figure:
    """One frame."""
    fig, above, meter = plots.card(height=4.9, share=0.5)
    above.set_axis_on()
    box = above.get_position()
    above.set_position((box.x0, box.y0 + 0.07, box.width, box.height - 0.07))
    number = list(range(1, WIDTH + 1))
    for dtype, (_, colour, dashes, mark) in LOOKS.items():
        values = spectrum(spread, dtype).clamp(min=FLOOR)
        above.plot(number, values, color=colour, ls=dashes, lw=1.5)
        above.plot(number[::8], values[::8], mark, color=colour, ms=4)
    values = of_lora().clamp(min=FLOOR)[: RANK + 1]
    above.plot(number[: RANK + 1], values, "s-", color=plots.ADAPTED, lw=1.5, ms=4)
    names = [*LOOKS.values(), ("LoRA", plots.ADAPTED, "-", "s")]
    for (name, colour, dashes, mark), height in zip(names, (1e-12, 3e-14, 1e-15), strict=True):
        above.plot([11, 16], [height] * 2, ls=dashes, color=colour, lw=1.5)
        above.plot(13.5, height, mark, color=colour, ms=4)
        above.text(17.5, height, name, size=9, va="center")
    above.set(xlim=(0, WIDTH + 1), ylim=(FLOOR / 5, 5), yscale="log", xticks=[1, 8, 24, 48, 72, 96])
    above.set_yticks([1, 1e-5, 1e-10, 1e-15])
    above.set_yticklabels(["1", "10⁻⁵", "10⁻¹⁰", "10⁻¹⁵"])
    above.minorticks_off()
    above.set_title("singular values in order, share of the largest")

    walked = [s for s in SPREADS if s < spread * (1 - 1e-9)] + [spread]
    for dtype, (_, colour, dashes, mark) in LOOKS.items():
        ranks = [rank(s, dtype) for s in walked]
        meter.plot(walked, ranks, color=colour, ls=dashes, marker=mark, ms=4)
    meter.plot(walked, [RANK] * len(walked), color=plots.ADAPTED, marker="s", ms=4)
    meter.axvline(spread, color=plots.INK, lw=0.6, alpha=0.4)
    meter.set(xscale="log", xlim=(SPREADS[0], SPREADS[-1]), ylim=(0, 108), yticks=[8, 45, 96])
    meter.set_xticks([1e-4, 1e-3, 1e-2, 1e-1, 1])
    meter.set_xticklabels(["10⁻⁴", "10⁻³", "0.01", "0.1", "1"])
    meter.minorticks_off()
    meter.set_title("numerical rank of the update")
    meter.set_xlabel("spread of the logits")
    return fig

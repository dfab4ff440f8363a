"""Card C3.2: one walk inside LoRA's directions, one outside of them, one anywhere; what each costs."""

import functools

import numpy as np
import torch
from matplotlib.figure import Figure

from geolessons import plots
from geolessons.data import digits
from geolessons.running_example import adapt, pretrain
from geolessons.studies.insides import SHARES, SIDES, tangents_of
from geolessons.trees import Params, norm, params_of

SETTINGS = {
    f"{task} digits, rank {rank}": f"{task}.{rank}" for task in ("tilted", "lying") for rank in (8, 2)
}
LOOKS = {
    "inside": ("inside", plots.ADAPTED, "-", "o"),
    "outside": ("outside", plots.CONTROL, (0, (5, 3)), "s"),
    "anywhere": ("anywhere", plots.NOISE, "-.", "D"),
}
NEURONS = (0, 1, 2, 3)
FLOOR = 5e-5


@functools.cache
def walks(setting: str) -> tuple[Params, dict[str, Params]]:
    """The matrices LoRA found, and for each side one random direction as long as they are; seed 0."""
    task, rank = setting.split(".")
    model = pretrain(digits("upright"), seed=0)
    W1 = adapt(model, digits(task), 0, rank=int(rank))
    tangents = tangents_of(params_of(model), W1, int(rank))
    W = {name: W1[name] for name in tangents}
    generator = torch.Generator().manual_seed(0)
    z = {k: torch.randn(w.shape, generator=generator, dtype=w.dtype) for k, w in W.items()}
    sides = {
        "inside": {k: t.inside(z[k]) for k, t in tangents.items()},
        "outside": {k: t.outside(z[k]) for k, t in tangents.items()},
        "anywhere": z,
    }
    length = norm(W)
    return W, {name: {k: v * (length / norm(V)) for k, v in V.items()} for name, V in sides.items()}


class Insides:
    """Neurons of the first matrix after the walks above; the rise of the loss, up to ρ, below."""

    def __init__(self, values: dict[str, dict]):
        """`values` are those of the study `insides`."""
        self.values = values
        self.stops = SETTINGS

    def rise(self, rho: float, setting: str, side: str) -> dict[str, float]:
        """The rise of the training loss, mean and 95 % interval over the seeds; between stops on a line."""
        stops = [self.values[f"{setting}.{side}.{share:g}"] for share in SHARES]
        return {
            end: float(np.interp(rho, (0.0, *SHARES), [0.0, *(stop[end] for stop in stops)]))
            for end in ("mean", "low", "high")
        }

    def alt(self, rho: float, setting: str) -> str:
        name = next(words for words, key in SETTINGS.items() if key == setting)
        inside, outside = (self.rise(rho, setting, side)["mean"] for side in ("inside", "outside"))
        start = f"{name[0].upper()}{name[1:]}, a walk of {rho:g} of the weights' length"
        if rho == 0:
            return f"{start}: the loss has not moved."
        return (
            f"{start}: the loss rises by {inside:.4f} inside LoRA's directions and by {outside:.4f} outside."
        )

    def mosaic(self, rho: float, setting: str, side: str) -> np.ndarray:
        """Four neurons of the first matrix, 8 × 8 inputs each, two by two, after the walk."""
        W, directions = walks(setting)
        moved = W["fc1.weight"] + rho * directions[side]["fc1.weight"]
        tiles = np.pad(
            moved[list(NEURONS)].reshape(2, 2, 8, 8).numpy(),
            ((0, 0), (0, 0), (0, 1), (0, 1)),
            constant_values=np.nan,
        )
        return tiles.transpose(0, 2, 1, 3).reshape(18, 18)[:-1, :-1]

    @plots.styled
    def draw(self, rho: float, setting: str) -> Figure:
        fig, above, meter = plots.card(height=5.0, share=0.44)
        limit = float(np.nanmax(np.abs(self.mosaic(0.0, setting, "anywhere")))) * 1.1
        grey = {"cmap": "gray", "vmin": -limit, "vmax": limit, "interpolation": "none", "aspect": "auto"}
        for i, side in enumerate(SIDES):
            picture = np.ma.masked_invalid(self.mosaic(rho, setting, side))
            above.imshow(picture, extent=(i + 0.04, i + 0.92, 0, 0.98), **grey)
            text, colour, dashes, mark = LOOKS[side]
            above.plot([i + 0.06, i + 0.3], [1.1, 1.1], color=colour, ls=dashes)
            above.plot(i + 0.18, 1.1, mark, color=colour, ms=5)
            above.text(i + 0.36, 1.1, text, size=9, va="center")
        above.set(xlim=(0, 3), ylim=(-0.02, 1.2))
        above.set_title("four neurons' weights after the walk", x=0)

        walked = [s for s in SHARES if s < rho - 1e-9] + ([rho] if rho else [])
        for side, (_, colour, dashes, mark) in LOOKS.items():
            if not walked:
                meter.plot(0, FLOOR, mark, color=colour, ms=5, clip_on=False)
                continue
            rises = [self.rise(s, setting, side) for s in walked]
            low, high = ([max(r[end], FLOOR) for r in rises] for end in ("low", "high"))
            meter.fill_between(walked, low, high, color=colour, alpha=0.2, lw=0)
            meter.plot(walked, [r["mean"] for r in rises], color=colour, ls=dashes)
            meter.plot(rho, rises[-1]["mean"], mark, color=colour, ms=5, clip_on=False, zorder=5)
        meter.axvline(rho, color=plots.INK, lw=0.6, alpha=0.4)
        meter.set(xlim=(0, 0.3), ylim=(FLOOR, 2), yscale="log", xticks=[0, 0.1, 0.2, 0.3])
        meter.set_yticks([1e-4, 1e-2, 1])
        meter.set_yticklabels(["10⁻⁴", "0.01", "1"])
        meter.minorticks_off()
        meter.set_title("rise of the training loss (nats, log), n = 5")
        meter.set_xlabel("ρ, length of the walk as a share of ‖W‖")
        return fig

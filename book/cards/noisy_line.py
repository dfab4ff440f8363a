"""Card C3.5: the line from LoRA to Flat-LoRA, and where the average over noise is lowest on it."""

from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure

from geolessons import plots
from geolessons.studies.noisy_line import PLACES, SIGMAS, TRAINED, lowest

HIGHEST = 0.1  # nats above the lowest point: what the map shows


class NoisyLine:
    """The training loss and its average over noise, up to t, above; the lowest place, up to σ, below."""

    def __init__(self, values: dict[str, dict]):
        """`values` are those of the study `noisy_line`."""
        self.values = values

    def curve(self, sigma: float) -> np.ndarray:
        """The training loss averaged over noise at each of PLACES, mean over the seeds."""
        return self._between(sigma, lambda s: [self.values[f"{s:g}.{t:g}"]["mean"] for t in PLACES])

    def lowest(self, sigma: float) -> float:
        """Where that curve is lowest."""
        return lowest(PLACES, self.curve(sigma).tolist())

    def seeds(self, sigma: float) -> list[float]:
        """Where each seed's own curve is lowest."""
        return self._between(sigma, lambda s: self.values[f"{s:g}.lowest"]["each"]).tolist()

    @staticmethod
    def _between(sigma: float, at: Callable[[float], list[float]]) -> np.ndarray:
        """What is known at SIGMAS, and between two of them on a line."""
        known = np.array([at(s) for s in SIGMAS])
        return np.array([np.interp(sigma, SIGMAS, column) for column in known.T])

    def alt(self, sigma: float, t: float) -> str:
        loss, at = float(np.interp(t, PLACES, self.curve(sigma))), self.lowest(sigma)
        low, high = min(self.seeds(sigma)), max(self.seeds(sigma))
        return (
            f"The training loss averaged over noise of {sigma:g} is {loss:.3f} at t = {t:g}; "
            f"it is lowest at t = {at:.2f} (by seed {low:.2f} to {high:.2f})."
        )

    @plots.styled
    def draw(self, sigma: float, t: float) -> Figure:
        fig, above, meter = plots.card(height=4.5, share=0.52)
        above.set_axis_on()
        box = above.get_position()
        above.set_position((box.x0, box.y0 + 0.08, box.width, box.height - 0.08))
        walked = [s for s in PLACES if s < t] + [t]
        for strength in sorted({0.0, sigma}):
            colour, dashes, mark = (plots.NOISE, "-.", "D") if strength else (plots.INK, "-", "o")
            rise = self.curve(strength) - self.curve(strength).min()
            shown = np.interp(walked, PLACES, rise)
            above.plot(walked, shown, color=colour, ls=dashes)
            above.plot(t, shown[-1], mark, color=colour, ms=5, clip_on=False, zorder=5)
        place = self.lowest(sigma)
        if t >= place:
            above.plot(place, -0.005, "^", color=plots.ADAPTED, ms=7, clip_on=False, zorder=6)
        for end, text in ((0, "LoRA"), (1, "Flat-LoRA")):
            above.axvline(end, color=plots.INK, lw=0.6, alpha=0.4, ymax=0.88)
            above.text(end, HIGHEST, text, size=9, ha="center", va="top")
        above.set(xlim=(-1, 2), ylim=(-0.01, HIGHEST), xticks=[-1, 0, 1, 2], yticks=[0, 0.05, HIGHEST])
        above.set_title("training loss above its lowest point (nats)")
        above.set_xlabel("t")

        stops = [s for s in SIGMAS if s < sigma] + [sigma]
        for s in stops:
            meter.plot([s] * len(self.seeds(s)), self.seeds(s), ".", color=plots.NOISE, ms=6, clip_on=False)
        meter.plot(stops, [self.lowest(s) for s in stops], color=plots.NOISE, ls="-.")
        meter.plot(sigma, place, "^", color=plots.ADAPTED, ms=7, clip_on=False, zorder=6)
        test = lowest(PLACES, [self.values[f"test.{s:g}"]["mean"] for s in PLACES])
        meter.axhline(test, color=plots.INK, lw=0.8, ls=":")
        for height, text in ((test, "lowest test loss"), (0.0, "LoRA")):
            meter.text(0.79, height + 0.04, text, size=9, ha="right", va="bottom")
        meter.text(0.01, 1.04, "Flat-LoRA", size=9, va="bottom")
        for height in (0, 1):
            meter.axhline(height, color=plots.INK, lw=0.6, alpha=0.4)
        meter.axvline(sigma, color=plots.INK, lw=0.6, alpha=0.4)
        meter.set(xlim=(0, 0.8), ylim=(-0.2, 2.05), yticks=[0, 1, 2])
        meter.set_xticks([*SIGMAS[:3], TRAINED, SIGMAS[-1]])
        meter.set_xticklabels(["0", "0.15", "0.3", "0.5", "0.8"])
        meter.set_title("where it is lowest: t, mean and each seed")
        meter.set_xlabel("σ of the averaging")
        return fig

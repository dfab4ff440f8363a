"""On the line from LoRA to Flat-LoRA, where is the average loss lowest?

    L_σ(t) = E_ε L(W(t) + ε),   W(t) = (1 − t)·W_LoRA + t·W_Flat

Chapter 3.  Expected: a seed takes half a minute.  Flat-LoRA (arXiv 2409.14396v1, Eq. 4) descends the loss
averaged over noise.  Here both end points come from the study `flat_lora_digits` (tilted digits, rank 8, one
seed; Flat-LoRA with σ = 0.5).  The training loss is averaged over noise of five sizes along their line.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import cross_entropy

from geolessons.estimates import expected_loss, loss_of
from geolessons.paths import Line
from geolessons.studies.flat_lora_digits import train
from geolessons.studies.glra import task
from geolessons.studies.record import main

__all__ = ["PLACES", "SIGMAS", "TRAINED", "lowest", "one_seed"]

PLACES = tuple(i / 4 - 1 for i in range(13))  # t from −1 to 2
SIGMAS = (0.0, 0.15, 0.3, 0.5, 0.8)
TRAINED = 0.5
DRAWS = 40


def lowest(ts: Sequence[float], losses: Sequence[float]) -> float:
    """Where the loss is lowest: the vertex of the parabola through the lowest point and its neighbours.

    An end stays an end: beyond it nothing was measured.

    Args:
        ts: Places at equal distances, rising.
        losses: The loss at each.

    Example:
        >>> lowest([0.0, 1.0, 2.0, 3.0], [(t - 1.25) ** 2 for t in (0, 1, 2, 3)])
        1.25
    """
    i = min(range(len(ts)), key=losses.__getitem__)
    if i in (0, len(ts) - 1):
        return ts[i]
    left, middle, right = losses[i - 1 : i + 2]
    bend = left - 2 * middle + right
    return ts[i] + (ts[1] - ts[0]) * (left - right) / (2 * bend) if bend > 0 else ts[i]


def one_seed(seed: int, *, draws: int = DRAWS) -> dict[str, float]:
    """All values of a seed: `0.5.-0.25` for L_σ at σ = 0.5 and t = −0.25, `0.5.lowest`, `test.lowest`."""
    model, split = task("digits", seed)
    ends = (train(model, split, name, seed, "digits") for name in ("r8.0", f"r8.{TRAINED:g}"))
    line = Line(*ends, extrapolate=True)
    loss = loss_of(model, lambda run: cross_entropy(run(split.x_train), split.y_train))
    test = loss_of(model, lambda run: cross_entropy(run(split.x_test), split.y_test))
    curves: dict[str, list[float]] = {"test": []}
    with torch.no_grad():
        curves["test"] = [float(test(line.at(t))) for t in PLACES]
    for sigma in SIGMAS:
        curves[f"{sigma:g}"] = [
            # the same relative noise at each place
            expected_loss(
                loss,
                line.at(t),
                sigma,
                count=draws if sigma else 1,
                generator=torch.Generator().manual_seed(seed),
            ).value
            for t in PLACES
        ]
    found = {f"{name}.{t:g}": x for name, xs in curves.items() for t, x in zip(PLACES, xs, strict=True)}
    return found | {f"{name}.lowest": lowest(PLACES, xs) for name, xs in curves.items()}


if __name__ == "__main__":
    main("noisy_line", __doc__, one_seed)

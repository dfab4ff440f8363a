"""Does it matter whether the road between two networks is straight or round?

Chapter 1; about 15 s a seed.

Loss and accuracy half-way, the highest loss on the way, and lengths, on both roads between four pairs: two
seeds; two seeds with neurons matched; a network and its renamed self; our network and its LoRA.
Beside them the largest gap between the two roads in each layer against ω²/8.
"""

from __future__ import annotations

import torch

from geolessons.alignment import match, random_renaming, rename
from geolessons.data import digits
from geolessons.metrics import loss_and_accuracy
from geolessons.paths import Line, Slerp, evaluate, length
from geolessons.running_example import adapt, pretrain
from geolessons.sphere import angle
from geolessons.studies.record import main
from geolessons.trees import Params, axpy, flatten, norm, params_of

__all__ = ["largest_gap", "one_seed"]

GRID = [i / 20 for i in range(21)]
GAP_RATES = (3e-4, 1e-3, 3e-3)


def one_seed(seed: int) -> dict[str, float]:
    """All values of one seed, by name; the second network has the seed 100 + seed."""
    upright, lying = digits("upright"), digits("lying")
    model = pretrain(upright, seed)
    W0, other = params_of(model), params_of(pretrain(upright, 100 + seed))
    renamed = rename(W0, random_renaming(W0, torch.Generator().manual_seed(1000 + seed)))
    pairs = {
        "seeds": (W0, other, upright),
        "matched": (W0, rename(other, match(other, W0)), upright),
        "renamed": (W0, renamed, upright),
        "lora": (W0, adapt(model, lying, seed), lying),
    }
    found: dict[str, float] = {}
    for name, (start, end, data) in pairs.items():
        metric = loss_and_accuracy(data.x_test, data.y_test)
        found[f"{name}.angle"] = float(angle(flatten(start), flatten(end)))
        for layer in ("fc1", "fc2", "fc3"):
            found[f"{name}.{layer}.angle"] = float(angle(start[f"{layer}.weight"], end[f"{layer}.weight"]))
        half = len(GRID) // 2
        for kind, road in (("straight", Line(start, end)), ("round", Slerp(start, end))):
            values = evaluate(road, model, metric, GRID).values
            losses, shares = zip(*values, strict=True)
            found |= {
                f"{name}.{kind}.loss": losses[half],
                f"{name}.{kind}.read": shares[half],
                f"{name}.{kind}.top": max(losses),
                f"{name}.{kind}.norm": float(2 * norm(road.at(0.5)) / (norm(start) + norm(end))),
                f"{name}.{kind}.length": float(length(road)),
            }
        for what in ("loss", "read"):  # paired: the same two networks on both roads
            both = (found[f"{name}.{kind}.{what}"] for kind in ("round", "straight"))
            found[f"{name}.difference.{what}"] = next(both) - next(both)
    for rate in GAP_RATES:
        W1 = adapt(model, lying, seed, lr=rate)
        for layer in ("fc1.weight", "fc2.weight", "fc3.weight"):
            gap, omega = largest_gap({"W": W0[layer]}, {"W": W1[layer]})
            key = f"gap.{rate:g}.{layer.removesuffix('.weight')}"
            found |= {key: gap, f"{key}.angle": omega, f"{key}.law": omega**2 / 8}
    return found


def largest_gap(W0: Params, W1: Params) -> tuple[float, float]:
    """The largest distance between the two roads at equal t, as a share of ‖W0‖, and the angle ω."""
    straight, curved = Line(W0, W1), Slerp(W0, W1)
    gaps = [float(norm(axpy(-1, straight.at(t), curved.at(t)))) for t in GRID]
    return max(gaps) / float(norm(W0)), float(angle(flatten(W0), flatten(W1)))


if __name__ == "__main__":
    main("roads", __doc__, one_seed)

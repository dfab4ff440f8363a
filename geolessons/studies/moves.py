"""How far does a network move when it learns a new task?

Chapter 0; about 15 s a seed.

Our network learns upright digits, then lying ones by LoRA.  Measured: what it reads along the straight road
and beyond, how long and how turned the move is, at three learning rates and on tilted digits, and
two places that are far away on the map and near, or equal, in behaviour.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geolessons.alignment import random_renaming, rename
from geolessons.data import digits
from geolessons.metrics import accuracy, loss_and_accuracy
from geolessons.paths import Line, evaluate
from geolessons.running_example import adapt, pretrain
from geolessons.sphere import angle
from geolessons.studies.record import main
from geolessons.trees import Params, flatten, params_of

__all__ = ["crossing", "move_size", "one_seed"]

STOPS = (-0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
RATES = (1e-3, 3e-3, 1e-2)


def one_seed(seed: int) -> dict[str, float]:
    """All values of one seed, by name."""
    upright, lying, tilted = digits("upright"), digits("lying"), digits("tilted")
    model = pretrain(upright, seed)
    W0 = params_of(model)
    found: dict[str, float] = {}
    for rate in RATES:
        W1 = adapt(model, lying, seed, lr=rate)
        found |= move_size(W0, W1, f"lying.{rate:g}")
        found[f"lying.{rate:g}.read"] = _read(Line(W0, W1), model, lying.x_test, lying.y_test, [1.0])[0]
    found |= move_size(W0, adapt(model, tilted, seed), "tilted.0.003")

    W1 = adapt(model, lying, seed)
    road = Line(W0, W1, extrapolate=True)
    for what, data in (("new", lying), ("old", upright)):
        shares = _read(road, model, data.x_test, data.y_test, STOPS)
        found |= {f"{what}.{t:g}": share for t, share in zip(STOPS, shares, strict=True)}
    grid = [i / 100 for i in range(101)]
    new = _read(road, model, lying.x_test, lying.y_test, grid)
    old = _read(road, model, upright.x_test, upright.y_test, grid)
    found["crossing"] = crossing(grid, old, new)

    def answers(run: object) -> Tensor:
        return torch.softmax(run(lying.x_test), 1)  # type: ignore[operator]

    start, end = evaluate(road, model, answers, [0.0, 1.0]).values
    mixes = (0.25, 0.5, 0.6, 0.75)
    weights = _read(road, model, lying.x_test, lying.y_test, mixes)
    for t, mixed_weights in zip(mixes, weights, strict=True):
        mixed_answers = accuracy((1 - t) * start + t * end, lying.y_test)
        found[f"answers mixed.{t:g}"], found[f"weights mixed.{t:g}"] = mixed_answers, mixed_weights
        found[f"mixed difference.{t:g}"] = mixed_answers - mixed_weights
    return found | _elsewhere(model, W0, seed)


def _elsewhere(model: nn.Module, W0: Params, seed: int) -> dict[str, float]:
    """Renamed neurons and permuted inputs: far on the map, near in behaviour."""
    upright, lying = digits("upright"), digits("lying")
    orders = random_renaming(W0, torch.Generator().manual_seed(1000 + seed))
    still = torch.arange(len(orders[1]))
    found = {}
    for name, chosen in (("one layer", [orders[0], still]), ("both layers", orders)):
        road = Line(W0, rename(W0, chosen))
        found[f"renamed {name}"], end = _read(road, model, upright.x_test, upright.y_test, [0.5, 1.0])
        found[f"renamed {name}, end"] = end
    turned = torch.rot90(torch.arange(64).reshape(8, 8), 1).reshape(64)
    there = dict(W0)
    there["fc1.weight"] = W0["fc1.weight"][:, turned]  # the same quarter turn, done to the inputs
    found["permuted inputs"] = _read(Line(W0, there), model, lying.x_test, lying.y_test, [1.0])[0]
    found["permuted inputs, angle"] = float(angle(W0["fc1.weight"], there["fc1.weight"]))
    return found


def move_size(W0: Params, W1: Params, name: str) -> dict[str, float]:
    """Relative length and angle (rad) of a move, for each matrix that moved, and for all numbers together."""
    found = {}
    for key, W in W0.items():
        if W.dim() == 2 and not torch.equal(W, W1[key]):
            layer = key.removesuffix(".weight")
            found[f"{name}.{layer}.share"] = float((W1[key] - W).norm() / W.norm())
            found[f"{name}.{layer}.angle"] = float(angle(W, W1[key]))
            found[f"{name}.{layer}.length"] = float(W1[key].norm() / W.norm())
    u, v = flatten(W0), flatten(W1)
    return found | {f"{name}.share": float((v - u).norm() / u.norm()), f"{name}.angle": float(angle(u, v))}


def crossing(ts: list[float], falling: list[float], rising: list[float]) -> float:
    """The first t at which `rising` overtakes `falling`, interpolated between grid points.

    Raises:
        ValueError: If it never does.
    """
    gaps = [new - old for new, old in zip(rising, falling, strict=True)]
    for i in range(1, len(ts)):
        if gaps[i - 1] < 0 <= gaps[i]:
            return ts[i - 1] + (ts[i] - ts[i - 1]) * -gaps[i - 1] / (gaps[i] - gaps[i - 1])
    raise ValueError("the two curves do not cross")


def _read(road: Line, model: nn.Module, x: Tensor, y: Tensor, ts: object) -> list[float]:
    curve = evaluate(road, model, loss_and_accuracy(x, y), ts)  # type: ignore[arg-type]
    return [share for _, share in curve.values]


if __name__ == "__main__":
    main("moves", __doc__, one_seed)

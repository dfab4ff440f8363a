"""Is the land flat inside the directions that LoRA can train, and sharp outside of them?

    mean curvature = tr(PHP)/dim P,    rise(ρ) = E_v L(W + ρ·‖W‖·v) − L(W),   v a unit direction in P

Chapter 3.  Flat-LoRA (arXiv 2409.14396v1, Figure 1) sketches a point that is flat inside LoRA's space and may
be sharp outside.  Here the training loss of our network is measured around what LoRA found: its curvature and
its rise on walks inside LoRA's tangent directions, outside of them, and anywhere.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from geolessons.curvature import eigenvalues, mean_curvature
from geolessons.data import digits
from geolessons.estimates import Loss, estimate, loss_of
from geolessons.running_example import adapt, pretrain
from geolessons.studies.record import main
from geolessons.tangents import Tangent, tangent_projector
from geolessons.trees import Params, axpy, norm

__all__ = ["RANKS", "SHARES", "SIDES", "TASKS", "one_seed", "rises", "tangents_of", "top"]

RANKS = (2, 8)
TASKS: tuple[Literal["tilted", "lying"], ...] = ("tilted", "lying")
HALVES: tuple[Literal["inside", "outside"], ...] = ("inside", "outside")
SIDES = (*HALVES, "anywhere")
SHARES = tuple(i / 40 for i in range(1, 13))  # up to 0.3
DRAWS = 20


def tangents_of(W0: Params, W1: Params, rank: int) -> dict[str, Tangent]:
    """LoRA's tangent directions at each matrix, from the move: BA has the columns of B and the rows of A."""
    found = {}
    for name, move in axpy(-1, W0, W1).items():
        if move.dim() == 2:
            U, s, Vh = torch.linalg.svd(move.double(), full_matrices=False)
            r = min(rank, *move.shape)
            found[name] = tangent_projector(Vh[:r], U[:, :r] * s[:r])
    return found


def _on(side: str, tangents: dict[str, Tangent], X: Params) -> Params:
    if side == "anywhere":
        return X
    return {k: t.inside(X[k]) if side == "inside" else t.outside(X[k]) for k, t in tangents.items()}


def top(loss: Loss, W: Params, tangents: dict[str, Tangent], side: str, seed: int) -> float:
    """The largest eigenvalue of PHP, with P onto one side; to a thousandth."""
    zeros = {k: torch.zeros_like(W[k]) for k in tangents}

    def moved(X: Params) -> torch.Tensor:
        return loss({**W, **{k: W[k] + x for k, x in _on(side, tangents, X).items()}})

    generator = torch.Generator().manual_seed(seed)
    return eigenvalues(moved, zeros, generator=generator, order="algebraic")[0].value


def rises(
    loss: Loss, W: Params, tangents: dict[str, Tangent], side: str, seed: int, *, draws: int = DRAWS
) -> list[float]:
    """The mean rise of the loss at each of SHARES, over random directions of one side."""
    generator = torch.Generator().manual_seed(seed)
    weights = {k: W[k] for k in tangents}
    length = float(norm(weights))
    found: list[list[float]] = [[] for _ in SHARES]
    with torch.no_grad():
        start = float(loss(W))
        for _ in range(draws):
            z = {k: torch.randn(w.shape, generator=generator, dtype=w.dtype) for k, w in weights.items()}
            v = _on(side, tangents, z)
            size = float(norm(v))
            for kept, share in zip(found, SHARES, strict=True):
                step = share * length / size
                kept.append(float(loss({**W, **axpy(step, v, weights)})) - start)
    return [estimate(kept).value for kept in found]


def one_seed(seed: int) -> dict[str, float]:
    """All values of a seed: `tilted.8.inside.mean`, `tilted.8.ratio.mean`, `lying.2.inside.0.1`."""
    model: nn.Module = pretrain(digits("upright"), seed)
    W0 = {k: p.detach().clone() for k, p in model.named_parameters()}
    found: dict[str, float] = {}
    for task in TASKS:
        data = digits(task)
        x, y = data.x_train, data.y_train
        loss = loss_of(model, lambda run, x=x, y=y: cross_entropy(run(x), y))  # type: ignore[misc]
        for rank in RANKS:
            at = f"{task}.{rank}"
            W = adapt(model, data, seed, rank=rank)
            P = tangents_of(W0, W, rank)
            size = sum(math.prod(t.shape) for t in P.values())
            found[f"{at}.share"] = sum(t.dimension for t in P.values()) / size
            for way in SIDES:
                for share, rise in zip(SHARES, rises(loss, W, P, way, seed), strict=True):
                    found[f"{at}.{way}.{share:g}"] = rise
            for side in HALVES:
                generator = torch.Generator().manual_seed(seed)
                mean = mean_curvature(loss, W, P, side, generator=generator)
                found[f"{at}.{side}.mean"], found[f"{at}.{side}.error"] = mean.value, mean.stderr
                found[f"{at}.{side}.top"] = top(loss, W, P, side, seed)
            for what in ("mean", "top", "0.1"):
                found[f"{at}.ratio.{what}"] = found[f"{at}.inside.{what}"] / found[f"{at}.outside.{what}"]
    return found


if __name__ == "__main__":
    main("insides", __doc__, one_seed)

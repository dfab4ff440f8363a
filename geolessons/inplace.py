"""Noise in place: add it to the weights, take it off again.  A memory trick, and what it costs.

Flat-LoRA's published code adds ε to the frozen weights before a step, keeps only its seed, draws it again
after the step and subtracts it.  Floating-point numbers do not allow that: (w + ε) − ε is w only if no digit
of w was rounded away.  With `restore="copy"` the weights come back bit for bit, at the price of a second
copy.  `noise.FlatNoise` has neither the drift nor the copy; this is for the lesson and for comparisons.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor

from geolessons.draws import check_strength, row_std, seed_of, seeded_noise
from geolessons.trees import Params, check_finite

__all__ = ["Restore", "in_place_noise"]

Restore = Literal["copy", "seed"]


@contextmanager
def in_place_noise(
    weights: Params,
    sigma: float,
    *,
    seed: int,
    step: int,
    restore: Restore = "copy",
    lengths_of: Params | None = None,
) -> Iterator[None]:
    """Inside, the tensors themselves hold W + ε; afterwards W again, exactly (copy) or nearly (seed).

    Args:
        weights: The tensors to perturb (d, …), changed in place.
        sigma: As `noise.row_std`.
        seed: Of the run.
        step: Of the optimiser; with the name of a tensor they determine its noise.
        restore: `"copy"` keeps a clone.  `"seed"` keeps the rows' deviations, draws the noise again and
            subtracts it, as the published code does; the noise is rounded to the weights' dtype first.
        lengths_of: Whose rows' lengths scale the noise: the merged weights W0 + s·B·A, by the same names.
            If not given, the weights' own.

    Raises:
        TypeError: If sigma is not a number.
        ValueError: If sigma is negative or not finite, `restore` unknown, weights are empty or not finite, or
            `lengths_of` lacks a name.

    References:
        Li et al. 2024, arXiv 2409.14396v1, section 3.4 and its code.
    """
    check_strength(sigma)
    if restore not in get_args(Restore):
        raise ValueError(f"restore={restore!r} is unknown; it is one of {', '.join(get_args(Restore))}")
    if not weights:
        raise ValueError("weights is empty: name at least one tensor")
    check_finite(weights, "weights")
    given = weights if lengths_of is None else lengths_of
    missing = sorted(weights.keys() - given.keys())
    if missing:
        raise ValueError(f"lengths_of lacks {missing}")
    # known before anything moves: the lengths of perturbed rows are others
    std = {name: row_std(given[name], sigma) for name in weights}
    kept = {name: W.detach().clone() for name, W in weights.items()} if restore == "copy" else {}
    moved: list[str] = []
    with torch.no_grad():
        try:
            for name, W in weights.items():
                eps = _drawn(W, std[name], seed, step, name)
                moved.append(name)
                W.add_(eps)
            yield
        finally:
            for name in moved:
                W = weights[name]
                if restore == "copy":
                    W.copy_(kept[name])
                else:
                    W.sub_(_drawn(W, std[name], seed, step, name))


def _drawn(W: Tensor, std: Tensor, seed: int, step: int, name: str) -> Tensor:
    """The noise of a tensor, in its dtype."""
    eps = seeded_noise(std, W[0].numel(), torch.tensor(seed_of((seed, step), name)))
    return eps.reshape(W.shape).to(W.dtype)

"""Slices of the loss landscape: what a metric does along one direction from a point.

A direction drawn from a normal distribution says little about a network whose rows differ in
length by orders of magnitude.  Li, Xu, Taylor, Studer, Goldstein (2018, arXiv 1712.09913, section 4)
give each row ("filter") of the direction the length of the weight's row; then one step of size α moves
each neuron by the same share of its length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from geolessons.paths import Curve, Line, evaluate
from geolessons.trees import Params, axpy, check_finite, map_tensors, wide

__all__ = ["filter_normalised", "line", "random_direction"]


def random_direction(W: Params, generator: torch.Generator) -> Params:
    """A filter-normalised random direction at W (Li et al. 2018, section 4).

    Args:
        W: The point where the walk starts.
        generator: Where the normal draws come from; it must live on the device of W.

    Returns:
        A vector like W.  Each row has the length of W's row; tensors with fewer than two dimensions
        (biases, norm scales) do not move.

    Raises:
        TypeError: For integer tensors.
        ValueError: For NaN or infinite entries.
    """
    check_finite(W, "W")
    drawn = {
        k: torch.randn(w.shape, generator=generator, dtype=w.dtype, device=w.device) for k, w in W.items()
    }
    return filter_normalised(drawn, W)


def filter_normalised(direction: Params, W: Params) -> Params:
    """Give each row of a direction the length of the same row of W; one-dimensional tensors get zero.

    Raises:
        ValueError: If names, shapes, dtypes or devices differ, or a row of the direction is zero
            where W's is not.
    """
    axpy(1, direction, W)  # refuses points of different spaces

    def rescale(d: Tensor, w: Tensor) -> Tensor:
        if w.dim() < 2:
            return torch.zeros_like(d)
        rows, wanted = wide(d.flatten(1)), torch.linalg.vector_norm(wide(w.flatten(1)), dim=1)
        found = torch.linalg.vector_norm(rows, dim=1)
        if bool(((found == 0) & (wanted > 0)).any()):
            raise ValueError("direction has a zero row where W has none: it cannot be given a length")
        factor = wanted / torch.where(found == 0, 1, found)
        return (rows * factor[:, None]).reshape(d.shape).to(d.dtype)

    return map_tensors(rescale, direction, W)


def line(
    model: nn.Module,
    W: Params,
    direction: Params,
    metric: Callable[[Callable[..., Any]], Any],
    alphas: Iterable[float],
    **options: Any,
) -> Curve:
    """The metric at W + α·direction for each α: a one-dimensional slice, exactly on the grid given.

    Args:
        model: Supplies the forward pass; it is not touched.
        W: The point in the middle.
        direction: A vector like W, e.g. from `random_direction`.
        metric: As in `paths.evaluate`.
        alphas: Steps, in units of the direction.
        **options: Passed on to `paths.evaluate`.

    Returns:
        A `Curve` whose `ts` are the alphas.

    Raises:
        ValueError: As `paths.evaluate`.
    """
    return evaluate(Line(W, axpy(1, W, direction), extrapolate=True), model, metric, alphas, **options)

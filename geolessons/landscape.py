"""Slices of the loss landscape: what a metric does along one or two directions from a point.

A direction drawn from a normal distribution says little about a network whose rows differ in
length by orders of magnitude.  Li, Xu, Taylor, Studer, Goldstein (2018, arXiv 1712.09913, section 4)
give each row ("filter") of the direction the length of the weight's row; then one step of size α moves
each neuron by the same share of its length.

A plane through three points shows what lies between them (Garipov et al. 2018, arXiv 1802.10026, 3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from geolessons.paths import Curve, Line, check_stop, evaluate
from geolessons.trees import (
    Params,
    axpy,
    check_alike,
    check_finite,
    dot,
    flatten,
    map_tensors,
    norm,
    wide,
)

__all__ = ["Plane", "Surface", "filter_normalised", "line", "plane", "plane_through", "random_direction"]


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


class Surface(NamedTuple):
    """What a metric said on a grid: `values[i][j]` at W + alphas[i]·d1 + betas[j]·d2."""

    alphas: list[float]
    betas: list[float]
    values: list[list[Any]]


def plane(
    model: nn.Module,
    W: Params,
    d1: Params,
    d2: Params,
    metric: Callable[[Callable[..., Any]], Any],
    alphas: Iterable[float],
    betas: Iterable[float],
    **options: Any,
) -> Surface:
    """The metric at W + α·d1 + β·d2 for each α and β: a plane, exactly on the grid given.

    Each point is computed from W anew, so no rounding piles up from one to the next.

    Args:
        model: Supplies the forward pass; it is not touched.
        W: The point at (0, 0).
        d1: A vector like W.
        d2: A vector like W; not a multiple of d1, or the plane is a line.
        metric: As in `paths.evaluate`.  The function that it gets stands at the point as long as the metric
            runs, and not afterwards: all points share their memory.
        alphas: Steps along d1, in its units.
        betas: Steps along d2, in its units.
        **options: Passed on to `paths.evaluate`.

    Returns:
        A `Surface`.

    Raises:
        TypeError: For integer tensors.
        ValueError: As `paths.evaluate`; or if W, d1 and d2 are not of one space.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> W, d1, d2 = ({"weight": torch.tensor([w])} for w in ([1.0, 1.0], [1.0, 0.0], [0.0, 1.0]))
        >>> plane(model, W, d1, d2, lambda run: float(run(torch.ones(2))), [0.0, 1.0], [0.0, 5.0]).values
        [[2.0, 7.0], [3.0, 8.0]]
    """
    check_finite(d2, "d2")
    check_alike(W, d2, ("W", "d2"))
    rows, columns = [float(a) for a in alphas], [float(b) for b in betas]
    if not rows or not columns:
        raise ValueError(f"{'betas' if rows else 'alphas'} is empty: give at least one step")
    for step in (*rows, *columns):
        check_stop(step, extrapolate=True)
    sheet = _Sheet(W, d1, d2, rows, columns)
    flat = evaluate(sheet, model, metric, range(len(rows) * len(columns)), **options).values
    width = len(columns)
    return Surface(rows, columns, [flat[i * width : (i + 1) * width] for i in range(len(rows))])


class _Sheet(Line):
    """The points of the grid, numbered row by row."""

    def __init__(self, W: Params, d1: Params, d2: Params, rows: list[float], columns: list[float]) -> None:
        super().__init__(W, axpy(1, W, d1), extrapolate=True)  # looks at W, d1 and the names
        self.rows, self.columns, self.row = rows, columns, -1
        kinds: dict[tuple[torch.dtype, torch.device], list[str]] = {}
        for name, w in W.items():
            kinds.setdefault((w.dtype, w.device), []).append(name)
        # a vector for each kind, its memory used again: two operations a point, not two a tensor
        self.kinds = [
            _Kind(*({k: P[k].detach() for k in names} for P in (W, d1, d2))) for names in kinds.values()
        ]
        self.point = {k: w for kind in self.kinds for k, w in kind.views.items()}

    def at(self, t: float | Tensor) -> Params:
        """The point with number t, until the next call."""
        row, column = divmod(int(t), len(self.columns))
        if row != self.row:
            self.row = row
            for kind in self.kinds:
                kind.walk_to(self.rows[row])
        for kind in self.kinds:
            kind.step_to(self.columns[column])
        return self.point


class _Kind:
    """The tensors of one dtype and device as one vector: W + a·d1 + b·d2.

    W + a·d1 is a sum in float64, kept as a float32 number and what that leaves out, so that a point costs
    two cheap additions and is off by no more than its own rounding and that of b·d2.
    """

    def __init__(self, W: Params, d1: Params, d2: Params) -> None:
        self.start, self.along = wide(flatten(W)), wide(flatten(d1))
        self.flat = flatten(W)  # a copy
        pieces = torch.split(self.flat, [w.numel() for w in W.values()])
        self.views = {name: piece.view(W[name].shape) for name, piece in zip(W, pieces, strict=True)}
        # half precision would round b as well
        self.dtype = torch.promote_types(self.flat.dtype, torch.float32)
        self.sum, self.across = self.flat.to(self.dtype), flatten(d2).to(self.dtype)
        self.row, self.rest = self.sum, torch.zeros_like(self.sum)

    def walk_to(self, a: float) -> None:
        exact = self.start.add(self.along, alpha=a)
        self.row = exact.to(self.dtype)
        self.rest = (exact - self.row).to(self.dtype)

    def step_to(self, b: float) -> None:
        torch.add(self.rest, self.across, alpha=b, out=self.sum)
        self.sum.add_(self.row)
        if self.sum is not self.flat:
            self.flat.copy_(self.sum)


class Plane(NamedTuple):
    """A plane with coordinates: points are W + x·d1 + y·d2, d1 and d2 at right angles and of length 1.

    `points` are the coordinates (x, y) of the three points that span it, the first at (0, 0).
    """

    W: Params
    d1: Params
    d2: Params
    points: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]


def plane_through(P: Params, Q: Params, R: Params) -> Plane:
    """The plane through three points, with distances as they are: for `plane(model, *it[:3], …)`.

    P lies at (0, 0), Q on the axis x > 0, R above it (y > 0).

    Args:
        P: A point.
        Q: Another, alike in names, shapes, dtypes and devices.
        R: A third, not on the line through them.

    Raises:
        TypeError: For integer tensors.
        ValueError: If entries are NaN or infinite, the points are of different spaces, or on one line.

    References:
        Garipov et al. 2018, arXiv 1802.10026, 3.1.

    Example:
        >>> P, Q, R = ({"w": torch.tensor(w)} for w in ([0.0, 0.0], [2.0, 0.0], [3.0, 4.0]))
        >>> plane_through(P, Q, R).points
        ((0.0, 0.0), (2.0, 0.0), (3.0, 4.0))
    """
    for name, point in (("P", P), ("Q", Q), ("R", R)):
        check_finite(point, name)
        check_alike(P, point, ("P", name))
    to_Q, to_R = (map_tensors(lambda p, x: wide(x) - wide(p), P, X) for X in (Q, R))
    x, reach = norm(to_Q), norm(to_R)
    rounding = max(torch.finfo(p.dtype).eps for p in P.values())
    if not x:
        raise ValueError("P and Q are the same point: three different ones span a plane")
    e1 = map_tensors(lambda v: v / x, to_Q)
    along = dot(e1, to_R)
    across = axpy(-along, e1, to_R)
    y = norm(across)
    if y <= 10 * rounding * reach:
        raise ValueError("R is on the line through P and Q: three points off one line span a plane")
    d1, d2 = (
        map_tensors(lambda v, p: v.to(p.dtype), e, P) for e in (e1, map_tensors(lambda v: v / y, across))
    )
    return Plane(P, d1, d2, ((0.0, 0.0), (float(x), 0.0), (float(along), float(y))))

"""Angles, arcs and means on the sphere of directions.

SLERP (Shoemake 1985; GLRA Eq. 2) walks from W0 to W1 through

    W(t) = sin((1−t)ω)/sin ω · W0 + sin(tω)/sin ω · W1,   ω = the angle between W0 and W1.

Written with sinc(x) = sin(x)/x the two coefficients are (1−t)·sinc((1−t)ω)/sinc ω and
t·sinc(tω)/sinc ω: no division by zero at ω = 0, no threshold, no epsilon.  Angles come from
`angles.measure`, never from arccos.

Ours: `scope` (see `scopes`), the two extra norm modes, the refusals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar, overload

import torch
from torch import Tensor

from geolessons.angles import measure, sinc
from geolessons.arcs import NormMode, arcs_between, check_t, coefficients
from geolessons.scopes import (
    Scope,
    antipodal_problem,
    as_points,
    by_row,
    named,
    refuse,
    refuse_zero,
    rows_of,
    unwrap,
    vectors,
    zero_problem,
)
from geolessons.trees import Params, any_true, flatten, unflatten, wide

__all__ = ["angle", "coefficients", "distance", "exp", "frechet_mean", "log", "slerp"]

Point = TypeVar("Point", Tensor, Params)


@overload
def angle(u: Tensor, v: Tensor, *, scope: Scope = ...) -> Tensor: ...
@overload
def angle(u: Params, v: Params, *, scope: Literal["model"]) -> Tensor: ...
@overload
def angle(u: Params, v: Params, *, scope: Literal["tensor", "row"] = ...) -> Params: ...
def angle(u: Tensor | Params, v: Tensor | Params, *, scope: Scope = "tensor") -> Tensor | Params:
    """The angle ω between two weights, in radians, in [0, π].

    It is the angle of the stored values to 1e-6 relative for float32 and 1e-10 for float64, from
    1e-6 rad to π − 1e-3.  Its gradient at ω = 0, where it has a kink, is 0 by convention.  A
    one-element vector has only a sign: its angle is 0 or π.

    Args:
        u: A tensor of any shape, or a point.
        v: The same shape, dtype and device as `u`.
        scope: `"tensor"`, `"row"` or `"model"`; see the module.

    Returns:
        Float64 (float32 on devices without it).  For tensors: 0-d, or (rows,) with `scope="row"`.
        For points: a dict of these, or 0-d with `scope="model"`.

    Raises:
        TypeError: For integer tensors, or a tensor beside a point.
        ValueError: For zero vectors, NaN or infinite entries, or points of different spaces.

    Example:
        >>> angle(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]))
        tensor(1.5708, dtype=torch.float64)
    """
    first, second = as_points(u, v, ("u", "v"), scope)
    found = {}
    for name, (U, V) in vectors(first, second, scope).items():
        measured = measure(rows_of(U, scope), rows_of(V, scope))
        refuse_zero(measured, name, ("u", "v"))
        found[name] = measured.omega if by_row(U, scope) else measured.omega[0]
    return unwrap(found, u, scope)


def slerp(
    W0: Point,
    W1: Point,
    t: float | Tensor,
    *,
    scope: Scope = "tensor",
    norm_mode: NormMode = "raw",
    extrapolate: bool = False,
) -> Point:
    """The point at t on the arc from W0 to W1 (Shoemake 1985; GLRA Eq. 2).

    Differentiable in W0, W1 and t, also where W0 and W1 are parallel; `torch.vmap` works over t.
    A one-element vector has no direction to turn: it takes the straight line.

    Args:
        W0: Start, a tensor of any shape or a point.
        W1: End, alike in shape, dtype and device.
        t: How far along, a number or a 0-d tensor; 0 gives W0 and 1 gives W1, exactly.
        scope: What turns as one vector: each `"tensor"`, each `"row"`, or the whole `"model"`.
        norm_mode: `"raw"` is Eq. 2 on the tensors as they are.  The other two turn the unit
            directions and take the length from between the two lengths: on a straight line
            (`"direction_linear"`) or at a constant ratio (`"direction_geometric"`).
        extrapolate: Allow t outside [0, 1].

    Returns:
        The same kind as W0, in its dtype.

    Raises:
        TypeError: For integer tensors, or a tensor beside a point.
        ValueError: For antipodal or zero vectors, NaN or infinite entries, points of different
            spaces, or t outside [0, 1] without `extrapolate`.

    Example:
        >>> slerp(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), 0.5)
        tensor([0.7071, 0.7071])
    """
    check_t(t, extrapolate)
    first, second = as_points(W0, W1, ("W0", "W1"), scope, look=False)  # measuring will show
    return unwrap(arcs_between(first, second, scope, norm_mode, zero="refuse").at(t), W0)


def log(W0: Point, W1: Point, *, scope: Scope = "tensor") -> Point:
    """The tangent vector at W0 that points along the arc to W1 and is as long as the arc.

    The sphere is the one through W0, of radius ‖W0‖; of W1 only the direction counts.  So
    `exp(W0, log(W0, W1))` is W1 scaled to the length of W0.

    Args:
        W0: Where the tangent is attached, a tensor of any shape or a point.
        W1: Where it points, alike in shape, dtype and device.
        scope: What counts as one vector.

    Returns:
        The same kind as W0, in its dtype; length ‖W0‖·ω, orthogonal to W0.

    Raises:
        TypeError: For integer tensors, or a tensor beside a point.
        ValueError: As `slerp`.
    """

    def of_rows(u: Tensor, v: Tensor, name: str) -> Tensor:
        measured = measure(u, v)
        refuse_zero(measured, name, ("W0", "W1"))
        refuse([antipodal_problem(measured.omega, name)])
        u, v = wide(u) / measured.n0[:, None], wide(v) / measured.n1[:, None]
        rest = v - (u * v).sum(1, keepdim=True) * u
        return (measured.n0 / sinc(measured.omega))[:, None] * rest

    return _on_rows(of_rows, W0, W1, ("W0", "W1"), scope)


def exp(W0: Point, V: Point, *, scope: Scope = "tensor") -> Point:
    """Walk from W0 along the great circle that starts in direction V, as far as V is long.

    Args:
        W0: Start; its length is the radius of the sphere.
        V: A tangent vector at W0 (orthogonal to it), alike in shape, dtype and device.
        scope: What counts as one vector.

    Returns:
        The same kind as W0, in its dtype, of the length of W0.

    Raises:
        TypeError: For integer tensors, or a tensor beside a point.
        ValueError: For a zero W0, NaN or infinite entries, points of different spaces, or a V
            that is not tangent.
    """

    def of_rows(u: Tensor, v: Tensor, name: str) -> Tensor:
        measured = measure(u, v)
        refuse([zero_problem(measured.zero0, name, "W0")])
        half_the_digits = math.sqrt(torch.finfo(u.dtype).eps)
        u, v = wide(u), wide(v)
        turn = torch.where(measured.zero1, 0.0, measured.n1 / measured.n0)
        # `log` of nearly parallel vectors leaves rounding of the size of W0 in every direction
        allowed = half_the_digits * turn + 16 * torch.finfo(u.dtype).eps
        if any_true((measured.omega.cos() * turn).abs() > allowed):
            raise ValueError(
                f"V{named(name)} is not tangent: it has a part along W0. Subtract that part, "
                "V − ⟨W0, V⟩/⟨W0, W0⟩·W0, or take V from `log`"
            )
        return torch.cos(turn)[:, None] * u + sinc(turn)[:, None] * v

    return _on_rows(of_rows, W0, V, ("W0", "V"), scope)


@overload
def distance(W0: Tensor, W1: Tensor, *, scope: Scope = ...) -> Tensor: ...
@overload
def distance(W0: Params, W1: Params, *, scope: Literal["model"]) -> Tensor: ...
@overload
def distance(W0: Params, W1: Params, *, scope: Literal["tensor", "row"] = ...) -> Params: ...
def distance(W0: Tensor | Params, W1: Tensor | Params, *, scope: Scope = "tensor") -> Tensor | Params:
    """The length ‖W0‖·ω of the arc from W0 to the point of its sphere in the direction of W1.

    Symmetric where the two lengths are equal.  Arguments, result and refusals as in `angle`.
    """
    first, second = as_points(W0, W1, ("W0", "W1"), scope)
    found = {}
    for name, (U, V) in vectors(first, second, scope).items():
        measured = measure(rows_of(U, scope), rows_of(V, scope))
        refuse_zero(measured, name, ("W0", "W1"))
        arc = measured.n0 * measured.omega
        found[name] = arc if by_row(U, scope) else arc[0]
    return unwrap(found, W0, scope)


def frechet_mean(
    points: Sequence[Point],
    weights: Sequence[float] | None = None,
    *,
    scope: Scope = "tensor",
    tolerance: float = 1e-12,
    max_steps: int = 100,
) -> Point:
    """The direction with the least weighted sum of squared angles to the points' directions.

    Its length is the weighted mean of their lengths.  Found by walking along the mean of the logs
    until a step is shorter than `tolerance` (Karcher 1977); computed in float64.

    Args:
        points: At least one tensor or point, all of the same space.
        weights: Non-negative, one a point, not all zero; equal if not given.
        scope: What counts as one vector.
        tolerance: Length of the last step, in radians.
        max_steps: Give up after this many.

    Returns:
        The same kind as the points, in their dtype.

    Raises:
        TypeError: For integer tensors, or tensors mixed with points.
        ValueError: For an empty list, bad weights, zero vectors, NaN or infinite entries, points
            of different spaces, or directions more than π/2 from their mean, where it is not unique.
        RuntimeError: If `max_steps` were not enough.
    """
    if not points:
        raise ValueError("points is empty: a mean needs at least one point")
    shares = _shares(weights, len(points))
    trees = [as_points(points[0], p, ("points[0]", f"points[{i}]"), scope)[1] for i, p in enumerate(points)]
    if scope == "model":
        long = _mean_of_rows([rows_of(flatten(P), "tensor") for P in trees], shares, "", tolerance, max_steps)
        return unwrap(unflatten(long[0], like=trees[0]), points[0])
    mean = {}
    for name, W in trees[0].items():
        stacks = [rows_of(P[name], scope) for P in trees]
        mean[name] = _mean_of_rows(stacks, shares, name, tolerance, max_steps).reshape(W.shape).to(W.dtype)
    return unwrap(mean, points[0])


def _on_rows(
    function: Callable[[Tensor, Tensor, str], Tensor],
    W0: Tensor | Params,
    W1: Tensor | Params,
    names: tuple[str, str],
    scope: Scope,
) -> Any:
    """Apply a function of two stacks of rows to each vector; the result has the form of W0."""
    first, second = as_points(W0, W1, names, scope)
    if scope == "model":
        u, v = rows_of(flatten(first), scope), rows_of(flatten(second), scope)
        return unwrap(unflatten(function(u, v, "").reshape(-1), like=first), W0)
    found = {}
    for name, W in first.items():
        result = function(rows_of(W, scope), rows_of(second[name], scope), name)
        found[name] = result.reshape(W.shape).to(W.dtype)
    return unwrap(found, W0)


def _shares(weights: Sequence[float] | None, count: int) -> list[float]:
    if weights is None:
        return [1 / count] * count
    if len(weights) != count:
        raise ValueError(f"weights has {len(weights)} entries for {count} points; give one a point")
    if not all(math.isfinite(w) and w >= 0 for w in weights) or sum(weights) == 0:
        raise ValueError(f"weights={list(weights)} must be finite, not negative and not all zero")
    return [w / sum(weights) for w in weights]


def _mean_of_rows(
    stacks: list[Tensor], shares: list[float], name: str, tolerance: float, max_steps: int
) -> Tensor:
    """Fréchet mean of each row over the stacks, each (rows, n); float64."""
    rows = torch.stack([wide(x) for x in stacks])  # (points, rows, n)
    share = torch.tensor(shares, dtype=rows.dtype, device=rows.device)[:, None, None]
    if rows.shape[2] == 1:  # a single number has a sign, no direction: the plain mean
        return (share * rows).sum(0)
    top = rows.abs().amax(2, keepdim=True) if rows.numel() else rows.new_zeros(1)
    refuse([zero_problem(top == 0, name, "a point")])
    unit = rows / top  # squares of float64 entries overflow or vanish
    length = torch.linalg.vector_norm(unit, dim=2, keepdim=True)
    unit, length = unit / length, top * length
    mean = (share * unit).sum(0)
    size = torch.linalg.vector_norm(mean, dim=1, keepdim=True)
    if any_true(size < 1e-3):
        raise ValueError(f"directions{named(name)} cancel out: points so far apart have no unique mean")
    mean = mean / size
    tolerance = max(tolerance, 8 * torch.finfo(rows.dtype).eps)
    for _ in range(max_steps):
        along = (unit * mean).sum(2, keepdim=True)
        rest = unit - along * mean
        turn = torch.atan2(torch.linalg.vector_norm(rest, dim=2, keepdim=True), along)
        step = (share * rest / sinc(turn)).sum(0)
        size = torch.linalg.vector_norm(step, dim=1, keepdim=True)
        mean = torch.cos(size) * mean + sinc(size) * step
        mean = mean / torch.linalg.vector_norm(mean, dim=1, keepdim=True)
        if any_true((size <= tolerance).all()):
            break
    else:
        raise RuntimeError(
            f"frechet_mean{named(name)} did not settle in max_steps={max_steps} (last step "
            f"{float(size.detach().max()):.1e} rad, tolerance {tolerance:.1e}); raise max_steps or tolerance"
        )
    if any_true((turn > math.pi / 2) & (share > 0)):
        raise ValueError(f"points{named(name)} lie more than π/2 from their mean, where it is not unique")
    return (share * length).sum(0) * mean

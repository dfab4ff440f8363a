"""What counts as one vector, and what a vector must not be.

A `scope` cuts a point into vectors, each with an angle of its own: each `tensor`, each `row` of it
(one angle per output neuron; tensors with fewer than two dimensions count as one row), or the
whole `model`.  A vector becomes a row of a matrix, so that the mathematics is written once.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

from torch import Tensor

from geolessons.angles import Measured
from geolessons.trees import Params, any_true, check_alike, check_finite, check_real, flatten

__all__ = ["ANTIPODAL", "Scope", "as_points", "by_row", "refuse", "rows_of", "unwrap", "vectors"]

Scope = Literal["tensor", "row", "model"]

ANTIPODAL = math.pi - 1e-3  # beyond this angle every great circle is as good as any other


def as_points(
    u: Tensor | Params, v: Tensor | Params, names: tuple[str, str], scope: Scope, *, look: bool = True
) -> tuple[Params, Params]:
    """Both arguments as points (a bare tensor under the name ""), checked to be comparable.

    With `look=False` their entries are not looked at for NaN and infinity.
    """
    if scope not in get_args(Scope):
        raise ValueError(f"scope={scope!r} is unknown; it is one of {', '.join(get_args(Scope))}")
    for value, name in zip((u, v), names, strict=True):
        if not isinstance(value, Tensor | dict):
            raise TypeError(f"{name} is a {type(value).__name__}; it must be a tensor or a dict of tensors")
    if isinstance(u, dict) != isinstance(v, dict):
        raise TypeError(f"{names[0]} and {names[1]} must both be tensors or both be dicts of tensors")
    first = u if isinstance(u, dict) else {"": u}
    second = v if isinstance(v, dict) else {"": v}
    for point, name in zip((first, second), names, strict=True):
        (check_finite if look else check_real)(point, name)
    check_alike(first, second, names)
    return first, second


def vectors(W0: Params, W1: Params, scope: Scope) -> dict[str, tuple[Tensor, Tensor]]:
    """The pairs of tensors that are measured together: one a name, or one in all."""
    if scope == "model":
        return {"": (flatten(W0), flatten(W1))}
    return {name: (W0[name], W1[name]) for name in W0}


def by_row(x: Tensor, scope: Scope) -> bool:
    """Whether each row of x is a vector of its own."""
    return scope == "row" and x.dim() > 1 and x.numel() > 0


def rows_of(x: Tensor, scope: Scope) -> Tensor:
    """The vectors of x as the rows of a matrix (rows, n)."""
    return x.reshape(x.shape[0], -1) if by_row(x, scope) else x.reshape(1, -1)


def unwrap(found: Params, original: Tensor | Params, scope: Scope | None = None) -> Any:
    """Undo `as_points`: a bare tensor came in, a bare tensor goes out."""
    return found[""] if isinstance(original, Tensor) or scope == "model" else found


def named(name: str) -> str:
    """The tensor's name for a message; nothing for a bare tensor."""
    return f" {name!r}" if name else ""


def zero_problem(mask: Tensor, name: str, argument: str) -> str:
    """What to say if any entry of `mask` (a zero vector) is true."""
    where = f" in {name!r}" if name else ""
    return f"{argument} has a zero vector{where}, which has no direction" if any_true(mask) else ""


def antipodal_problem(omega: Tensor, name: str) -> str:
    """What to say if any angle is too close to π."""
    if not any_true(omega > ANTIPODAL):
        return ""
    widest = float(omega.detach().max())
    return (
        f"W0 and W1{named(name)} point in opposite directions (angle {widest:.6f}, limit "
        f"π − 10⁻³): every great circle joins them; go through a third point"
    )


def refuse_zero(measured: Measured, name: str, names: tuple[str, str]) -> None:
    """Raise if a vector on either side is zero."""
    refuse([zero_problem(measured.zero0, name, names[0]), zero_problem(measured.zero1, name, names[1])])


def refuse(problems: list[str]) -> None:
    """Raise one ValueError that lists all problems; empty strings are none."""
    found = [p for p in problems if p]
    if found:
        raise ValueError("; ".join(found))

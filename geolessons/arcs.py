"""Arcs between two points: SLERP with its angles measured once, ready to be evaluated at any t."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from geolessons.angles import measure, sinc
from geolessons.scopes import Scope, antipodal_problem, by_row, refuse, rows_of, vectors, zero_problem
from geolessons.trees import Params, any_true, wide

__all__ = ["Arc", "NormMode", "arcs_between", "check_t", "coefficients", "mixture"]

NormMode = Literal["raw", "direction_linear", "direction_geometric"]


def coefficients(omega: Tensor, t: float | Tensor) -> tuple[Tensor, Tensor]:
    """SLERP's two coefficients f = sin((1−t)ω)/sin ω and g = sin(tω)/sin ω (GLRA Eq. 2).

    Exact in value for every ω in [0, π), also at 0, where they are 1 − t and t; at t = 0 and t = 1
    they are exactly (1, 0) and (0, 1).

    Args:
        omega: Angles in radians, any shape; float64 if they are to be differentiated near 0.
        t: How far along; a number or a 0-d tensor.

    Returns:
        (f, g), each of omega's shape.

    Example:
        >>> coefficients(torch.tensor(0.0, dtype=torch.float64), 0.25)
        (tensor(0.7500, dtype=torch.float64), tensor(0.2500, dtype=torch.float64))
    """
    t = _wide(t)
    whole = sinc(omega)
    return (1 - t) * (sinc((1 - t) * omega) / whole), t * (sinc(t * omega) / whole)


def mixture(
    omega: Tensor, n0: Tensor, n1: Tensor, norm_mode: NormMode, t: float | Tensor
) -> tuple[Tensor, Tensor]:
    """How much of each end is in W(t) = a·W0 + b·W1: the coefficients, with the prescribed length.

    Args:
        omega: Angles in radians.
        n0: Lengths of W0, or 1 where nothing is to be prescribed (`raw`).
        n1: Lengths of W1, likewise.
        norm_mode: `"raw"`, `"direction_linear"` or `"direction_geometric"`.
        t: How far along.

    Returns:
        (a, b), each of omega's shape.
    """
    t = _wide(t)
    f, g = coefficients(omega, t)
    ratio = n1 / n0  # exactly 1 for equal lengths, and then so are both factors
    if norm_mode == "direction_geometric":
        return f * ratio**t, g * ratio ** (t - 1)
    return f * ((1 - t) + t * ratio), g * ((1 - t) / ratio + t)


def _length(n0: Tensor, n1: Tensor, norm_mode: NormMode, t: float | Tensor) -> tuple[Tensor, Tensor]:
    """Prescribed length at t and its derivative; in `raw` mode n0 and n1 are 1 and so is it."""
    if norm_mode == "direction_geometric":
        length = n0 ** (1 - t) * n1**t
        return length, length * torch.log(n1 / n0)
    return (1 - t) * n0 + t * n1, n1 - n0


@dataclass(frozen=True)
class Arc:
    """SLERP of one tensor, ready to be evaluated: the angle is measured once, not at each t.

    `omega`, `n0`, `n1` broadcast against the tensors.  ω = 0 with n0 = n1 is the straight line;
    `straightened` says that a vector takes it for want of a direction.
    """

    W0: Tensor
    W1: Tensor
    omega: Tensor
    n0: Tensor
    n1: Tensor
    norm_mode: NormMode
    straightened: bool

    def at(self, t: float | Tensor) -> Tensor:
        """W(t), in the dtype of W0."""
        return self._combine(*mixture(self.omega, self.n0, self.n1, self.norm_mode, t))

    def velocity(self, t: float | Tensor) -> Tensor:
        """dW/dt at t, in the dtype of W0."""
        t = _wide(t)
        f, g = coefficients(self.omega, t)
        whole = sinc(self.omega)
        df, dg = -torch.cos((1 - t) * self.omega) / whole, torch.cos(t * self.omega) / whole
        length, rate = _length(self.n0, self.n1, self.norm_mode, t)
        a = (df * length + f * rate) / self.n0
        b = (dg * length + g * rate) / self.n1
        return self._combine(a, b)

    def _combine(self, a: Tensor, b: Tensor) -> Tensor:
        # half precision is summed in float32 and rounded once
        dtype = torch.promote_types(self.W0.dtype, torch.float32)
        return torch.addcmul(a.to(dtype) * self.W0.to(dtype), b.to(dtype), self.W1.to(dtype)).to(
            self.W0.dtype
        )


def arcs_between(
    W0: Params, W1: Params, scope: Scope, norm_mode: NormMode, *, zero: Literal["refuse", "straight"]
) -> dict[str, Arc]:
    """One `Arc` for each tensor; all that must be refused is refused here, in one message.

    Raises:
        ValueError: For antipodal vectors, zero vectors (if they are to be refused), or an unknown scope or
            norm_mode.
    """
    if scope not in get_args(Scope):
        raise ValueError(f"scope={scope!r} is unknown; it is one of {', '.join(get_args(Scope))}")
    if norm_mode not in get_args(NormMode):
        raise ValueError(f"norm_mode={norm_mode!r} is unknown; it is one of {', '.join(get_args(NormMode))}")
    problems: list[str] = []
    found = {}
    for name, (U, V) in vectors(W0, W1, scope).items():
        u = rows_of(U, scope)
        m = measure(u, rows_of(V, scope))
        if zero == "refuse":
            problems += [zero_problem(m.zero0, name, "W0"), zero_problem(m.zero1, name, "W1")]
        # a zero vector has no direction, a single number only a sign: nothing to turn
        straight = m.zero0 | m.zero1 | torch.full_like(m.zero0, u.shape[1] == 1)
        omega = torch.where(straight, 0.0, m.omega)
        problems.append(antipodal_problem(omega, name))
        plain = torch.ones_like(straight) if norm_mode == "raw" else straight
        n0, n1 = (torch.where(plain, 1.0, n) for n in (m.n0, m.n1))
        found[name] = omega, n0, n1, any_true(straight)
    refuse(problems)

    arcs = {}
    for name, W in W0.items():
        *measured, straightened = found["" if scope == "model" else name]
        shape = (-1,) + (1,) * (W.dim() - 1) if by_row(W, scope) else ()
        omega, n0, n1 = (x.reshape(shape) for x in measured)
        arcs[name] = Arc(W, W1[name], omega, n0, n1, norm_mode, straightened)
    return arcs


def check_t(t: float | Tensor, extrapolate: bool) -> None:
    """Refuse a t that is not a real number, not finite, or outside [0, 1] unless that was asked for.

    Under `torch.vmap` and `torch.compile` values cannot be looked at; there t is taken as it comes.
    """
    if isinstance(t, Tensor):
        if t.dtype == torch.bool or t.is_complex():
            raise TypeError(f"t is {t.dtype}; it must be a real number".replace("torch.", "", 1))
        if t.dim() > 0:
            raise ValueError(f"t has shape {tuple(t.shape)}; it must be one number (use torch.vmap for many)")
        inside, finite = (t >= 0) & (t <= 1), torch.isfinite(t)
    elif isinstance(t, bool) or not isinstance(t, numbers.Real):
        raise TypeError(f"t is a {type(t).__name__}; it must be a number or a 0-d tensor")
    else:
        inside, finite = torch.tensor(0 <= t <= 1), torch.tensor(math.isfinite(t))
    if any_true(~finite):
        raise ValueError("t is NaN or infinite; it must be a number in [0, 1]")
    if not extrapolate and any_true(~inside):
        value = float(t.detach() if isinstance(t, Tensor) else t)
        raise ValueError(f"t={value:g} is outside [0, 1]; pass extrapolate=True to walk beyond the ends")


def _wide(t: float | Tensor) -> float | Tensor:
    """A tensor t in float64, so that 1 − t is not rounded to the digits of t."""
    return wide(t) if isinstance(t, Tensor) else t

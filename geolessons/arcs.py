"""Arcs between two points: SLERP with its angles measured once, ready to be evaluated at any t."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, get_args

import torch
from torch import Tensor

from geolessons.angles import TOGETHER, Measured, held_float32, measure_for_slerp, measure_held, runs, sinc
from geolessons.scopes import ANTIPODAL, Scope, antipodal_problem, refuse, rows_of, vectors, zero_problem
from geolessons.trees import Params, any_true, check_finite, eager, wide

__all__ = ["Arcs", "NormMode", "arcs_between", "check_t", "coefficients", "mixture"]

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
        n0: Lengths of W0, or 1 where nothing is to be prescribed; not looked at in `raw`.
        n1: Lengths of W1, likewise.
        norm_mode: `"raw"`, `"direction_linear"` or `"direction_geometric"`.
        t: How far along.

    Returns:
        (a, b), each of omega's shape.
    """
    t = _wide(t)
    f, g = coefficients(omega, t)
    if norm_mode == "raw":
        return f, g
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
class Arcs:
    """SLERP between two points, ready to be evaluated: the angles are measured once, not at each t.

    `omega`, `n0`, `n1` have one entry a vector, and tensor i of the point has the next `counts[i]` of them.
    ω = 0 with n0 = n1 is the straight line; `straight` names the tensors that take it, wholly or in some
    rows, for want of a direction.
    """

    W0: Params
    W1: Params
    omega: Tensor
    n0: Tensor
    n1: Tensor
    counts: list[int]
    norm_mode: NormMode
    straight: list[str]

    def at(self, t: float | Tensor) -> Params:
        """W(t), in the dtypes of W0."""
        return self._combine(*mixture(self.omega, self.n0, self.n1, self.norm_mode, t))

    def velocity(self, t: float | Tensor) -> Params:
        """dW/dt at t, in the dtypes of W0."""
        t = _wide(t)
        f, g = coefficients(self.omega, t)
        whole = sinc(self.omega)
        df, dg = -torch.cos((1 - t) * self.omega) / whole, torch.cos(t * self.omega) / whole
        length, rate = _length(self.n0, self.n1, self.norm_mode, t)
        a = (df * length + f * rate) / self.n0
        b = (dg * length + g * rate) / self.n1
        return self._combine(a, b)

    def _combine(self, a: Tensor, b: Tensor) -> Params:
        """a·W0 + b·W1, each vector with its own a and b."""
        shares: dict[tuple[torch.dtype, torch.device], list[tuple[Tensor, Tensor]]] = {}
        found = self._together(a, b)
        for i, (name, W) in enumerate(self.W0.items()):
            if name in found:
                continue
            # half precision is summed in float32 and rounded once
            dtype = torch.promote_types(W.dtype, torch.float32)
            if (dtype, W.device) not in shares:
                pieces = (torch.split(c.to(W.device, dtype), self.counts) for c in (a, b))
                shares[dtype, W.device] = list(zip(*pieces, strict=True))
            shape = (-1,) + (1,) * (W.dim() - 1) if W.dim() else ()
            x, y = (c.reshape(shape) for c in shares[dtype, W.device][i])
            first, second = x * W.to(dtype), self.W1[name].to(dtype)
            # in place where that is possible: new memory is half of the time
            total = first.addcmul_(y, second) if eager() else torch.addcmul(first, y, second)
            found[name] = total.to(W.dtype)
        return {name: found[name] for name in self.W0}

    def _together(self, a: Tensor, b: Tensor) -> Params:
        """As much of it as can be done in tens of kernel calls: float32 tensors that each are one vector.

        It is (a + b)·(W0 + b/(a + b)·(W1 − W0)).
        """
        first = accumulate(self.counts, initial=0)  # where each tensor's coefficients begin
        held = [
            (name, i)
            for name, i, n in zip(self.W0, first, self.counts, strict=False)
            if n == 1 and held_float32(self.W0[name], self.W1[name])
        ]
        if not held or (torch.is_grad_enabled() and (a.requires_grad or b.requires_grad)):
            return {}
        total, share = torch.stack([a + b, b / (a + b)]).tolist()
        held = [(name, i) for name, i in held if abs(share[i]) < 1e4]  # a + b may be 0
        found: list[Tensor] = []
        for run in runs([self.W0[name].numel() for name, _ in held], TOGETHER):
            us, vs = ([W[name] for name, _ in held[run]] for W in (self.W0, self.W1))
            new = torch._foreach_lerp(us, vs, [share[i] for _, i in held[run]])
            torch._foreach_mul_(new, [total[i] for _, i in held[run]])
            found += new
        return {name: W for (name, _), W in zip(held, found, strict=True)}


def arcs_between(
    W0: Params, W1: Params, scope: Scope, norm_mode: NormMode, *, zero: Literal["refuse", "straight"]
) -> Arcs:
    """The arcs from W0 to W1; all that must be refused of their values is refused here, in one message.

    The entries are looked at once, for all of it: NaN and infinity show in the lengths.

    Raises:
        ValueError: For NaN or infinite entries, antipodal vectors, zero vectors (if they are to be refused),
            or an unknown scope or norm_mode.
    """
    if scope not in get_args(Scope):
        raise ValueError(f"scope={scope!r} is unknown; it is one of {', '.join(get_args(Scope))}")
    if norm_mode not in get_args(NormMode):
        raise ValueError(f"norm_mode={norm_mode!r} is unknown; it is one of {', '.join(get_args(NormMode))}")
    names = vectors(W0, W1, scope)
    pairs = [(rows_of(U, scope), rows_of(V, scope)) for U, V in names.values()]
    counts = [len(u) for u, _ in pairs]
    m = _measured(pairs, norm_mode)
    if any_true(~torch.isfinite(m.n0 + m.n1)):
        check_finite(W0, "W0")
        check_finite(W1, "W1")
    single = [u.shape[1] == 1 for u, _ in pairs for _ in range(len(u))]
    # a zero vector has no direction, a single number only a sign: nothing to turn
    straight = m.zero0 | m.zero1 | torch.tensor(single, device=m.omega.device)
    omega = torch.where(straight, 0.0, m.omega)
    zeros = (m.zero0, m.zero1) if zero == "refuse" else ()
    if any_true(omega > ANTIPODAL) or any(any_true(z) for z in zeros):
        each = zip(names, *(torch.split(x, counts) for x in (omega, m.zero0, m.zero1)), strict=True)
        problems = []
        for name, angle, zero0, zero1 in each:
            if zeros:
                problems += [zero_problem(zero0, name, "W0"), zero_problem(zero1, name, "W1")]
            problems.append(antipodal_problem(angle, name))
        refuse(problems)
    plain = torch.ones_like(straight) if norm_mode == "raw" else straight
    n0, n1 = (torch.where(plain, 1.0, n) for n in (m.n0, m.n1))
    if scope == "model":  # one vector, of which every tensor is a part
        omega, n0, n1, straight = (x.expand(len(W0)) for x in (omega, n0, n1, straight))
        counts = [1] * len(W0)
    lost: list[str] = []
    if any_true(straight):
        marks = iter(straight.tolist())
        lost = [name for name, n in zip(W0, counts, strict=True) if any([next(marks) for _ in range(n)])]
    return Arcs(W0, W1, omega, n0, n1, counts, norm_mode, lost)


def _measured(pairs: list[tuple[Tensor, Tensor]], norm_mode: NormMode) -> Measured:
    """Angles and lengths of all rows, those of plain float32 vectors by the shorter way.

    Not where lengths are prescribed: they are to have all digits.
    """
    home = pairs[0][0].device
    short = [norm_mode == "raw" and len(u) == 1 and u.device == home and held_float32(u, v) for u, v in pairs]
    if all(short):
        return measure_held(pairs)
    if not any(short):
        return measure_for_slerp(pairs)
    parts: list[Measured | None] = [None] * len(pairs)
    for measure, kind in ((measure_held, True), (measure_for_slerp, False)):
        chosen = [i for i, x in enumerate(short) if x is kind]
        m = measure([pairs[i] for i in chosen])
        counts = [len(pairs[i][0]) for i in chosen]
        split = zip(*(torch.split(x, counts) for x in (m.omega, m.n0, m.n1, m.zero0, m.zero1)), strict=True)
        for i, fields in zip(chosen, split, strict=True):
            parts[i] = Measured(*fields)
    columns = zip(*((m.omega, m.n0, m.n1, m.zero0, m.zero1) for m in parts if m is not None), strict=True)
    return Measured(*map(torch.cat, columns))


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

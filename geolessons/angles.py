"""Measuring pairs of vectors: lengths, and the angle between them, to the last digits.

v is split into c·u along u and a rest across it; the angle is ω = atan2(‖rest‖, c‖u‖).  Rounding in c
moves the rest along u only, where it counts to second order, so small angles keep their digits.
arccos of the cosine loses them: in float32 it returns 0 or 3.5·10⁻⁴ for every ω below that.

Sums run in float64 where the device has it.  For float64 input the product c·u is made exact
(Dekker 1971), as nothing wider is at hand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from geolessons.trees import blocks, wide

__all__ = ["Measured", "measure", "sinc"]


@dataclass(frozen=True)
class Measured:
    """Angle and lengths of a stack of vector pairs, each of shape (rows,).

    Where `zero0` or `zero1`, the vector is zero and the angle means nothing (it is 0).
    """

    omega: Tensor
    n0: Tensor
    n1: Tensor
    zero0: Tensor
    zero1: Tensor


def measure(u: Tensor, v: Tensor) -> Measured:
    """Angle and lengths of each pair of rows; u, v: (rows, n), any floating dtype."""
    rows, columns = u.shape
    double = u.dtype == torch.float64
    u, scale0 = _scaled(u) if double else (u, 1.0)
    v, scale1 = _scaled(v) if double else (v, 1.0)
    uu, uv, vv, rest2 = wide(u.new_zeros(4, rows))
    for b in blocks(rows, columns):
        x, y = wide(u[:, b]), wide(v[:, b])
        uu, uv, vv = uu + (x * x).sum(1), uv + (x * y).sum(1), vv + (y * y).sum(1)
    zero0, zero1 = uu == 0, vv == 0
    c = uv / torch.where(zero0, 1.0, uu)
    for b in blocks(rows, columns):
        x, y = wide(u[:, b]), wide(v[:, b])
        if double:
            product = c[:, None] * x
            rest = (y - product) - _product_error(c[:, None], x, product)
        else:
            rest = torch.addcmul(y, c[:, None], x, value=-1)
        rest2 = rest2 + (rest * rest).sum(1)
    n0, n1 = torch.where(zero0, 1.0, uu).sqrt(), torch.where(zero1, 1.0, vv).sqrt()
    none = zero0 | zero1 | (rest2 == 0)
    if columns == 1:  # a sign only: what rounding left of the rest is no angle
        none = torch.ones_like(none)
    sine = torch.where(none, 0.0, torch.where(none, 1.0, rest2).sqrt())  # sqrt has no slope at 0
    omega = torch.atan2(sine, torch.where(zero0 | zero1, 1.0, c * n0))
    return Measured(omega, n0 / scale0, n1 / scale1, zero0, zero1)


def _scaled(x: Tensor) -> tuple[Tensor, Tensor]:
    """Each row times a power of two, so that squares of float64 entries neither overflow nor vanish."""
    top = x.detach().abs().amax(1) if x.numel() else x.new_zeros(len(x))
    scale = torch.ldexp(torch.ones_like(top), -torch.frexp(top).exponent.clamp(-1000, 1000))
    return x * scale[:, None], scale


def _product_error(a: Tensor, b: Tensor, product: Tensor) -> Tensor:
    """a·b − product, exactly, for float64 (Dekker 1971): a fused multiply-add in plain torch."""
    with torch.no_grad():  # constant to first order
        a1, b1 = _upper_half(a), _upper_half(b)
        a2, b2 = a - a1, b - b1
        return ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2


def _upper_half(a: Tensor) -> Tensor:
    shifted = a * 134217729.0  # 2**27 + 1
    return shifted - (shifted - a)


def sinc(x: Tensor) -> Tensor:
    """Sin(x)/x, and 1 at 0; differentiate it in float64 only (float32 loses its slope below 1e-4)."""
    return torch.sinc(x / math.pi)

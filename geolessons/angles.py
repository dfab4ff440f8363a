"""Measuring pairs of vectors: lengths, and the angle between them, to the last digits.

v is split into c·u along u and a rest across it; the angle is ω = atan2(‖rest‖, c‖u‖).  Rounding in c
moves the rest along u only, where it counts to second order, so small angles keep their digits.
arccos of the cosine loses them: in float32 it returns 0 or 3.5·10⁻⁴ for every ω below that.

Sums run in float64 where the device has it.  For float64 input the product c·u is made exact
(Dekker 1971), as nothing wider is at hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from geolessons.trees import block_size, blocks, eager, wide

__all__ = ["Measured", "held_float32", "measure", "measure_for_slerp", "measure_held", "sinc"]

PLAIN = (Tensor, torch.nn.Parameter)  # a subclass may mean something else by a sum
TOGETHER = 1 << 21  # entries whose differences are in memory at a time: 8 MB


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
    double = u.dtype == torch.float64
    u, scale0 = _scaled(u) if double else (u, 1.0)
    v, scale1 = _scaled(v) if double else (v, 1.0)
    found = []
    for p, q in zip(_stacks(u), _stacks(v), strict=True):
        uu, uv, vv = _products(p, q)
        c = _ratio(uv, uu)
        rest2 = torch.stack([_rest2(x, y, c[..., None], double) for x, y in blocks(p, q)]).sum(0)
        found.append(torch.stack([uu, vv, c, rest2]).reshape(4, -1))
    uu, vv, c, rest2 = torch.cat(found, 1)
    m = _measured(uu, vv, c, rest2, u.shape[1] == 1)
    return Measured(m.omega, m.n0 / scale0, m.n1 / scale1, m.zero0, m.zero1)


def measure_for_slerp(pairs: Sequence[tuple[Tensor, Tensor]]) -> Measured:
    """Angle and lengths of all pairs of rows of many tensors, as exactly as SLERP's coefficients need them.

    The coefficients are functions of ω², so an absolute error of 10⁻¹⁵ in ω² is nothing to tensors narrower
    than float64: they are looked at once, not twice.  (ω itself loses digits below 10⁻³ and is noise below
    10⁻⁸: `measure` is for looking at angles.)  If any is float64, all are measured in full.

    Args:
        pairs: (u, v), each (rows, n); at least one.

    Returns:
        Vectors with an entry for each row of the first pair, then of the second, and so on.
    """
    home = pairs[0][0].device
    if any(u.dtype == torch.float64 for u, _ in pairs):
        each = [measure(u, v) for u, v in pairs]
        parts = zip(*((m.omega, m.n0, m.n1, m.zero0, m.zero1) for m in each), strict=True)
        return Measured(*(torch.cat([x.to(home) for x in part]) for part in parts))
    found = [
        _products(p, q).reshape(3, -1) for u, v in pairs for p, q in zip(_stacks(u), _stacks(v), strict=True)
    ]
    uu, uv, vv = torch.cat([x.to(home) for x in found], 1)
    c = _ratio(uv, uu)
    single = torch.tensor([u.shape[1] == 1 for u, _ in pairs for _ in range(len(u))], device=home)
    return _measured(uu, vv, c, vv - c * uv, single)


def held_float32(*xs: Tensor) -> bool:
    """Whether all are float32 and no gradient or transform has to see each step made with them."""
    if any(type(x) not in PLAIN or x.dtype != torch.float32 for x in xs):
        return False
    return not (torch.is_grad_enabled() and any(x.requires_grad for x in xs)) and eager()


def measure_held(pairs: Sequence[tuple[Tensor, Tensor]]) -> Measured:
    """As `measure_for_slerp`, of `held_float32` vectors (1, n), in tens of kernel calls and by float32 sums.

    ‖u‖², ‖v‖² and ‖v − u‖² say all.  Pieces that stay in cache are summed in float32, and their sums in
    float64.  That leaves errors of 10⁻⁷ in ω² (of 10⁻⁴ times ω², if lengths are equal, where all entries of a
    long vector are of one size), of which SLERP's coefficients see an eighth while ω ≤ 2.  Vectors further
    apart, or whose squares leave float32, are measured by `measure_for_slerp`.
    """
    home, size = pairs[0][0].device, 2 * block_size(pairs[0][0])
    norms: tuple[list[Tensor], ...] = ([], [], [])
    for run in runs([u.numel() for u, _ in pairs], max(TOGETHER, size)):
        us, vs = ([p for pair in pairs[run] for p in torch.split(pair[i][0], size)] for i in (0, 1))
        alone = run.stop - run.start == 1 and pairs[run.start][0].numel() > 2 * TOGETHER
        look = _one_after_the_other if alone else _all_at_once
        for of_one_kind, more in zip(norms, look(us, vs), strict=True):
            of_one_kind += more
    squares = wide(torch.stack([x for of_one_kind in norms for x in of_one_kind])).square()
    left = zip(*squares.view(3, -1).tolist(), strict=True)
    rows = [_row(list(islice(left, max(1, -(-u.numel() // size)))), u.numel()) for u, _ in pairs]
    table = torch.tensor([row or (0, 1, 1) for row in rows], dtype=squares.dtype).to(home)
    omega, n0, n1 = table.unbind(1)
    no = torch.zeros_like(omega, dtype=torch.bool)
    m = Measured(omega, n0, n1, no, no.clone())
    again = [i for i, row in enumerate(rows) if row is None]
    if again:
        full = measure_for_slerp([pairs[i] for i in again])
        for name in ("omega", "n0", "n1", "zero0", "zero1"):
            getattr(m, name)[again] = getattr(full, name)
    return m


def _all_at_once(us: list[Tensor], vs: list[Tensor]) -> Iterator[Sequence[Tensor]]:
    """‖u‖, ‖v‖ and ‖v − u‖ of each pair of vectors, in two calls."""
    norms = torch._foreach_norm([*us, *vs, *torch._foreach_sub(vs, us)])
    return (norms[i : i + len(us)] for i in range(0, len(norms), len(us)))


def _one_after_the_other(us: list[Tensor], vs: list[Tensor]) -> Iterator[Sequence[Tensor]]:
    """The same, sooner for long vectors: a piece is still in cache when its product is taken."""
    held, dots = torch.empty_like(us[0]), []
    for u, v in zip(us, vs, strict=True):
        d = torch.sub(v, u, out=held[: len(u)])
        dots += [torch.dot(u, u), torch.dot(v, v), torch.dot(d, d)]
    return (x.unbind() for x in torch.stack(dots).sqrt().view(-1, 3).T)


def _row(pieces: list[tuple[float, ...]], n: int) -> tuple[float, float, float] | None:
    """(ω, ‖u‖, ‖v‖) from the pieces' ‖u‖², ‖v‖², ‖v − u‖²; None where float32 sums do not do."""
    uu, vv, dd = map(math.fsum, zip(*pieces, strict=True)) if n else (0.0, 0.0, 0.0)
    # sums of n squares of 10⁻²⁴ each have lost nothing to the end of float32; NaN fails here as well
    if not (min(uu, vv) > 1e-24 * n and uu + vv + dd < math.inf):
        return None
    more = (vv - uu - dd) / (2 * uu)  # v = (1 + more)·u + rest
    rest2 = dd - more**2 * uu if n > 1 else 0.0
    omega = math.atan2(math.sqrt(max(rest2, 0.0)), (1 + more) * math.sqrt(uu))
    return (omega, math.sqrt(uu), math.sqrt(vv)) if omega <= 2 else None


def runs(sizes: Sequence[int], most: int) -> Iterator[slice]:
    """Cuts a list into runs whose sizes add up to `most` or little more."""
    start = total = 0
    for i, n in enumerate(sizes):
        total += n
        if total >= most or i + 1 == len(sizes):
            yield slice(start, i + 1)
            start, total = i + 1, 0


def _measured(uu: Tensor, vv: Tensor, c: Tensor, rest2: Tensor, single: bool | Tensor) -> Measured:
    """From squared lengths, the c in v = c·u + rest, and the rest's squared length."""
    zero0, zero1 = uu == 0, vv == 0
    n0, n1 = torch.where(zero0, 1.0, uu).sqrt(), torch.where(zero1, 1.0, vv).sqrt()
    # one entry has a sign only: what rounding left of the rest is no angle
    none = zero0 | zero1 | (rest2 <= 0) | single
    sine = torch.where(none, 0.0, torch.where(none, 1.0, rest2).sqrt())  # sqrt has no slope at 0
    omega = torch.atan2(sine, torch.where(zero0 | zero1, 1.0, c * n0))
    return Measured(omega, n0, n1, zero0, zero1)


def _ratio(uv: Tensor, uu: Tensor) -> Tensor:
    return uv / torch.where(uu == 0, 1.0, uu)


def _stacks(x: Tensor) -> Sequence[Tensor]:
    """A single row as a vector, many in stacks that stay in cache."""
    rows, columns = x.shape
    return [x[0]] if rows == 1 else torch.split(x, max(1, block_size(x) // max(1, columns)))


def _products(u: Tensor, v: Tensor) -> Tensor:
    """⟨u, u⟩, ⟨u, v⟩ and ⟨v, v⟩ of two vectors, or of each pair of rows: (3,) or (3, rows)."""
    terms = [term for x, y in blocks(u, v) for term in (_dots(x, x), _dots(x, y), _dots(y, y))]
    each = torch.stack(terms)
    return each if len(terms) == 3 else each.view(-1, 3, *terms[0].shape).sum(0)


def _rest2(x: Tensor, y: Tensor, c: Tensor, double: bool) -> Tensor:
    """The squared length of the part of y across x, which is y − c·x; `double` if x is no wider copy."""
    if double:
        product = c * x
        rest = (y - product) - _product_error(c, x, product)
    else:
        rest = torch.addcmul(y, c, x, value=-1)
    return _dots(rest, rest)


def _dots(x: Tensor, y: Tensor) -> Tensor:
    return torch.dot(x, y) if x.dim() == 1 else torch.linalg.vecdot(x, y)


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

"""Points of parameter space: dictionaries of named tensors, and the vector arithmetic on them.

A network with parameters W₁ … W_n is one point of R^N.  We keep the names, so a point is a
`dict[str, Tensor]`; the functions here treat it as the single long vector that it is.
Sums are accumulated in float64 where the device has it, in blocks, so that no full-size float64
copy of a large network is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from numbers import Integral

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

__all__ = [
    "Params",
    "axpy",
    "check_alike",
    "check_finite",
    "check_rank",
    "dot",
    "flatten",
    "norm",
    "params_of",
    "unflatten",
]

Params = dict[str, Tensor]

BLOCK = 1 << 15  # entries turned into float64 at a time: two of 0.25 MB, which stay in cache


def params_of(model: nn.Module, match: str | list[str] = "*") -> Params:
    """A snapshot of a model's parameters, as a point.

    The tensors are detached copies: training the model afterwards does not move the point.

    Args:
        model: Any module.
        match: Shell-style pattern(s) for parameter names, e.g. `"*.weight"`.

    Returns:
        Name to tensor, in the model's own order.

    Raises:
        ValueError: If no parameter's name matches.

    Example:
        >>> sorted(params_of(nn.Linear(3, 2), "*weight"))
        ['weight']
    """
    patterns = [match] if isinstance(match, str) else list(match)
    found = {
        name: p.detach().clone()
        for name, p in model.named_parameters()
        if any(fnmatchcase(name, pattern) for pattern in patterns)
    }
    if not found:
        names = [name for name, _ in model.named_parameters()]
        raise ValueError(f"match={match!r} fits none of the model's parameters: {_some(names)}")
    return found


def dot(P: Params, Q: Params) -> Tensor:
    """The inner product ⟨P, Q⟩ of two points: a 0-d tensor, float64 where the device has it.

    Raises:
        ValueError: If names, shapes or devices differ.
    """
    check_alike(P, Q, same_dtype=False)
    return _total(_dot(p, Q[name]) for name, p in P.items())


def norm(P: Params) -> Tensor:
    """The Euclidean length ‖P‖ of a point: a 0-d tensor, float64 where the device has it.

    Raises:
        ValueError: If P is empty.
    """
    if not P:
        raise ValueError("P is empty: a point needs at least one tensor")
    return _total(_dot(p, p) for p in P.values()).sqrt()


def axpy(a: float | Tensor, X: Params, Y: Params) -> Params:
    """The point a·X + Y, entry by entry, in the dtype of Y.

    Raises:
        ValueError: If names, shapes, dtypes or devices differ.
    """
    check_alike(X, Y)
    return {name: (a * x + Y[name]).to(Y[name].dtype) for name, x in X.items()}


def flatten(P: Params) -> Tensor:
    """All entries of a point as one vector of shape (N,), in the dictionary's order."""
    if not P:
        raise ValueError("P is empty: a point needs at least one tensor")
    return torch.cat([p.reshape(-1) for p in P.values()])


def unflatten(vector: Tensor, like: Params) -> Params:
    """The inverse of `flatten`: cut a vector of shape (N,) into the shapes and dtypes of `like`.

    Raises:
        ValueError: If the vector does not have exactly as many entries as `like`.
    """
    sizes = [p.numel() for p in like.values()]
    if vector.dim() != 1 or vector.numel() != sum(sizes):
        raise ValueError(f"vector has shape {tuple(vector.shape)}; `like` needs ({sum(sizes)},)")
    pieces = torch.split(vector, sizes)
    return {name: v.reshape(p.shape).to(p.dtype) for (name, p), v in zip(like.items(), pieces, strict=True)}


def check_alike(
    P: Params, Q: Params, names: tuple[str, str] = ("W0", "W1"), *, same_dtype: bool = True
) -> None:
    """Refuse two points that are not in the same space; the message lists every mismatch.

    Raises:
        ValueError: On differing names, shapes, dtypes (if `same_dtype`) or devices, or an empty point.
    """
    first, second = names
    if not P:
        raise ValueError(f"{first} is empty: a point needs at least one tensor")
    found = [f"{name!r} is only in {first}" for name in P if name not in Q]
    found += [f"{name!r} is only in {second}" for name in Q if name not in P]
    for name in P.keys() & Q.keys():
        p, q = P[name], Q[name]
        what = repr(name) if name else "the tensor"
        if p.shape != q.shape:
            found.append(f"{what} has shape {tuple(p.shape)} in {first}, {tuple(q.shape)} in {second}")
        if same_dtype and p.dtype != q.dtype:
            found.append(f"{what} is {_dtype(p)} in {first}, {_dtype(q)} in {second}")
        if p.device != q.device:
            found.append(f"{what} is on {p.device} in {first}, on {q.device} in {second}")
    if found:
        found.sort()
        raise ValueError(f"{first} and {second} are not points of the same space: " + "; ".join(found))


def check_rank(rank: int, shape: tuple[int, int]) -> int:
    """A rank that a matrix of this shape can have; all else is refused.

    Raises:
        ValueError: If it is not a whole number from 1 to the smaller side.
    """
    if isinstance(rank, bool) or not isinstance(rank, Integral) or not 1 <= rank <= min(shape):
        raise ValueError(f"rank={rank!r} must be from 1 to min{shape} = {min(shape)}, a whole number")
    return int(rank)


def check_finite(P: Params, what: str) -> None:
    """Refuse a point with integer, NaN or infinite entries; the message names the tensors.

    Raises:
        TypeError: As `check_real`.
        ValueError: If an entry is NaN or infinite.
    """
    check_real(P, what)
    broken = [repr(name) for name, p in P.items() if not finite(p)]
    if broken:
        where = f" in {_some(broken)}" if "" not in P else ""
        raise ValueError(f"{what} has NaN or infinite entries{where}")


def check_real(P: Params, what: str) -> None:
    """Refuse what is not a point; the message names the tensors.

    Raises:
        TypeError: If P is not a dict of dense tensors of a floating dtype.
    """
    if not isinstance(P, dict):
        raise TypeError(f"{what} is a {type(P).__name__}; it must be a dict of tensors")
    unfit = [f"{name!r} is {_unfit(p)}" if name else _unfit(p) for name, p in P.items() if _unfit(p)]
    if unfit:
        raise TypeError(f"{what} must be dense and floating-point, but is not: {_some(unfit)}")


def finite(x: Tensor) -> bool:
    """Whether no entry is NaN or infinite; True where values cannot be looked at, as in `any_true`."""
    # one number says it for nearly all tensors, 25 times faster than looking at each; a sum may overflow
    return not any_true(~torch.isfinite(x.detach().sum())) or not any_true(~torch.isfinite(x))


def wide(x: Tensor) -> Tensor:
    """`x` in float64, or in float32 on a device that has no float64 (Apple's MPS)."""
    return x.float() if x.device.type == "mps" else x.double()


def blocks(*xs: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Cuts tensors of one shape, (n,) or (rows, n), along n into float64 pieces that stay in cache.

    Use a piece before asking for the next, which may be written into the same memory.
    """
    first = xs[0]
    size = max(1, block_size(first) // (first.shape[0] if first.dim() > 1 else 1))
    if first.shape[-1] <= size:
        return iter([tuple(map(wide, xs))])
    kept = (torch.is_grad_enabled() and any(x.requires_grad for x in xs)) or not eager()
    return zip(*((_wide_pieces if kept else _passing_pieces)(x, size) for x in xs), strict=True)


def _wide_pieces(x: Tensor, size: int) -> Iterator[Tensor]:
    return (wide(piece) for piece in torch.split(x, size, -1))


def _passing_pieces(x: Tensor, size: int) -> Iterator[Tensor]:
    """The same, one after the other in the same memory: new memory for each can take longer than the rest."""
    pieces = torch.split(x, size, -1)
    held = wide(pieces[0])
    yield held
    for piece in pieces[1:]:
        yield piece if piece.dtype == held.dtype else held[..., : piece.shape[-1]].copy_(piece)


def block_size(x: Tensor) -> int:
    """`BLOCK`; more where starting a kernel costs more than what a cache saves."""
    return BLOCK if x.device.type == "cpu" else BLOCK << 9


def eager() -> bool:
    """Whether operations run as written: no `torch.compile`, `torch.vmap` or forward mode around them."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._functorch.peek_interpreter_stack() is None and forward_ad._current_level < 0


def any_true(condition: Tensor) -> bool:
    """Whether any entry is true; False where values cannot be looked at (torch.compile, vmap, meta)."""
    if torch.compiler.is_compiling() or condition.is_meta:
        return False
    try:
        return bool(condition.any())
    except RuntimeError as error:
        if "data-dependent" in str(error):
            return False
        raise


def _dot(p: Tensor, q: Tensor) -> Tensor:
    return _total(x.dot(y) for x, y in blocks(p.reshape(-1), q.reshape(-1)))


def _total(terms: Iterator[Tensor]) -> Tensor:
    return torch.stack(list(terms)).sum()


def _unfit(p: Tensor) -> str:
    """What keeps p from being a tensor of real numbers; nothing if it is one."""
    if not isinstance(p, Tensor):
        return f"a {type(p).__name__}"
    if p.is_meta:
        return "on the meta device, without values"
    if p.layout != torch.strided:
        return str(p.layout).removeprefix("torch.")
    return "" if p.is_floating_point() else _dtype(p)


def _dtype(p: Tensor) -> str:
    return str(p.dtype).removeprefix("torch.")


def _some(words: list[str], most: int = 8) -> str:
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def map_tensors(function: Callable[..., Tensor], *points: Params) -> Params:
    """Apply a function to the tensors of the same name in each point."""
    return {name: function(*(P[name] for P in points)) for name in points[0]}

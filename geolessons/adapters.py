"""Adapters: a weight that is a function of a frozen W0 and a few trainable numbers.

LoRA (Hu et al. 2021, arXiv 2106.09685): W = W0 + s·B·A with A (r, k), B (d, r) and W0 (d, k).

`weight(W0)` is the truth about an adapter.  `linear(x, W0, bias)` is an optional cheaper form of
x·Wᵀ + bias that agrees with it and need not form W.  `attaching` puts adapters into a model.
Ours: `Rows`, adapters on row blocks of a fused matrix.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geolessons.trees import Params, check_rank, eager

__all__ = ["Adapter", "LoRA", "Product", "Rows", "Scaling", "adapted"]

Product = Callable[
    [Tensor, Tensor, Tensor | None], Tensor
]  # (x, W, bias) to x·Wᵀ + bias, or an estimate of it
Scaling = Literal["standard", "rank_stabilised", "paper"]


class Adapter(nn.Module, ABC):
    """A weight as a function of a frozen W0: subclasses say which.

    Args:
        shape: (d, k) of the frozen weight: outputs, inputs.

    Attributes:
        shape: The same.

    Raises:
        ValueError: If `shape` is not that of a matrix.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        if len(shape) != 2 or min(shape) < 1:
            raise ValueError(
                f"shape={tuple(shape)} is not a matrix's; {type(self).__name__} needs (outputs, inputs)"
            )
        self.shape = (int(shape[0]), int(shape[1]))

    @abstractmethod
    def weight(self, W0: Tensor) -> Tensor:
        """The adapted weight, of shape (d, k) and in the dtype of W0; differentiable in the adapter."""

    def linear(
        self, x: Tensor, W0: Tensor, bias: Tensor | None = None, product: Product = F.linear
    ) -> Tensor:
        """The layer's output x·Wᵀ + bias, for x of shape (…, k): (…, d).

        `product` stands in for `F.linear` in the one product of full size, e.g. to add noise to its weight.
        """
        return product(x, self.weight(W0), bias)

    def check(self, W0: Tensor) -> None:
        """Refuse a weight that this adapter was not made for.

        Raises:
            ValueError: If W0 is not of the adapter's shape.
        """
        if W0.shape != self.shape:
            raise ValueError(f"W0 has shape {tuple(W0.shape)}; this adapter is for {self.shape}")

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"{self.shape[0]}×{self.shape[1]}"


class LoRA(Adapter):
    """W0 + s·B·A: a low-rank update of one matrix (Hu et al. 2021).

    A starts uniform in ±1/√k and B at zero, as in PEFT, so that the first weight is W0 itself.

    Args:
        shape: (d, k) of the frozen weight: outputs, inputs.
        rank: r, from 1 to min(d, k).
        alpha: `alpha = rank` if not given.
        scaling: s is alpha/r (`"standard"`), alpha/√r (`"rank_stabilised"`, Kalajdzievski 2023,
            arXiv 2312.03732), or alpha itself (`"paper"`, GLRA Eq. 3 as printed).
        dropout: Chance, in training, that the A branch does not see an input entry; W0 sees them all.
            Then `linear` is a random estimate of what `weight` says.  Draws from torch's global generator.
        generator: Where A is drawn from.
        dtype: Of A and B.
        device: Of A and B; the generator must live there.

    Raises:
        ValueError: If `shape` is not that of a matrix, `rank` not from 1 to min(d, k), `alpha` not finite,
            `scaling` unknown, or `dropout` not in [0, 1).

    Example:
        >>> adapter = LoRA((4, 3), rank=2, generator=torch.Generator())
        >>> sum(p.numel() for p in adapter.parameters())
        14
    """

    def __init__(
        self,
        shape: Sequence[int],
        rank: int,
        alpha: float | None = None,
        *,
        scaling: Scaling = "standard",
        dropout: float = 0.0,
        generator: torch.Generator,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(shape)
        d, k = self.shape
        rank = check_rank(rank, self.shape)
        if alpha is not None and not math.isfinite(alpha):
            raise ValueError(f"alpha={alpha} must be a finite number")
        if scaling not in get_args(Scaling):
            raise ValueError(f"scaling={scaling!r} is unknown; it is one of {', '.join(get_args(Scaling))}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout} must be a chance in [0, 1)")
        bound = 1 / math.sqrt(k)
        A = torch.empty(rank, k, dtype=dtype, device=device).uniform_(-bound, bound, generator=generator)
        self.A = nn.Parameter(A)  # (r, k)
        self.B = nn.Parameter(torch.zeros(d, rank, dtype=dtype, device=device))  # (d, r)
        self.rank, self.scaling, self.dropout = rank, scaling, dropout
        self.alpha = rank if alpha is None else alpha
        self.scale = self.alpha / {"standard": rank, "rank_stabilised": math.sqrt(rank), "paper": 1}[scaling]

    def mix(self, W0: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """(a, b) of W = a·W0 + b·s·B·A, each 0-d or (d,); None stands for 1."""
        return None, None

    def weight(self, W0: Tensor) -> Tensor:
        """The adapted weight a·W0 + b·s·B·A, of shape (d, k), in the dtype of W0.

        Raises:
            ValueError: If W0 is not of the adapter's shape.
        """
        self.check(W0)
        return self._mixed(W0, *self.mix(W0))

    def _mixed(self, W0: Tensor, a: Tensor | None, b: Tensor | None) -> Tensor:
        """a·W0 + b·s·B·A."""
        dtype = torch.promote_types(W0.dtype, self.A.dtype)
        with full_precision(W0):
            W, B = _rows_times(a, W0.to(dtype)), _rows_times(b, self.B.to(dtype))
            return torch.addmm(W, B, self.A.to(dtype), alpha=self.scale).to(W0.dtype)

    def linear(
        self, x: Tensor, W0: Tensor, bias: Tensor | None = None, product: Product = F.linear
    ) -> Tensor:
        """a·x·W0ᵀ + bias + b·s·(x·Aᵀ)·Bᵀ, for x of shape (…, k): (…, d), without forming the weight.

        Raises:
            ValueError: If W0 is not of the adapter's shape.
        """
        self.check(W0)
        a, b = self.mix(W0)
        plain = product is F.linear
        # (…, d), in autocast's dtype where it is on
        y = _linear(x, W0, a, bias) if plain else product(x, _rows_times(a, W0), bias)
        if self.dropout and self.training:
            x = F.dropout(x, self.dropout)
        h = F.linear(x, self.A.to(y.dtype))  # (…, r)
        B = _rows_times(b, self.B).to(y.dtype)
        flat = torch.addmm(y.reshape(-1, len(B)), h.reshape(-1, self.rank), B.t(), alpha=self.scale)
        return flat.reshape(y.shape)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        dropped = f", dropout={self.dropout:g}" if self.dropout else ""
        return f"{super().extra_repr()}, rank={self.rank}, scale={self.scale:g}{dropped}"


class Rows(Adapter):
    """Adapters on blocks of rows of one matrix, so that q and v of a fused qkv can be adapted alone.

    Args:
        shape: (d, k) of the whole matrix.
        blocks: Pairs (rows, adapter): a slice of the d rows, and an adapter of shape (rows, k) for it.

    Raises:
        ValueError: If there is no block, or a slice has a step, is empty, leaves the matrix, overlaps
            another, or differs in shape from its adapter.

    Example:
        >>> v = LoRA((4, 4), rank=2, generator=torch.Generator())
        >>> Rows((12, 4), [(slice(8, 12), v)]).weight(torch.ones(12, 4)).shape
        torch.Size([12, 4])
    """

    def __init__(self, shape: Sequence[int], blocks: Sequence[tuple[slice, Adapter]]) -> None:
        super().__init__(shape)
        d, k = self.shape
        if not blocks:
            raise ValueError("blocks is empty: name at least one slice of rows and its adapter")
        ordered = sorted(((*self._ends(rows, d), adapter) for rows, adapter in blocks), key=lambda b: b[:2])
        reached = 0
        for start, stop, adapter in ordered:
            if start < reached:
                raise ValueError(f"row {start} is in two blocks; blocks must not overlap")
            if adapter.shape != (stop - start, k):
                raise ValueError(
                    f"the adapter of rows {start}:{stop} is for {adapter.shape}, not {(stop - start, k)}"
                )
            reached = stop
        self.slices = [(start, stop) for start, stop, _ in ordered]
        self.adapters = nn.ModuleList(adapter for _, _, adapter in ordered)

    def weight(self, W0: Tensor) -> Tensor:
        """The matrix with its blocks replaced, of shape (d, k).

        Raises:
            ValueError: If W0 is not of the adapter's shape.
        """
        self.check(W0)
        with full_precision(W0):
            return torch.cat([W0[r] if a is None else a.weight(W0[r]) for r, a in self._pieces()])

    def linear(
        self, x: Tensor, W0: Tensor, bias: Tensor | None = None, product: Product = F.linear
    ) -> Tensor:
        """The layer's output, block by block, for x of shape (…, k): (…, d); at once with a `product`.

        Raises:
            ValueError: If W0 is not of the adapter's shape.
        """
        self.check(W0)
        if product is not F.linear:
            return product(x, self.weight(W0), bias)
        found = []
        for r, a in self._pieces():
            b = None if bias is None else bias[r]
            found.append(F.linear(x, W0[r], b) if a is None else a.linear(x, W0[r], b))
        return torch.cat(found, -1)

    def _pieces(self) -> list[tuple[slice, Adapter | None]]:
        """All rows in order: those of a block with its adapter, those between with None."""
        pieces: list[tuple[slice, Adapter | None]] = []
        reached = 0
        for (start, stop), adapter in zip(self.slices, self.adapters, strict=True):
            if start > reached:
                pieces.append((slice(reached, start), None))
            pieces.append((slice(start, stop), adapter))  # type: ignore[arg-type]
            reached = stop
        return pieces + ([(slice(reached, self.shape[0]), None)] if reached < self.shape[0] else [])

    @staticmethod
    def _ends(rows: slice, d: int) -> tuple[int, int]:
        start, stop, step = rows.indices(d)
        if step != 1 or start >= stop or (rows.stop is not None and rows.stop > d):
            raise ValueError(f"rows={rows} must be a slice start:stop, not empty, of the {d} rows")
        return start, stop

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"{super().extra_repr()}, rows {', '.join(f'{start}:{stop}' for start, stop in self.slices)}"


def adapted(W0: Params, adapters: Mapping[str, Adapter]) -> Params:
    """The point that adapters make of W0: adapted tensors replaced, all others as they are.

    Differentiable in the adapters.  For adapters attached to a model see `attaching.effective_weights`.

    Args:
        W0: The frozen point.
        adapters: Name of a tensor of W0 to its adapter.

    Raises:
        ValueError: If an adapter's name is not in W0.
    """
    unknown = sorted(adapters.keys() - W0.keys())
    if unknown:
        raise ValueError(f"adapters names {unknown}, which W0 does not have; it has {sorted(W0)}")
    return {name: adapters[name].weight(W) if name in adapters else W for name, W in W0.items()}


def _rows_times(a: Tensor | None, W: Tensor) -> Tensor:
    """Each row of W times its entry of a, which is (d,) or 0-d; None is 1."""
    return W if a is None else a.to(W.dtype).reshape(-1, 1) * W


def _linear(x: Tensor, W0: Tensor, a: Tensor | None, bias: Tensor | None) -> Tensor:
    """x·(a·W0)ᵀ + bias, where a multiplies W0 or x·W0ᵀ, whichever has fewer entries."""
    if a is None:
        return F.linear(x, W0, bias)
    held = not (a.requires_grad or W0.requires_grad)
    if held and x.numel() >= W0.numel() and eager():
        return _Linear.apply(x, W0, a, bias)  # type: ignore[no-untyped-call]
    y = F.linear(x, W0)
    a = a.to(y.dtype)
    return y * a if bias is None else torch.addcmul(bias.to(y.dtype), y, a)


class _Linear(torch.autograd.Function):
    """x·(a·W0)ᵀ + bias.  Keeps W0 and a for the backward pass, not their product, which is as large as W0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, W0: Tensor, a: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(W0, a)
        return F.linear(x, _rounded_once(a, W0), bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,), (W0, a), needed = grads, ctx.saved_tensors, ctx.needs_input_grad
        of_x = grad @ _rounded_once(a, W0).to(grad.dtype) if needed[0] else None
        return of_x, None, None, grad.reshape(-1, len(W0)).sum(0) if needed[3] else None


def _rounded_once(a: Tensor, W0: Tensor) -> Tensor:
    return _rows_times(a, W0.to(torch.promote_types(W0.dtype, torch.float32))).to(W0.dtype)


def full_precision(W0: Tensor) -> AbstractContextManager[Any]:
    """A weight is what it is in any context: inside, autocast does not round it."""
    kind = W0.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()

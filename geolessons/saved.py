"""What autograd keeps from a forward pass for the backward pass, counted."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

__all__ = ["Saved"]


class Saved(AbstractContextManager["Saved"]):
    """Counts the bytes of all that is kept while this is open: each storage once, some not at all.

    Args:
        besides: Tensors that are there anyway, such as a model's parameters.

    Example:
        >>> import torch
        >>> x = torch.ones(10, requires_grad=True)
        >>> with Saved([x]) as saved:
        ...     y = (x * x).exp()  # keeps x, which is there anyway, and its own result
        >>> saved.bytes
        40
    """

    def __init__(self, besides: Iterable[Tensor] = ()) -> None:
        self._held: dict[int, Tensor] = {}
        self._besides = {x.untyped_storage().data_ptr() for x in besides}
        self._hooks = saved_tensors_hooks(self._pack, lambda x: x)

    @property
    def bytes(self) -> int:
        """All of them."""
        new = (x for at, x in self._held.items() if at not in self._besides)
        return sum(x.untyped_storage().nbytes() for x in new)

    def _pack(self, x: Tensor) -> Tensor:
        self._held.setdefault(x.untyped_storage().data_ptr(), x)  # held, so that no address is used twice
        return x

    def __enter__(self) -> Saved:
        self._hooks.__enter__()
        return self

    def __exit__(self, *reason: Any) -> None:
        self._hooks.__exit__(*reason)

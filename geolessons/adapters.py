"""Low-rank adapters: a weight that is a function of a frozen W0 and a few trainable numbers.

LoRA (Hu et al. 2021, arXiv 2106.09685): W = W0 + s·B·A with A (r, k), B (d, r) and W0 (d, k).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from geolessons.trees import Params

__all__ = ["LoRA", "effective_weights"]


class LoRA(nn.Module):
    """W0 + s·B·A: a low-rank update of one matrix (Hu et al. 2021).

    A starts uniform in ±1/√k and B at zero, as in PEFT, so that the first weight is W0 itself.

    Args:
        shape: (d, k) of the frozen weight: outputs, inputs.
        rank: r, from 1 to min(d, k).
        alpha: The scale is s = alpha/rank; `alpha = rank` if not given.
        generator: Where A is drawn from.
        dtype: Of A and B.
        device: Of A and B; the generator must live there.

    Raises:
        ValueError: If `shape` is not that of a matrix, `rank` not from 1 to min(d, k), or `alpha` not finite.

    Example:
        >>> adapter = LoRA((4, 3), rank=2, generator=torch.Generator())
        >>> sum(p.numel() for p in adapter.parameters())
        14
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        rank: int,
        alpha: float | None = None,
        *,
        generator: torch.Generator,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        if len(shape) != 2:
            raise ValueError(f"shape={tuple(shape)} is not a matrix's; LoRA needs (outputs, inputs)")
        d, k = shape
        if not 1 <= rank <= min(d, k):
            raise ValueError(f"rank={rank} must be from 1 to min{(d, k)} = {min(d, k)}")
        if alpha is not None and not math.isfinite(alpha):
            raise ValueError(f"alpha={alpha} must be a finite number")
        bound = 1 / math.sqrt(k)
        A = torch.empty(rank, k, dtype=dtype, device=device).uniform_(-bound, bound, generator=generator)
        self.A = nn.Parameter(A)  # (r, k)
        self.B = nn.Parameter(torch.zeros(d, rank, dtype=dtype, device=device))  # (d, r)
        self.scale = (rank if alpha is None else alpha) / rank

    def weight(self, W0: Tensor) -> Tensor:
        """The adapted weight W0 + s·B·A, of shape (d, k); differentiable in A and B.

        Raises:
            ValueError: If W0 is not of the adapter's shape.
        """
        shape = (len(self.B), self.A.shape[1])
        if W0.shape != shape:
            raise ValueError(f"W0 has shape {tuple(W0.shape)}; this adapter is for {shape}")
        return W0 + self.scale * (self.B @ self.A)


def effective_weights(W0: Params, adapters: dict[str, LoRA]) -> Params:
    """The point that adapters make of W0: adapted tensors replaced, all others as they are.

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

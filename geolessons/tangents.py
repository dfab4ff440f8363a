"""The directions that LoRA's factors can move a matrix in, and projections onto them and off them.

    dW = s·(dB·A + B·dA),    outside: (1 − UUᵀ)·X·(1 − VVᵀ)

with U a basis of the columns of B and V one of the rows of A: r·(d + k − r) directions inside, of d·k.
The tangent space of the matrices of rank r (Absil, Mahony, Sepulchre 2008, Optimization Algorithms on Matrix
Manifolds, 3.1 and 7.5), moved to W0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geolessons.trees import check_finite, wide

__all__ = ["Tangent", "tangent_projector"]


class Tangent:
    """The directions that LoRA's factors can move a matrix in, to first order, and those that they cannot.

    Made by `tangent_projector`.

    Attributes:
        U: Orthonormal basis of the columns of B, (d, p); p = r unless B has lower rank.
        V: Orthonormal basis of the rows of A, as columns, (k, q).
    """

    def __init__(self, U: Tensor, V: Tensor) -> None:
        self.U, self.V = U, V

    @property
    def shape(self) -> tuple[int, int]:
        """(d, k)."""
        return len(self.U), len(self.V)

    @property
    def dimension(self) -> int:
        """Of the directions inside: r·(d + k − r) where A and B have full rank."""
        return math.prod(self.shape) - self.codimension

    @property
    def codimension(self) -> int:
        """Of those outside: (d − p)·(k − q)."""
        return (len(self.U) - self.U.shape[1]) * (len(self.V) - self.V.shape[1])

    def outside(self, X: Tensor) -> Tensor:
        """(1 − UUᵀ)·X·(1 − VVᵀ), of shape (d, k): what the factors cannot do."""
        U, V = self.U.to(X.dtype), self.V.to(X.dtype)
        X = X - U @ (U.T @ X)
        return X - (X @ V) @ V.T

    def inside(self, X: Tensor) -> Tensor:
        """X less that: the nearest to X of the form dB·A + B·dA."""
        return X - self.outside(X)


def tangent_projector(A: Tensor, B: Tensor) -> Tangent:
    """Orthogonal projections onto the tangent directions dB·A + B·dA of LoRA at (A, B), and off them.

    At the usual start B is zero, and r·d directions are left: those with rows among A's.

    Args:
        A: (r, k).
        B: (d, r).

    Raises:
        TypeError: For integer tensors.
        ValueError: If shapes do not fit, or entries are not finite.

    Example:
        >>> tangent_projector(torch.eye(2, 5), torch.eye(4, 2)).dimension  # 2·(4 + 5 − 2)
        14
    """
    check_finite({"A": A, "B": B}, "(A, B)")
    if A.dim() != 2 or B.dim() != 2 or A.shape[0] != B.shape[1] or not len(A):
        raise ValueError(
            f"A has shape {tuple(A.shape)}, B {tuple(B.shape)}; they must be (r, k) and (d, r) with one r"
        )
    return Tangent(_columns(B), _columns(A.T))


def _columns(M: Tensor) -> Tensor:
    """An orthonormal basis of the span of the columns."""
    U, s, _ = torch.linalg.svd(wide(M.detach()), full_matrices=False)
    tiny = max(M.shape) * torch.finfo(M.dtype).eps
    return U[:, s > tiny * s[0]]

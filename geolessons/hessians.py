"""Products with the Hessian of a loss, without the Hessian.

    H v = ∂/∂W ⟨∂L/∂W, v⟩                                    (Pearlmutter 1994, Neural Computation 6)

`Hessian` keeps the gradient's graph, so each further product at one point costs one backward pass.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geolessons.estimates import Loss, finite_loss
from geolessons.trees import Params, check_alike, check_finite

__all__ = ["Hessian", "hvp"]


class Hessian:
    """The Hessian of a loss at a point, as a thing to multiply with: `H @ v`.

    The loss and its gradient are computed once; their graph is kept while this lives, in memory about twice
    that of a training step.  For a loss over chunks of data, add the products of each chunk's.

    Args:
        loss: A function of the point, e.g. from `estimates.loss_of`.
        W: The point; not touched.  Only these tensors are varied.

    Attributes:
        W: The point.
        value: The loss there.
        gradient: Its gradient there, a vector like W.
        products: How many products were taken so far.

    Raises:
        TypeError: If W holds integer tensors.
        ValueError: If W or the loss is not finite, or the loss does not depend on W.

    Example:
        >>> H = Hessian(lambda P: (P["w"] ** 3).sum(), {"w": torch.tensor([1.0, 2.0])})
        >>> H @ {"w": torch.tensor([1.0, 1.0])}
        {'w': tensor([ 6., 12.])}
    """

    def __init__(self, loss: Loss, W: Params) -> None:
        check_finite(W, "W")
        if not W:
            raise ValueError("W is empty: a point needs at least one tensor")
        self.W = {k: w.detach() for k, w in W.items()}
        self._leaves = {k: w.clone().requires_grad_() for k, w in self.W.items()}
        with torch.enable_grad():
            value = loss(dict(self._leaves))
            self.value = finite_loss(value.detach() if isinstance(value, Tensor) else value)
            missing = (
                "loss does not depend on W: does it use the point it is given, without detach or no_grad?"
            )
            if not value.requires_grad:
                raise ValueError(missing)
            found = torch.autograd.grad(value, self._inputs, create_graph=True, allow_unused=True)
        if all(g is None for g in found):
            raise ValueError(missing)
        slopes = dict(zip(self.W, found, strict=True))
        self.gradient = {
            k: torch.zeros_like(w) if (g := slopes[k]) is None else g.detach() for k, w in self.W.items()
        }
        # a gradient that is constant in W has no graph, and no second derivative
        self._slopes = {k: g for k, g in slopes.items() if g is not None and g.requires_grad}
        self.products = 0

    @property
    def _inputs(self) -> list[Tensor]:
        return list(self._leaves.values())

    def __matmul__(self, v: Params) -> Params:
        """The product H·v, a vector like W.

        Raises:
            TypeError: If v holds integer tensors.
            ValueError: If v is not of W's space, has NaN or infinite entries, or is zero.
        """
        check_finite(v, "v")
        check_alike(v, self.W, ("v", "W"))
        if not any(bool(x.any()) for x in v.values()):
            raise ValueError("v is zero: give a direction, its product would be zero whatever the loss")
        return self.product(v)

    def product(self, v: Params) -> Params:
        """As `H @ v`, without looking at v."""
        self.products += 1
        found = torch.autograd.grad(
            list(self._slopes.values()),
            self._inputs,
            [v[k] for k in self._slopes],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return dict(zip(self.W, found, strict=True))


def hvp(loss: Loss, W: Params, v: Params) -> Params:
    """One product of the loss's Hessian at W with v.  For several at one point take `Hessian`.

    Raises:
        TypeError: As `Hessian`.
        ValueError: As `Hessian` and its product.
    """
    return Hessian(loss, W) @ v

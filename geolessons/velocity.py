"""VelocityLoRA: a weight that a field has pushed, where the push looks at the weight (DELoRA).

W = W0 carried along v for a horizon, in fixed Euler steps: one step of length 1 is W0 + v(W0), the paper's
single-inference form (Mantri et al. 2024, OpenReview FFQ5T3EN18, Eq. 2 and 7; the field is
`fields.SoftmaxField`).  PEFT's DeLoRA is another method (arXiv 2503.18225), hence our name.
Ours: the reading "W0 frozen, only the field trains", `reference`, `normalise`, more than one step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from geolessons.adapters import Adapter, full_precision
from geolessons.fields import Axis, SoftmaxField, integrate

__all__ = ["VelocityLoRA"]


class VelocityLoRA(Adapter):
    """W0 carried along a softmax field of r·(d + k) numbers, as many as LoRA's.

    Left alone it is the paper's field: every weight is raised, each row by 1 in sum, and W0 itself
    cannot be represented.  With `reference="uniform"` it starts at W0, exactly.

    Args:
        shape: (d, k) of the frozen weight.
        rank: r, from 1 to min(d, k).
        axis: What sums to 1; see `fields.SoftmaxField`.
        temperature: As there.
        reference: None (the paper's, `literal`) or `"uniform"` (`centred`, W2 starts at zero).
        normalise: Scale W0 inside the softmax, which cures the faint signal; see `fields.SoftmaxField`.
        steps: Euler steps, back-propagated through.
        horizon: How long the field is followed.
        generator: Where the field's parameters are drawn from.
        dtype: Of the field's parameters.
        device: Of the field's parameters; the generator must live there.

    Raises:
        ValueError: As `fields.SoftmaxField`; and if `steps` or `horizon` is not positive.

    Example:
        >>> adapter = VelocityLoRA((4, 3), rank=2, reference="uniform", generator=torch.Generator())
        >>> torch.equal(adapter.weight(torch.ones(4, 3)), torch.ones(4, 3))
        True
    """

    def __init__(
        self,
        shape: Sequence[int],
        rank: int,
        *,
        axis: Axis = "in",
        temperature: Literal["paper", "rank"] | float | None = None,
        reference: Literal["uniform"] | None = None,
        normalise: bool = False,
        steps: int = 1,
        horizon: float = 1.0,
        generator: torch.Generator,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(shape)
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(f"steps={steps!r} must be a whole number, 1 or more")
        if not 0 < horizon < math.inf:
            raise ValueError(f"horizon={horizon} must be a finite number above 0")
        self.field = SoftmaxField(
            self.shape,
            rank,
            axis=axis,
            temperature=temperature,
            reference=reference,
            normalise=normalise,
            zero_init=reference == "uniform",
            generator=generator,
            dtype=dtype,
            device=device,
        )
        self.rank, self.steps, self.horizon = self.field.W1.shape[1], steps, horizon

    def weight(self, W0: Tensor) -> Tensor:
        """Where the field carries W0, (d, k), in the dtype of W0.

        Raises:
            ValueError: If W0 is not of the adapter's shape, or has NaN or infinite entries.
        """
        self.check(W0)
        with full_precision(W0):
            start = W0.to(torch.promote_types(W0.dtype, torch.float32))  # half precision is rounded once
            return integrate(self.field, start, horizon=self.horizon, steps=self.steps).to(W0.dtype)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"{super().extra_repr()}, rank={self.rank}, steps={self.steps}, horizon={self.horizon:g}"

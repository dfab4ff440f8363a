"""Two roads from W0 to W1 = W0 + s·B·A, walked while A and B are trained.

    RampedLoRA     W(t) = W0 + t·s·B·A            the straight road: LoRA with a ramped scale
    GeodesicLoRA   W(t) = f(t)·W0 + g(t)·W1       the arc, SLERP's f and g (GLRA, Abraham et al. 2024)

A schedule (see `schedules`) brings t from 0 to 1.  Ours: W(t) = (f + g)·W0 + g·s·B·A with the angle from
the factors (p = ⟨W0, sBA⟩, q = ‖sBA‖, then atan2), so that neither W1 nor W(t) is ever formed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from geolessons.adapters import LoRA, full_precision
from geolessons.arcs import NormMode, check_t, mixture
from geolessons.scopes import antipodal_problem, refuse
from geolessons.trees import wide

__all__ = ["GeodesicLoRA", "RampedLoRA", "set_t"]

BLOCK = 1 << 17  # entries of W0 turned into float64 at a time: 1 MB, which stays in cache


class RampedLoRA(LoRA):
    """W0 + t·s·B·A: LoRA whose scale is ramped by a schedule, the straight road to W1.

    The control for `GeodesicLoRA`: same schedule, no arc.  `t` is a buffer that `set_t` fills.

    Args:
        shape: As `LoRA`.
        rank: As `LoRA`.
        alpha: As `LoRA`.
        t: How far along the road, in [0, 1], to start with.  At 0 the gradients of A and B vanish.
        **options: As `LoRA`.

    Raises:
        TypeError: If t is not a number.
        ValueError: As `LoRA`; and if t is outside [0, 1].
    """

    t: Tensor

    def __init__(
        self, shape: Sequence[int], rank: int, alpha: float | None = None, *, t: float, **options: object
    ) -> None:
        super().__init__(shape, rank, alpha, **options)  # type: ignore[arg-type]
        check_t(t, extrapolate=False)
        self.register_buffer("t", torch.tensor(float(t), device=self.A.device))

    def mix(self, W0: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """(1, t)."""
        return None, self.t

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"{super().extra_repr()}, t={'?' if self.t.is_meta else f'{float(self.t):g}'}"


class GeodesicLoRA(RampedLoRA):
    """SLERP from W0 to W0 + s·B·A, as far as t: GLRA, its parameters trained through the arc.

    W(t) = (f + g)·W0 + g·s·B·A, where f, g depend on the angle ω between W0 and W1; ω comes from the
    factors, so neither W1 nor W(t) is formed in `linear`.  At t = 1 it is LoRA.  Between the ends it also
    scales W0, so the update has full rank there.  A zero W0 or W1 has no direction: straight line.

    Args:
        shape: As `LoRA`.
        rank: As `LoRA`.
        alpha: As `LoRA`.
        t: How far along the arc, in [0, 1], to start with.  At 0 the gradients of A and B vanish.
        scope: What turns as one vector: the `"tensor"`, or each `"row"`.
        norm_mode: `"raw"` (GLRA Eq. 2), `"direction_linear"` or `"direction_geometric"`; see `sphere.slerp`.
        detach_angle: Hold f and g constant in the backward pass.
        **options: As `LoRA`.

    Raises:
        TypeError: If t is not a number.
        ValueError: As `RampedLoRA`; and for an unknown scope or norm_mode.

    References:
        Abraham, Hauenstein, Scheirer 2024, OpenReview ig4gYlF8Z5, Eq. 2 and Algorithm 1.  The paper does not
        say what is trained; this is the reading in which t matters.  `studies.literal` shows the other.

    Example:
        >>> adapter = GeodesicLoRA((4, 3), rank=2, t=0.5, generator=torch.Generator())
        >>> torch.equal(adapter.weight(torch.ones(4, 3)), torch.ones(4, 3))
        True
    """

    def __init__(
        self,
        shape: Sequence[int],
        rank: int,
        alpha: float | None = None,
        *,
        t: float,
        scope: Literal["tensor", "row"] = "tensor",
        norm_mode: NormMode = "raw",
        detach_angle: bool = True,
        **options: object,
    ) -> None:
        super().__init__(shape, rank, alpha, t=t, **options)
        if scope not in ("tensor", "row"):
            raise ValueError(f"scope={scope!r} must be 'tensor' or 'row': an adapter sees one matrix only")
        if norm_mode not in get_args(NormMode):
            known = ", ".join(get_args(NormMode))
            raise ValueError(f"norm_mode={norm_mode!r} is unknown; it is one of {known}")
        self.scope, self.norm_mode, self.detach_angle = scope, norm_mode, detach_angle

    def angle(self, W0: Tensor) -> Tensor:
        """The angle ω between W0 and W0 + s·B·A in radians, float64: 0-d, or (d,) with `scope="row"`.

        Sums run in float64.  A part of B·A along W0 that is 10⁸ times the part across it hides the latter.
        """
        return self._arc(W0)[0]

    def weight(self, W0: Tensor) -> Tensor:
        """The weight W(t), of shape (d, k), in the dtype of W0.

        Raises:
            ValueError: If W0 is not of the adapter's shape, or W1 is opposite to it (not seen by `linear`).
        """
        self.check(W0)
        omega, n0, n1 = self._arc(W0)
        refuse([antipodal_problem(omega.detach(), "")])
        a, b = mixture(omega, n0, n1, self.norm_mode, self.t)
        return self._mixed(W0, a + b, b)

    def mix(self, W0: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """(f + g, g), with SLERP's coefficients."""
        a, b = mixture(*self._arc(W0), self.norm_mode, self.t)
        return a + b, b

    def _arc(self, W0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Angle and lengths (ω, n0, n1), from the factors; lengths are 1 where none is prescribed."""
        A: Tensor = self.A
        B: Tensor = self.B
        if self.detach_angle:
            W0, A, B = W0.detach(), A.detach(), B.detach()
        with full_precision(W0):
            A, B = wide(A), wide(B)
            # W0·Aᵀ (d, r), the one product of full size; p = ⟨W0, sBA⟩ and q² = ‖sBA‖² of each row
            looks = [_look(rows, A) for rows in torch.split(W0, max(1, BLOCK // self.shape[1]))]
            along, nn0 = (torch.cat(x) for x in zip(*looks, strict=True))
            p = self.scale * (along * B).sum(1)
            q2 = self.scale**2 * ((B @ (A @ A.T)) * B).sum(1)
        if self.scope == "tensor":
            p, q2, nn0 = p.sum(), q2.sum(), nn0.sum()
        one = torch.ones_like(nn0)
        if self.shape[1] * (self.shape[0] if self.scope == "tensor" else 1) == 1:
            return torch.zeros_like(nn0), one, one  # one number has a sign, no direction
        zero0 = nn0 == 0
        n0 = torch.where(zero0, one, nn0).sqrt()
        part = p / n0
        rest2 = q2 - part * part
        turned = (rest2 > 0) & ~zero0
        rest = torch.where(turned, torch.where(turned, rest2, one).sqrt(), 0.0)  # sqrt has no slope at 0
        ahead = n0 + part
        straight = zero0 | (~turned & (ahead == 0))
        ahead = torch.where(straight, one, ahead)
        omega = torch.atan2(rest, ahead)
        if self.norm_mode == "raw":
            return omega, one, one
        return omega, torch.where(straight, one, n0), torch.where(straight, one, torch.hypot(ahead, rest))


def _look(rows: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:
    """A block of W0 turned into float64, times Aᵀ, and its rows' squared lengths; the copy ends here."""
    rows = wide(rows)
    return rows @ A.T, torch.linalg.vector_norm(rows, dim=1).square()


def set_t(where: nn.Module, t: float | Tensor) -> None:
    """Move every adapter with a `t` in a model (or the adapter itself) to that place on its road.

    Raises:
        TypeError: If t is not a real number.
        ValueError: If t is outside [0, 1], or nothing in `where` has a `t`.
    """
    check_t(t, extrapolate=False)
    found = [m for m in where.modules() if isinstance(m, RampedLoRA)]
    if not found:
        raise ValueError("set_t found no GeodesicLoRA or RampedLoRA here: attach one first")
    for adapter in found:
        adapter.t.fill_(t)

"""Two roads from W0 to W1 = W0 + s·B·A, walked while A and B are trained.

    RampedLoRA     W(t) = W0 + t·s·B·A            the straight road: LoRA with a ramped scale
    GeodesicLoRA   W(t) = f(t)·W0 + g(t)·W1       the arc, SLERP's f and g (GLRA, Abraham et al. 2024)

A schedule (see `schedules`) brings t from 0 to 1.  Ours: W(t) = (f + g)·W0 + g·s·B·A with the angle from
the factors (p = ⟨W0, sBA⟩, q = ‖sBA‖, then atan2), so that neither W1 nor W(t) is ever formed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor, nn

from geolessons.adapters import Adapter, LoRA, Rows, full_precision
from geolessons.arcs import NormMode, check_t, mixture
from geolessons.scopes import Scope, antipodal_problem, refuse
from geolessons.trees import any_true, wide

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
        scope: What turns as one vector: the `"tensor"`, each `"row"`, or all adapted tensors of the `"model"`
            together, as `set_t(model, t)` finds them: call it in each step, and before the first.
        norm_mode: `"raw"` (GLRA Eq. 2), `"direction_linear"` or `"direction_geometric"`; see `sphere.slerp`.
        detach_angle: Hold f and g constant in the backward pass; always, with `scope="model"`.
        **options: As `LoRA`.

    Raises:
        TypeError: If t is not a number.
        ValueError: As `RampedLoRA`; and for an unknown scope or norm_mode, or `scope="model"` without
            `detach_angle`.

    References:
        Abraham, Hauenstein, Scheirer 2024, OpenReview ig4gYlF8Z5, Eq. 2 and Algorithm 1.  The paper does not
        say what is trained; this is the reading in which t matters.  `studies.literal` shows the other.

    Example:
        >>> adapter = GeodesicLoRA((4, 3), rank=2, t=0.5, generator=torch.Generator())
        >>> torch.equal(adapter.weight(torch.ones(4, 3)), torch.ones(4, 3))
        True
    """

    arc: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        rank: int,
        alpha: float | None = None,
        *,
        t: float,
        scope: Scope = "tensor",
        norm_mode: NormMode = "raw",
        detach_angle: bool = True,
        **options: object,
    ) -> None:
        super().__init__(shape, rank, alpha, t=t, **options)
        if scope not in get_args(Scope):
            raise ValueError(f"scope={scope!r} is unknown; it is one of {', '.join(get_args(Scope))}")
        if scope == "model" and not detach_angle:
            raise ValueError(
                'detach_angle=False must be True with scope="model": set_t finds the angle, without gradients'
            )
        if norm_mode not in get_args(NormMode):
            known = ", ".join(get_args(NormMode))
            raise ValueError(f"norm_mode={norm_mode!r} is unknown; it is one of {known}")
        self.scope, self.norm_mode, self.detach_angle = scope, norm_mode, detach_angle
        if scope == "model":  # ω, n0, n1 of the whole, −1 as long as they are not known
            dtype = torch.promote_types(self.A.dtype, torch.float32)
            self.register_buffer("arc", torch.full((3,), -1.0, dtype=dtype, device=self.A.device))

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
        if self.scope == "model":
            if any_true(self.arc < 0):
                raise ValueError(
                    'the angle of scope="model" is not known yet: call set_t(model, t) on the whole model, '
                    "at first and whenever A and B have changed"
                )
            omega, n0, n1 = wide(self.arc).clone().unbind()  # not a view of what set_t changes
            return omega, n0, n1
        p, q2, nn0 = self.products(W0)
        if self.scope == "tensor":
            p, q2, nn0 = p.sum(), q2.sum(), nn0.sum()
        single = self.shape[1] * (self.shape[0] if self.scope == "tensor" else 1) == 1
        return _turned(p, q2, nn0, single, self.norm_mode)

    def products(self, W0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """⟨W0, sBA⟩, ‖sBA‖² and ‖W0‖² of each row, (d,) in float64, in one product with W0."""
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
        return p, q2, nn0


def _turned(
    p: Tensor, q2: Tensor, nn0: Tensor, single: bool, norm_mode: NormMode
) -> tuple[Tensor, Tensor, Tensor]:
    """(ω, n0, n1) from ⟨W0, D⟩, ‖D‖² and ‖W0‖², where W1 = W0 + D; `single` if they are of one number."""
    one = torch.ones_like(nn0)
    if single:
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
    if norm_mode == "raw":
        return omega, one, one
    return omega, torch.where(straight, one, n0), torch.where(straight, one, torch.hypot(ahead, rest))


def _look(rows: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:
    """A block of W0 turned into float64, times Aᵀ, and its rows' squared lengths; the copy ends here."""
    rows = wide(rows)
    return rows @ A.T, torch.linalg.vector_norm(rows, dim=1).square()


def set_t(where: nn.Module, t: float | Tensor) -> None:
    """Move every adapter with a `t` in a model (or the adapter itself) to that place on its road.

    Those with `scope="model"` are measured here, as one vector of all their weights.

    Raises:
        TypeError: If t is not a real number.
        ValueError: If t is outside [0, 1], nothing in `where` has a `t`, or an adapter with `scope="model"`
            comes without its layer.
    """
    check_t(t, extrapolate=False)
    found = [m for m in where.modules() if isinstance(m, RampedLoRA)]
    if not found:
        raise ValueError("set_t found no GeodesicLoRA or RampedLoRA here: attach one first")
    whole = [m for m in found if isinstance(m, GeodesicLoRA) and m.scope == "model"]
    if whole:
        _measure_together(where, whole)
    for adapter in found:
        adapter.t.fill_(t)


@torch.no_grad()
def _measure_together(where: nn.Module, whole: list[GeodesicLoRA]) -> None:
    """One angle for all of them, from sums over their matrices (GLRA Eq. 2 on the vector of them all)."""
    pairs: list[tuple[GeodesicLoRA, Tensor]] = []
    for layer in where.modules():
        W0, adapter = getattr(layer, "base_weight", None), getattr(layer, "adapter", None)
        if isinstance(W0, Tensor) and isinstance(adapter, Adapter):
            pairs += [(a, W) for a, W in _parts(adapter, W0.detach()) if a.scope == "model"]
    if len(pairs) < len(whole):
        raise ValueError(
            f'{len(whole) - len(pairs)} adapters with scope="model" are in no adapted layer of this module: '
            "give set_t the model that they are attached to"
        )
    home = pairs[0][0].arc.device
    sums = [torch.stack([x.sum() for x in adapter.products(W0)]).to(home) for adapter, W0 in pairs]
    p, q2, nn0 = torch.stack(sums).sum(0)
    single = len(pairs) == 1 and pairs[0][1].numel() == 1
    for adapter, _ in pairs:
        adapter.arc.copy_(torch.stack(_turned(p, q2, nn0, single, adapter.norm_mode)))


def _parts(adapter: Adapter, W0: Tensor) -> list[tuple[GeodesicLoRA, Tensor]]:
    """The geodesic adapters in an adapter, each with the rows of W0 that it is for."""
    if isinstance(adapter, Rows):
        each = zip(adapter.adapters, adapter.slices, strict=True)
        return [pair for a, (i, j) in each for pair in _parts(a, W0[i:j])]  # type: ignore[arg-type]
    return [(adapter, W0)] if isinstance(adapter, GeodesicLoRA) else []

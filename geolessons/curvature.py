"""Curvature of a loss: products with its Hessian, its largest eigenvalues, its trace, and parts of it.

    H v = ∂/∂W ⟨∂L/∂W, v⟩,    tr H = E ⟨z, H z⟩  for entries z = ±1    (Hutchinson 1989)

Products are those of `hessians`.  The largest eigenvalues come from Lanczos' method with full
reorthogonalisation, each with its residual ‖Hv − λv‖; the trace with its standard error.
Ours: the mean curvature inside and outside of LoRA's tangent directions (`tangents`), with its error.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from geolessons.estimates import Estimate, Loss, estimate
from geolessons.guards import check_counts
from geolessons.hessians import Hessian, hvp
from geolessons.matching import some
from geolessons.tangents import Tangent, tangent_projector
from geolessons.trees import Params, dot, flatten, map_tensors, unflatten, wide

__all__ = [
    "Eigen",
    "Hessian",
    "Order",
    "Tangent",
    "eigenvalues",
    "hvp",
    "mean_curvature",
    "tangent_projector",
    "trace",
]

Order = Literal["magnitude", "algebraic"]
Side = Literal["inside", "outside"]


class Eigen(NamedTuple):
    """An eigenvalue with its vector, of length 1; `residual` is ‖Hv − λv‖, `products` what all cost."""

    value: float
    residual: float
    vector: Params
    products: int


def eigenvalues(
    loss: Loss,
    W: Params,
    count: int = 1,
    *,
    generator: torch.Generator,
    tolerance: float = 1e-3,
    max_products: int = 200,
    order: Order = "magnitude",
) -> list[Eigen]:
    """The largest eigenvalues of the Hessian at W, by Lanczos' method.

    Within ‖Hv − λv‖ of each value there is an eigenvalue.  A larger one is missed only if the random start
    has next to nothing of it.  Of equal eigenvalues the method sees one until rounding shows the others.

    They are not invariant: scale one layer up and the next down, and they change while the function does not
    (Dinh et al. 2017, arXiv 1703.04933).

    Args:
        loss: A function of the point, e.g. from `estimates.loss_of`.
        W: The point.
        count: How many.
        generator: Where the first direction comes from, on the device of W.
        tolerance: Stop when all residuals are below this share of the largest `|λ|`.
        max_products: Stop at this many products with the Hessian.
        order: `"magnitude"`: the largest `|λ|` first.  `"algebraic"`: the largest λ first.

    Returns:
        `count` of them in that order.

    Raises:
        TypeError: As `Hessian`.
        ValueError: As `Hessian`; if there are fewer than `count`, or they would need more than
            `max_products`; or if tolerance is not positive, or order unknown.

    Warns:
        UserWarning: If `max_products` did not suffice; each residual says how good its value is.

    References:
        Lanczos 1950; Saad, Numerical Methods for Large Eigenvalue Problems, 2011, 6.6.

    Example:
        >>> W, g = {"w": torch.zeros(3)}, torch.Generator().manual_seed(0)
        >>> spectrum = torch.tensor([1.0, -4.0, 2.0])
        >>> found = eigenvalues(lambda P: (spectrum * P["w"] ** 2).sum() / 2, W, 2, generator=g)
        >>> [round(e.value, 3) for e in found]
        [-4.0, 2.0]
    """
    check_counts(count=count, max_products=max_products)
    if order not in get_args(Order):
        raise ValueError(f"order={order!r} is unknown; it is one of {', '.join(get_args(Order))}")
    if not 0 < tolerance < math.inf:
        raise ValueError(f"tolerance={tolerance} must be a finite number above 0")
    H = Hessian(loss, W)
    N = sum(w.numel() for w in W.values())
    if count > min(N, max_products):
        raise ValueError(
            f"count={count} is more than there are or may be looked for: W has {N} entries, "
            f"max_products={max_products}"
        )
    most = min(N, max_products)
    dtype = torch.promote_types(flatten(H.W).dtype, torch.float32)
    held = flatten(H.W).new_empty((min(16, most), N), dtype=dtype)
    columns: list[Tensor] = []  # H·q in terms of the rows of Q: one longer than Q was
    q = _fresh(held[:0], generator)
    while True:
        m = len(columns) + 1
        if m > len(held):
            held = torch.cat([held, torch.empty_like(held)])
        held[m - 1] = q
        Q = held[:m]  # orthonormal rows
        w = flatten(H.product(unflatten(q, H.W))).to(dtype)
        w, along = _orthogonal(w, Q)
        left = torch.linalg.vector_norm(w)
        columns.append(wide(torch.cat([along, left[None]])).cpu())
        values, vectors, residuals = _ritz(columns)
        rank = values.abs() if order == "magnitude" else values
        best = rank.argsort(descending=True)[:count]
        scale = float(values.abs().max())
        if not math.isfinite(scale):
            raise ValueError(
                "a product with the Hessian is not finite: its entries overflow or are undefined"
            )
        done = m >= count and bool((residuals[best] <= tolerance * scale).all())
        if done or m == most:
            break
        # nothing new is left in this direction: go on in another
        tiny = 10 * torch.finfo(dtype).eps * scale
        q = w / left if float(left) > tiny else _fresh(Q, generator)
    if not done:
        warnings.warn(
            f"eigenvalues: {most} products did not suffice for tolerance={tolerance:g}; residuals are up to "
            f"{float(residuals[best].max()):.1e}. Raise max_products",
            stacklevel=2,
        )
    return [
        Eigen(
            float(values[i]),
            float(residuals[i]),
            unflatten(vectors[:, i].to(Q) @ Q, H.W),
            H.products,
        )
        for i in best.tolist()
    ]


def _fresh(Q: Tensor, generator: torch.Generator) -> Tensor:
    """A random direction at right angles to the rows of Q, of length 1."""
    q = torch.randn(Q.shape[1], generator=generator, dtype=Q.dtype, device=Q.device)
    q, _ = _orthogonal(q / torch.linalg.vector_norm(q), Q)
    return q / torch.linalg.vector_norm(q)


def _orthogonal(w: Tensor, Q: Tensor) -> tuple[Tensor, Tensor]:
    """What of w is at right angles to the rows of Q, and its parts along them; twice, against rounding."""
    along = Q @ w
    w = w - along @ Q
    again = Q @ w
    return w - again @ Q, along + again


def _ritz(columns: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvalues of QHQᵀ, their vectors in terms of Q, and ‖Hv − λv‖, in which nothing is left out."""
    m = len(columns)
    h = torch.zeros(m + 1, m, dtype=columns[0].dtype)
    for j, column in enumerate(columns):
        h[: len(column), j] = column
    values, vectors = torch.linalg.eigh((h[:m] + h[:m].T) / 2)
    apart = h @ vectors
    apart[:m] -= vectors * values
    return values, vectors, torch.linalg.vector_norm(apart, dim=0)


def trace(loss: Loss, W: Params, *, count: int = 30, generator: torch.Generator) -> Estimate:
    """The trace of the Hessian at W: the mean of ⟨z, Hz⟩ over random signs z (Hutchinson 1989).

    One draw's variance is twice the sum of the squared entries off the diagonal.

    Args:
        loss: A function of the point, e.g. from `estimates.loss_of`.
        W: The point.
        count: Draws, each costing one product.
        generator: Where the signs come from, on the device of W.

    Raises:
        TypeError: As `Hessian`.
        ValueError: As `Hessian`; and if count is below 1.

    Example:
        >>> W, g = {"w": torch.ones(3)}, torch.Generator().manual_seed(0)
        >>> trace(lambda P: P["w"].square().sum(), W, count=5, generator=g)
        Estimate(value=6.0, stderr=0.0, n=5)
    """
    check_counts(count=count)
    H = Hessian(loss, W)
    draws = []
    for _ in range(count):
        z = _signs(H.W, generator)
        draws.append(float(dot(z, H.product(z))))
    return estimate(draws)


def _signs(W: Params, generator: torch.Generator) -> Params:
    def draw(w: Tensor) -> Tensor:
        bits = torch.randint(0, 2, w.shape, generator=generator, device=w.device)
        return (2 * bits - 1).to(w.dtype)

    return map_tensors(draw, W)


def mean_curvature(
    loss: Loss,
    W: Params,
    tangents: Mapping[str, Tangent],
    side: Side = "inside",
    *,
    count: int = 30,
    generator: torch.Generator,
) -> Estimate:
    """The mean of ⟨v, Hv⟩ over unit directions v inside, or outside, LoRA's tangent directions.

    The trace of PHP over the number of directions that P leaves, all matrices together, by random signs.
    The same seed draws the same signs for both sides.

    Args:
        loss: A function of the point; its weights are the merged ones (`attaching.effective_weights`, on the
            model without adapters).
        W: The point; tensors without a tangent do not move.
        tangents: Name of a matrix in W to what `tangent_projector` gives at its factors.
        side: `"inside"` or `"outside"`.
        count: Draws, each costing one product.
        generator: Where the signs come from, on the device of W.

    Raises:
        TypeError: As `Hessian`.
        ValueError: As `Hessian`; if tangents is empty, names what W does not have or has another shape, or
            leaves no direction on this side; if side is unknown, or count below 1.
    """
    check_counts(count=count)
    if side not in get_args(Side):
        raise ValueError(f"side={side!r} is unknown; it is one of {', '.join(get_args(Side))}")
    unfit = [k for k, t in tangents.items() if k not in W or W[k].shape != t.shape]
    if unfit:
        raise ValueError(f"tangents has {some(unfit)}, of which W has no matrix of the same shape")
    if not tangents:
        raise ValueError("tangents is empty: name at least one matrix of W")
    size = sum(t.dimension if side == "inside" else t.codimension for t in tangents.values())
    if not size:
        raise ValueError(f"tangents leaves no direction {side}: the rank is zero, or full")
    H = Hessian(lambda P: loss({**W, **P}), {k: W[k] for k in tangents})  # the other tensors stand still
    draws = []
    for _ in range(count):
        z = _signs(H.W, generator)
        v = {
            k: tangent.inside(z[k]) if side == "inside" else tangent.outside(z[k])
            for k, tangent in tangents.items()
        }
        draws.append(float(dot(v, H.product(v))) / size)
    return estimate(draws)

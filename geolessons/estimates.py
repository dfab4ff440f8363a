"""Means over draws with their errors, and what noise on the weights does to a loss.

    S(σ) = E_ε L(W + ε) − L(W),   ε_ij ~ N(0, σ²·‖W_i‖²/k)

The noise is Flat-LoRA's (Li et al. 2024, arXiv 2409.14396v1, Eq. 5): each row in proportion to its length.
What is measured by draws comes as an `Estimate`, with its standard error and the number of draws.
Ours: paired comparisons.  The same seed gives two points of one space the same relative noise.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from geolessons.draws import check_strength, row_noise
from geolessons.guards import check_counts
from geolessons.matching import some
from geolessons.trees import Params, check_alike, check_finite, map_tensors

__all__ = ["Estimate", "Loss", "estimate", "expected_loss", "loss_of", "sharpness"]

Loss = Callable[[Params], Tensor]

CHANCES = ("dropout", "p", "attention_dropout", "attn_dropout", "dropout_prob", "drop_prob")


class Estimate(NamedTuple):
    """A mean over n draws; `stderr` is its standard error, NaN if n is 1."""

    value: float
    stderr: float
    n: int


def estimate(draws: Iterable[float]) -> Estimate:
    """The mean of some draws, and its standard error s/√n.

    Raises:
        ValueError: If there are none.

    Example:
        >>> estimate([1.0, 2.0, 3.0]).value
        2.0
    """
    found = [float(x) for x in draws]
    if not found:
        raise ValueError("draws is empty: a mean needs at least one")
    n = len(found)
    spread = statistics.stdev(found) if n > 1 else math.nan
    return Estimate(math.fsum(found) / n, spread / math.sqrt(n), n)


def loss_of(model: nn.Module, metric: Callable[[Callable[..., Any]], Tensor]) -> Loss:
    """The loss as a function of the point: what second derivatives and noise are taken of.

    The model runs in the mode it is in, on the caller's parameters for names that the point leaves out; it
    is bit for bit as before afterwards.  Attention runs in its plain form (torch's math kernel): the fused
    ones have no second derivative.  `metric` should see the whole data set, in one go or in chunks.

    Args:
        model: Without active dropout.
        metric: Gets a function that runs the model (`run(x)` for `model(x)`) and returns a 0-d tensor, in
            which it is differentiable: as in `paths.evaluate`, but with gradients.

    Returns:
        A function of a point, whose names are among the model's parameters.  It raises a `ValueError` for
        other names, shapes or devices, and if the metric gives no 0-d tensor.

    Raises:
        ValueError: If a layer in training mode has dropout: each call would be another function.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> loss = loss_of(model, lambda run: run(torch.ones(2)).sum())
        >>> loss({"weight": torch.tensor([[1.0, 2.0]])})
        tensor(3.)
    """
    _refuse_dropout(model)

    def loss(W: Params) -> Tensor:
        _refuse_dropout(model)
        parameters = dict(model.named_parameters(remove_duplicate=False))
        unknown = sorted(W.keys() - parameters.keys())
        if unknown:
            raise ValueError(
                f"W names {some(unknown)}, which the model does not have; it has {some(parameters)}. A point "
                "with merged weights needs the model without adapters"
            )
        check_alike(W, {k: parameters[k] for k in W}, ("W", "model"), same_dtype=False)
        given = {id(parameters[k]) for k in W}  # a tied tensor has several names
        others = {k: p.detach() for k, p in model.named_parameters() if id(p) not in given}
        # in training mode batch norm writes into its buffers: into copies
        buffers = {k: b.clone() for k, b in model.named_buffers()} if model.training else {}

        def run(*args: Any, **kwargs: Any) -> Any:
            return functional_call(model, {**others, **buffers, **W}, args, kwargs)

        with sdpa_kernel(SDPBackend.MATH):
            value = metric(run)
        return _scalar(value, "metric")

    return loss


def expected_loss(
    loss: Loss, W: Params, sigma: float, *, count: int = 30, generator: torch.Generator
) -> Estimate:
    """The mean loss under Flat-LoRA's noise on the weights, E_ε L(W + ε).

    Tensors with fewer than two dimensions do not move; convolutions have one row a filter.

    Args:
        loss: A function of the point, e.g. from `loss_of`.
        W: The point, which is not touched.
        sigma: The noise beside the row: ‖ε_i‖ is about σ·‖W_i‖.
        count: Draws, each costing one run.
        generator: Where they come from; seeded alike, two points of one space get the same relative noise.

    Raises:
        TypeError: If sigma is not a number, or W holds integer tensors.
        ValueError: If sigma is negative, count below 1, W or a loss not finite.
    """
    return estimate(_noisy_losses(loss, W, sigma, count, generator))


def sharpness(
    loss: Loss, W: Params, sigma: float, *, count: int = 30, generator: torch.Generator
) -> Estimate:
    """How much noise on the weights raises the loss: S(σ) = E_ε L(W + ε) − L(W).

    Unlike eigenvalues it stays the same where a row of a ReLU network is scaled up and what reads its output
    is scaled down: noise in proportion to the rows scales along.

    Args:
        loss: As `expected_loss`.
        W: As `expected_loss`.
        sigma: As `expected_loss`.
        count: As `expected_loss`; one run more is made at W.
        generator: As `expected_loss`.

    Raises:
        TypeError: As `expected_loss`.
        ValueError: As `expected_loss`.

    Example:
        >>> W, g = {"w": torch.ones(1, 4)}, torch.Generator().manual_seed(0)
        >>> found = sharpness(lambda P: P["w"].square().sum(), W, 0.1, count=1000, generator=g)
        >>> abs(found.value - 0.04) < 4 * found.stderr  # σ²·‖W‖²
        True
    """
    draws = _noisy_losses(loss, W, sigma, count, generator)
    with torch.no_grad():
        clean = finite_loss(loss(W))
    return estimate(x - clean for x in draws)


def finite_loss(value: Tensor) -> float:
    """A loss as a number.

    Raises:
        ValueError: If it is not a 0-d tensor with a finite value.
    """
    number = float(_scalar(value, "loss"))
    if not math.isfinite(number):
        raise ValueError(
            f"loss is {number} here: nothing can be said of its shape; is a weight or input NaN?"
        )
    return number


def _noisy_losses(
    loss: Loss, W: Params, sigma: float, count: int, generator: torch.Generator
) -> Sequence[float]:
    check_strength(sigma)
    check_counts(count=count)
    check_finite(W, "W")
    W = {k: w.detach() for k, w in W.items()}

    def moved(w: Tensor) -> Tensor:
        if w.dim() < 2 or not w.numel():
            return w
        return w + row_noise(w, sigma, generator)

    with torch.no_grad():
        return [finite_loss(loss(map_tensors(moved, W))) for _ in range(count)]


def _scalar(value: object, what: str) -> Tensor:
    if not isinstance(value, Tensor) or value.dim():
        found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise ValueError(f"{what} must give a 0-d tensor, not {found}; take the mean over the examples")
    return value


def _refuse_dropout(model: nn.Module) -> None:
    """Refuse layers that would drop something now, known by what they call the chance."""
    active = [
        name or type(m).__name__
        for name, m in model.named_modules()
        if m.training and any(_chance(getattr(m, what, 0)) for what in CHANCES)
    ]
    if active:
        raise ValueError(
            f"the model is in training mode and drops at random at {some(active)}: each call would be "
            "another function. Call model.eval() first"
        )


def _chance(value: object) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and 0 < value < 1

"""SAM, sharpness-aware minimisation, on LoRA's factors and in the full space: what Flat-LoRA is beside.

    min over x of  max over ‖e‖ ≤ ρ of  L(x + e),    e = ρ·g/‖g‖ with g = ∂L/∂x

(Foret et al. 2021, arXiv 2010.01412, Eq. 1 and 2).  Two passes a step: one finds e, one the gradients there.
With x the factors A, B (Flat-LoRA, arXiv 2409.14396v1, Eq. 2) the weights are perturbed by
s·((B + eB)·(A + eA) − B·A), of rank 2r at most; with x the adapted weights themselves (Eq. 3) by anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from geolessons.adapters import LoRA
from geolessons.attaching import AdaptedLinear, adapted_layers, check_gathered
from geolessons.draws import check_strength
from geolessons.estimates import finite_loss
from geolessons.matching import join, some
from geolessons.trees import Params, norm

__all__ = ["Space", "factor_perturbation", "sam_gradients"]

Space = Literal["factors", "full"]


def sam_gradients(
    model: nn.Module, loss: Callable[[], Tensor], rho: float, space: Space = "factors"
) -> Tensor:
    """One SAM step's gradients: those of the loss at the worst point within ρ, to first order.

    In a training loop::

        optimiser.zero_grad()
        sam_gradients(model, lambda: loss(model, batch), rho=0.05)
        optimiser.step()

    They are added to `.grad` of what is trainable, as `backward` does.  No weight is written to: perturbed
    tensors take their place for the second pass, so all are bit for bit as before, also after an exception.
    Where the gradient is zero, so is the perturbation.

    Args:
        model: Its trainable parameters get the gradients.
        loss: Runs the model on a batch, the same in both calls, and gives a 0-d tensor.
        rho: The perturbation's length over all perturbed tensors together, 0 or more.
        space: `"factors"` perturbs all trainable parameters; `"full"` the weights W' of all adapted layers,
            which must have LoRA adapters, where ∂L/∂W' = ∂L/∂W0.

    Returns:
        The loss before the perturbation, detached.

    Raises:
        TypeError: If rho is not a number.
        ValueError: If rho is negative or not finite, space unknown, nothing is trainable, the loss is not
            finite, not 0-d or does not depend on what is perturbed, or the gradient is not finite; in the
            full space, if there is no adapted layer or one whose adapter does more than add to its weight.

    References:
        Foret et al. 2021, arXiv 2010.01412; Flat-LoRA, arXiv 2409.14396v1, Eq. 2 and 3.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> sam_gradients(model, lambda: model(torch.ones(2)).sum() ** 2, rho=0.1).shape
        torch.Size([])
    """
    check_strength(rho, "rho")
    if space not in get_args(Space):
        raise ValueError(f"space={space!r} is unknown; it is one of {', '.join(get_args(Space))}")
    check_gathered(model)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trained:
        raise ValueError("the model has no trainable parameter: nothing to take gradients for")
    moved: dict[str, nn.Parameter] = trained if space == "factors" else _bases(model)
    clean, e = _ascent(loss, moved, rho)
    found = _gradients_at(loss, moved, e, list(trained.values()))
    for p, g in zip(trained.values(), found, strict=True):
        if g is not None:
            p.grad = g if p.grad is None else p.grad + g
    return clean


def factor_perturbation(model: nn.Module, loss: Callable[[], Tensor], rho: float) -> Params:
    """What SAM on the factors does to the weights: s·((B + eB)·(A + eA) − B·A), of rank 2r at most.

    At the usual start B = 0, so eA = 0, and it is s·eB·A: SAM then looks only into the rows' space of A.

    Args:
        model: With LoRA adapters attached.
        loss: As `sam_gradients`.
        rho: As `sam_gradients`.

    Returns:
        Name of each adapted layer's weight, as `attaching.effective_weights` names it, to a tensor (d, k).

    Raises:
        TypeError: As `sam_gradients`.
        ValueError: As `sam_gradients` in the full space.
    """
    check_strength(rho, "rho")
    _bases(model)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trained:
        raise ValueError("the model has no trainable parameter: there is nothing to perturb")
    _, e = _ascent(loss, trained, rho)
    found = {}
    for name, layer in adapted_layers(model).items():
        adapter = layer.adapter
        assert isinstance(adapter, LoRA)
        A, B = adapter.A.detach(), adapter.B.detach()
        eA, eB = (e.get(join(name, f"adapter.{k}"), torch.zeros_like(x)) for k, x in (("A", A), ("B", B)))
        # B·eA + eB·(A + eA): the difference of the two products would lose what is small
        found[join(name, "weight")] = adapter.scale * (B @ eA + eB @ (A + eA))
    return found


def _bases(model: nn.Module) -> dict[str, nn.Parameter]:
    """The frozen weights of the adapted layers, whose gradients are those of the adapted weights."""
    layers = adapted_layers(model)
    if not layers:
        raise ValueError("the model has no adapted layer: attach LoRA adapters first")
    unfit = [f"{name} ({type(m.adapter).__name__})" for name, m in layers.items() if not _adds(m)]
    if unfit:
        raise ValueError(f"the adapters at {some(unfit)} do more than add to the weight: this needs LoRA")
    return {name: layer.base_weight for name, layer in layers.items()}


def _adds(layer: AdaptedLinear) -> bool:
    return type(layer.adapter) is LoRA


def _ascent(loss: Callable[[], Tensor], moved: dict[str, nn.Parameter], rho: float) -> tuple[Tensor, Params]:
    """The loss, and ρ·g/‖g‖ for its gradient g in these parameters, trainable or not."""
    flags = {name: p.requires_grad for name, p in moved.items()}
    try:
        for p in moved.values():
            p.requires_grad_(True)
        clean = _run(loss)
        found = torch.autograd.grad(clean, list(moved.values()), allow_unused=True)
    finally:
        for name, p in moved.items():
            p.requires_grad_(flags[name])
    g = {name: x for name, x in zip(moved, found, strict=True) if x is not None}
    if not g:
        raise ValueError(f"loss does not depend on {some(moved)}: it must run the model, without no_grad")
    size = float(norm(g))
    if not math.isfinite(size):
        raise ValueError("the gradient has NaN or infinite entries: no direction can be taken from it")
    return clean.detach(), {name: x * (rho / size if size else 0.0) for name, x in g.items()}


def _gradients_at(
    loss: Callable[[], Tensor], moved: dict[str, nn.Parameter], e: Params, wanted: Sequence[nn.Parameter]
) -> tuple[Tensor | None, ...]:
    """Gradients with the perturbation on."""
    originals = [(p, p.data) for p in moved.values()]
    try:
        for name, x in e.items():
            p = moved[name]
            p.data = p.data + x
        value = _run(loss)
        return torch.autograd.grad(value, wanted, allow_unused=True)
    finally:
        _put_back(originals)


def _put_back(originals: Sequence[tuple[nn.Parameter, Tensor]]) -> None:
    try:
        for p, data in originals:
            p.data = data
    except KeyboardInterrupt:
        _put_back(originals)  # it came in the middle of this; nothing may stay perturbed
        raise


def _run(loss: Callable[[], Tensor]) -> Tensor:
    with torch.enable_grad():
        value = loss()
        finite_loss(value.detach() if isinstance(value, Tensor) else value)
    if not value.requires_grad:
        raise ValueError(
            "loss does not depend on the model's parameters: it must run the model, with gradients"
        )
    return value

"""Does an adapter do anything?  One run of the model, and the gradient of its output tells."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from geolessons.matching import some

__all__ = ["without_effect"]


def without_effect(
    model: nn.Module,
    parameters: Mapping[str, Sequence[nn.Parameter]],
    probe: Tensor | Sequence[Any] | Mapping[str, Any],
) -> None:
    """Report the layers whose adapters the model's output on a batch does not depend on.

    Runs in evaluation mode; modes, gradients and random state are as before afterwards.

    Args:
        model: With adapters attached.
        parameters: Name of each adapted layer to its adapter's parameters.
        probe: The input: a tensor, a sequence of arguments, or a mapping of keyword arguments.

    Raises:
        ValueError: If there is no effect at all.

    Warns:
        UserWarning: If some layers have none.
    """
    flat = [p for group in parameters.values() for p in group]
    with torch.enable_grad(), _evaluating(model):
        if isinstance(probe, Mapping):
            outputs = model(**probe)
        else:
            outputs = model(*([probe] if isinstance(probe, Tensor) else probe))
        ends = [y for y in _tensors(outputs) if y.requires_grad]
        # a random direction: sums of outputs do not move behind a layer norm or a softmax
        draw = torch.Generator().manual_seed(0)
        directions = [torch.randn(y.shape, generator=draw).to(y.device, y.dtype) for y in ends]
        slopes = (
            torch.autograd.grad(ends, flat, directions, allow_unused=True) if ends else [None] * len(flat)
        )
    moved = {id(p) for p, g in zip(flat, slopes, strict=True) if g is not None and bool(g.any())}
    idle = [name for name, group in parameters.items() if not any(id(p) in moved for p in group)]
    if len(idle) == len(parameters):
        raise ValueError(
            f"no adapter has an effect on the model's output: {some(idle)}. Does the model use these layers? "
            "Is t = 0?"
        )
    if idle:
        warnings.warn(f"these adapters have no effect on the model's output: {some(idle)}", stacklevel=3)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(m, m.training) for m in model.modules()]
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    try:
        with torch.random.fork_rng(devices=sorted(devices, key=str)):
            model.eval()
            yield
    finally:
        for module, training in modes:
            module.training = training


def _tensors(found: Any) -> Iterator[Tensor]:
    """The tensors in nested mappings and sequences; other things are passed over."""
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, Mapping):
        for value in found.values():
            yield from _tensors(value)
    elif isinstance(found, list | tuple):
        for value in found:
            yield from _tensors(value)

"""Which layers of a model get noise, and what their weights are with the adapters applied."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from geolessons.attaching import adapted_layers
from geolessons.matching import some, spread

__all__ = ["Target", "noise_targets"]


@dataclass(frozen=True)
class Target:
    """A linear layer, and what its weight is with its adapters."""

    layer: nn.Linear
    weight: Callable[[], Tensor]


def noise_targets(model: nn.Module) -> tuple[dict[str, Target], dict[str, str]]:
    """The layers that get noise, by name, and those adapted in a way that gets none, with their kind.

    Raises:
        ValueError: If there is none, the parameters are in shards, or a layer of PEFT's is merged, disabled,
            or uses a variant that noise on the base layer does not fit.
    """
    shards = spread(model) - {"DistributedDataParallel"}
    if shards:
        raise ValueError(
            f"the model's parameters are in shards ({', '.join(sorted(shards))}), whose rows have no length "
            "in one process: noise needs whole weights (one process, or DistributedDataParallel)"
        )
    found = {
        name: Target(layer, lambda layer=layer: layer.adapter.weight(_wide(layer.base_weight)))  # type: ignore[misc]
        for name, layer in adapted_layers(model).items()
    }
    of_peft, left_out = _peft_targets(model)
    if not found | of_peft:
        besides = f"; adapted, but not nn.Linear: {some(left_out)}" if left_out else ""
        raise ValueError(f"the model has no adapted linear layer: attach adapters first{besides}")
    return found | of_peft, left_out


def _wide(W0: Tensor) -> Tensor:
    return W0.detach().to(torch.promote_types(W0.dtype, torch.float32))


def _peft_targets(model: nn.Module) -> tuple[dict[str, Target], dict[str, str]]:
    if "peft" not in sys.modules:  # then nothing in the model is PEFT's, and importing it takes seconds
        return {}, {}
    from peft.tuners.lora import LoraLayer

    found: dict[str, Target] = {}
    left_out: dict[str, str] = {}
    problems: list[str] = []
    for name, module in model.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        active = [a for a in module.active_adapters if a in module.lora_A]
        base = module.get_base_layer()
        if type(base) is not nn.Linear or not active:
            left_out[name] = "no active adapter" if type(base) is nn.Linear else type(base).__name__
            continue
        problem = _peft_problem(module, active)
        if problem:
            problems.append(f"{name} {problem}")
        found[name] = Target(base, lambda m=module, a=active: _peft_weight(m, a))  # type: ignore[misc]
    if problems:
        raise ValueError(f"noise cannot be added to: {some(problems)}")
    return found, left_out


def _peft_problem(module: Any, active: list[str]) -> str:
    if module.merged:
        return "is merged: call unmerge_adapter() first"
    if module.disable_adapters:
        return "has its adapters disabled: enable them first"
    variants: Mapping[str, Any] = getattr(module, "lora_variant", {})
    unknown = {type(variants[a]).__name__ for a in active if a in variants and not module.use_dora[a]}
    if unknown:
        return f"uses {', '.join(sorted(unknown))}, of which we do not know what it does with the base layer"
    if module.training and any(
        module.use_dora[a] and not isinstance(module.lora_dropout[a], nn.Identity) for a in active
    ):
        return "trains DoRA with dropout, which computes part of its base product without the base layer"
    return ""


def _peft_weight(module: Any, active: list[str]) -> Tensor:
    """W0 + s·B·A.  DoRA rescales rows afterwards, noise and weight alike, so their ratio is the same."""
    with torch.no_grad():
        W: Tensor = _wide(module.get_base_layer().weight)
        for name in active:
            W = W + module.get_delta_weight(name).to(W.dtype)
        return W

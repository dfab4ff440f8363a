"""Our network and its new task: the running example of chapters 0 to 3.

A multilayer perceptron 64-128-128-10 learns the upright digits; LoRA of rank 8 on its three matrices
then teaches it digits that lie (a quarter turn) or are tilted (30°).
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from geolessons.adapters import LoRA, adapted
from geolessons.data.digits import Split
from geolessons.models.mlp import mlp
from geolessons.training import descend
from geolessons.trees import Params, params_of

__all__ = ["SIZES", "adapt", "finetune", "pretrain"]

SIZES = (64, 128, 128, 10)


def pretrain(
    data: Split,
    seed: int,
    *,
    epochs: int = 30,
    lr: float = 3e-3,
    batch: int = 64,
    sizes: tuple[int, ...] = SIZES,
) -> nn.Module:
    """Our network, trained on `data` from random weights; the seed draws weights and batches.

    Args:
        data: E.g. `digits("upright")`.
        seed: Two seeds give two networks with nothing in common but the task.
        epochs: Passes over the training digits.
        lr: Adam's learning rate.
        batch: Examples a step.
        sizes: Inputs, hidden widths, outputs.
    """
    generator = torch.Generator().manual_seed(seed)
    x, y = data.x_train, data.y_train
    model = mlp(sizes, generator, dtype=x.dtype).to(x.device)

    def loss(xb: Tensor, yb: Tensor) -> Tensor:
        return cross_entropy(model(xb), yb)

    options: dict[str, Any] = {"epochs": epochs, "lr": lr, "batch": batch, "label": "pre-training"}
    descend(model.parameters(), loss, x, y, generator=generator, **options)
    model.zero_grad(set_to_none=True)
    return model.requires_grad_(False)


def adapt(
    model: nn.Module,
    data: Split,
    seed: int,
    *,
    rank: int = 8,
    epochs: int = 40,
    lr: float = 3e-3,
    batch: int = 64,
    match: str | list[str] = "*.weight",
) -> Params:
    """The point that LoRA reaches from the model on a new task; the model is not touched.

    Args:
        model: E.g. from `pretrain`.
        data: The new task, e.g. `digits("lying")`.
        seed: Draws A and the batches.
        rank: Of each adapter, or the smaller side of its matrix; the scale is 2 (alpha = 2·rank).
        epochs: Passes over the training digits.
        lr: Adam's learning rate.
        batch: Examples a step.
        match: Shell-style pattern(s) for the names of the matrices to adapt.

    Returns:
        All parameters of the model, its matrices replaced by W0 + 2·B·A.
    """
    generator = torch.Generator().manual_seed(seed)
    W0, chosen = params_of(model), params_of(model, match)
    adapters = {
        name: LoRA(
            tuple(W.shape), min(rank, *W.shape), 2 * min(rank, *W.shape), generator=generator, dtype=W.dtype
        ).to(W.device)
        for name, W in chosen.items()
    }

    def loss(xb: Tensor, yb: Tensor) -> Tensor:
        return cross_entropy(functional_call(model, adapted(W0, adapters), (xb,)), yb)

    trainable = [p for adapter in adapters.values() for p in adapter.parameters()]
    options: dict[str, Any] = {"epochs": epochs, "lr": lr, "batch": batch, "label": "LoRA"}
    descend(trainable, loss, data.x_train, data.y_train, generator=generator, **options)
    with torch.no_grad():
        return adapted(W0, adapters)


def finetune(model: nn.Module, data: Split, seed: int, *, epochs: int = 40, lr: float = 1e-3) -> Params:
    """The point that full fine-tuning reaches from the model: every number moves; the model is not touched.

    Args:
        model: E.g. from `pretrain`.
        data: The new task.
        seed: Draws the batches.
        epochs: Passes over the training digits.
        lr: Adam's learning rate.
    """
    moved = copy.deepcopy(model).requires_grad_(True)

    def loss(xb: Tensor, yb: Tensor) -> Tensor:
        return cross_entropy(moved(xb), yb)

    generator = torch.Generator().manual_seed(seed)
    options: dict[str, Any] = {"epochs": epochs, "lr": lr, "label": "fine-tuning"}
    descend(moved.parameters(), loss, data.x_train, data.y_train, generator=generator, **options)
    return params_of(moved)

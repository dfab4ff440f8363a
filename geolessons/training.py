"""A training loop that moves given tensors downhill, with a generator of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Literal, get_args

import torch
from torch import Tensor
from tqdm import tqdm

__all__ = ["descend"]

Optimiser = Literal["adam", "sgd"]


def descend(
    parameters: Iterable[Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    lr: float,
    generator: torch.Generator,
    batch: int = 64,
    optimiser: Optimiser = "adam",
    label: str = "training",
) -> list[float]:
    """Minimise `loss(x_batch, y_batch)` over `parameters`, which are changed in place.

    Args:
        parameters: Leaf tensors that require gradients.
        loss: Mean loss of a batch, 0-d.
        x: Inputs (n, …).
        y: Targets (n, …).
        epochs: Passes over the data, each in a new order.
        lr: Learning rate; it falls to zero along half a cosine.
        generator: Draws the orders; a CPU generator.
        batch: Examples a step.
        optimiser: `"adam"` or `"sgd"`.
        label: Words beside the progress bar, which shows in terminals only.

    Returns:
        The mean loss of each epoch.

    Raises:
        ValueError: For an unknown optimiser, epochs, lr or batch that are not positive, or x and y that
            are empty or differ in length.
        FloatingPointError: If the loss becomes NaN or infinite.
    """
    if optimiser not in get_args(Optimiser):
        raise ValueError(f"optimiser={optimiser!r} is unknown; it is one of {', '.join(get_args(Optimiser))}")
    if epochs < 1 or batch < 1 or not lr > 0:
        raise ValueError(f"epochs={epochs}, batch={batch} and lr={lr} must be positive")
    if len(x) == 0:
        raise ValueError("x is empty: there is nothing to train on")
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} rows and y has {len(y)}; they must go in pairs")
    make = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[optimiser]
    steps = make(list(parameters), lr=lr)  # type: ignore[operator]
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(steps, epochs * -(-len(x) // batch))
    history = []
    for _ in tqdm(range(epochs), label, unit="epoch", leave=False, disable=None):
        order = torch.randperm(len(x), generator=generator).to(x.device)
        total = 0.0
        for chosen in torch.split(order, batch):
            steps.zero_grad()
            value = loss(x[chosen], y[chosen])
            value.backward()  # type: ignore[no-untyped-call]
            steps.step()
            schedule.step()
            total += float(value.detach()) * len(chosen)
        if not math.isfinite(total):
            raise FloatingPointError(f"the loss became {total} with lr={lr}: take a smaller step")
        history.append(total / len(x))
    return history

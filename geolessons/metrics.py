"""What to read off a network: numbers for `paths.evaluate`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

__all__ = ["accuracy", "loss_and_accuracy"]


def accuracy(logits: Tensor, y: Tensor) -> float:
    """The share of rows of `logits` (n, classes) whose largest entry is at the label `y` (n,)."""
    return float((logits.argmax(1) == y).to(torch.float64).mean())


def loss_and_accuracy(x: Tensor, y: Tensor) -> Callable[[Callable[..., Any]], tuple[float, float]]:
    """A metric for `paths.evaluate`: mean cross entropy in nats, and the share read correctly."""

    def metric(run: Callable[..., Any]) -> tuple[float, float]:
        logits = run(x)
        return float(cross_entropy(logits, y)), accuracy(logits, y)

    return metric

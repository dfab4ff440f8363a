"""What to read off a network: numbers for `paths.evaluate`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

__all__ = ["accuracy", "loss_and_accuracy", "matthews", "roc_area"]


def accuracy(logits: Tensor, y: Tensor) -> float:
    """The share of rows of `logits` (n, classes) whose largest entry is at the label `y` (n,)."""
    return float((logits.argmax(1) == y).to(torch.float64).mean())


def loss_and_accuracy(x: Tensor, y: Tensor) -> Callable[[Callable[..., Any]], tuple[float, float]]:
    """A metric for `paths.evaluate`: mean cross entropy in nats, and the share read correctly."""

    def metric(run: Callable[..., Any]) -> tuple[float, float]:
        logits = run(x)
        return float(cross_entropy(logits, y)), accuracy(logits, y)

    return metric


def matthews(predicted: Tensor, y: Tensor) -> float:
    """Matthews' correlation of yes-or-no answers with the truth, from -1 to 1; 0 is chance.

    (TP·TN - FP·FN) / √((TP+FP)·(TP+FN)·(TN+FP)·(TN+FN)), and 0 where that is 0/0 (one answer to all).  Unlike
    accuracy it gains nothing from the more frequent answer.

    Args:
        predicted: Answers (n,), 0 or 1.
        y: The truth (n,), 0 or 1.

    Raises:
        ValueError: If the two differ in shape, are empty, or hold anything else.

    References:
        Matthews 1975, Biochimica et Biophysica Acta 405, 442-451.

    Example:
        >>> matthews(torch.tensor([1, 1, 0, 0]), torch.tensor([1, 1, 1, 0]))
        0.5773502691896258
    """
    if predicted.shape != y.shape or y.dim() != 1 or not len(y):
        raise ValueError(
            f"predicted has shape {tuple(predicted.shape)}, y {tuple(y.shape)}; both must be (n,), n from 1"
        )
    _check_binary(predicted, "predicted")
    _check_binary(y, "y")
    says, true = predicted.bool(), y.bool()
    tp, fp = int((says & true).sum()), int((says & ~true).sum())
    fn, tn = int((~says & true).sum()), int((~says & ~true).sum())
    below = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return (tp * tn - fp * fn) / math.sqrt(below) if below else 0.0


def roc_area(scores: Tensor, y: Tensor) -> float:
    """The chance that an example of 1 scores above one of 0, ties half: the area under the ROC curve.

    It asks for the order of the scores alone, at no threshold; 0.5 is chance.

    Args:
        scores: (n,), higher for 1.
        y: The truth (n,), 0 or 1.

    Raises:
        ValueError: If the two differ in shape, or y does not hold both 0 and 1 and nothing else.

    References:
        Hanley and McNeil 1982, Radiology 143, 29-36.

    Example:
        >>> roc_area(torch.tensor([0.9, 0.4, 0.5, 0.1]), torch.tensor([1, 1, 0, 0]))
        0.75
    """
    if scores.shape != y.shape or y.dim() != 1:
        raise ValueError(f"scores has shape {tuple(scores.shape)}, y {tuple(y.shape)}; both must be (n,)")
    _check_binary(y, "y")
    ones, zeros = scores[y == 1][:, None], scores[y == 0]
    if not len(ones) or not len(zeros):
        raise ValueError("y must hold both 0 and 1: with one of them there is nothing to compare")
    return float((ones > zeros).double().mean() + (ones == zeros).double().mean() / 2)


def _check_binary(values: Tensor, name: str) -> None:
    if not bool(((values == 0) | (values == 1)).all()):
        raise ValueError(f"{name} must hold 0 and 1 alone")

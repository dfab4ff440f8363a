"""One loss for each of four dense answers, and their weighted sum.

    total = Σ over tasks of λ_k · L_k,    λ: semseg 1, human_parts 2, saliency 5, normals 10

as the PASCAL-Context multi-task benchmark trains (Maninis et al. 2019, arXiv 1904.08918; the weights as in
MTLoRA, Agiza et al. 2024, arXiv 2403.20320).  Each L_k is a mean over what is known: a pixel of label 255, or
of a zero normal, has no say in the value, and the gradient there is exactly 0, whatever is predicted (NaN
included).  A batch in which nothing is known gives 0 with a gradient of 0.  Predictions in half precision are
taken to float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

from geolessons.data.dense import IGNORE, TASKS, Dense

__all__ = [
    "LOSS_WEIGHTS",
    "balanced_cross_entropy",
    "known_normals",
    "known_pixels",
    "multitask_loss",
    "normals_l1",
    "pixel_cross_entropy",
]

LOSS_WEIGHTS: Mapping[str, float] = MappingProxyType(
    {"semseg": 1.0, "human_parts": 2.0, "saliency": 5.0, "normals": 10.0}
)


def multitask_loss(
    predictions: Mapping[str, Tensor], sample: Dense, weights: Mapping[str, float] = LOSS_WEIGHTS
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of the losses of the tasks that were predicted, and each of them unweighted.

    Args:
        predictions: Logits (n, classes, H, W) for semseg and human_parts, (n, 1, H, W) for saliency, vectors
            (n, 3, H, W) of any length for normals.  Any of the four; one alone is single-task training.
        sample: A batch; only the labels of the predicted tasks are looked at.
        weights: λ for each predicted task.

    Returns:
        A 0-d tensor to differentiate, and task to 0-d tensor.

    Raises:
        TypeError: If a label is not of whole numbers.
        ValueError: If there is no prediction, one is of an unknown task or of one without weight, or shapes
            or labels do not fit.

    References:
        Maninis et al. 2019, arXiv 1904.08918; Agiza et al. 2024, arXiv 2403.20320, for λ.

    Example:
        >>> label = torch.tensor([[[0, 1, 255]]])
        >>> sample = Dense(torch.zeros(1, 3, 1, 3), label, label, label, torch.zeros(1, 3, 1, 3))
        >>> total, parts = multitask_loss({"semseg": torch.zeros(1, 2, 1, 3)}, sample)
        >>> round(float(total), 4)  # log 2
        0.6931
    """
    if not predictions:
        raise ValueError(f"predictions is empty; it needs one or more of {', '.join(TASKS)}")
    for task in predictions:
        if task not in TASKS:
            raise ValueError(f"predictions has {task!r}, which is not one of {', '.join(TASKS)}")
        if task not in weights:
            raise ValueError(f"weights has none for {task!r}; it has {', '.join(weights) or 'none at all'}")
    losses: dict[str, Tensor] = {}
    for task, prediction in predictions.items():
        kind = {"saliency": balanced_cross_entropy, "normals": normals_l1}.get(task, pixel_cross_entropy)
        losses[task] = kind(prediction, getattr(sample, task))
    return torch.stack([weights[task] * loss for task, loss in losses.items()]).sum(), losses


def pixel_cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Mean cross entropy over the known pixels, in nats; 0 if there is none.

    Args:
        logits: (n, classes, H, W).
        label: (n, H, W), whole numbers below the number of classes, or 255.

    Raises:
        TypeError: If `label` is not of whole numbers.
        ValueError: If shapes or labels do not fit.
    """
    known = known_pixels(logits, label, logits.shape[1] if logits.dim() == 4 else 0)
    x = _single(logits).where(known[:, None], 0)  # where, not a product: 0·NaN is NaN
    total = F.cross_entropy(x, label.long(), ignore_index=IGNORE, reduction="sum")
    return total / known.sum().clamp(min=1)


def balanced_cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Binary cross entropy in which the rarer kind of pixel counts for as much as the other.

        L = (1/N) Σ [ (N₀/N)·y·(-log p) + (N₁/N)·(1-y)·(-log(1-p)) ],    p = sigmoid(logit)

    with N₀, N₁ the zeros and ones among the N known pixels of the whole batch.  So it hangs on how pictures
    are batched, and a batch of one kind alone gives 0: the kind that is there has weight 0.  The benchmark
    divides by all pixels, known or not; where saliency is known everywhere that is the same.

    Args:
        logits: (n, 1, H, W).
        label: (n, H, W), 0, 1, or 255.

    Raises:
        TypeError: If `label` is not of whole numbers.
        ValueError: If shapes or labels do not fit.

    References:
        Xie and Tu 2015, arXiv 1504.06375, Eq. 2, as used by Maninis et al. 2019, arXiv 1904.08918.

    Example:
        >>> label = torch.tensor([[[1, 0, 0, 0]]])  # weights 3/4 and 1/4: (3/4 + 3/4) log 2 / 4
        >>> round(float(balanced_cross_entropy(torch.zeros(1, 1, 1, 4), label)), 4)
        0.2599
    """
    known = known_pixels(logits, label, 2, channels=1)
    x = _single(logits)[:, 0].where(known, 0)
    ones = (label == 1).to(x.dtype)
    total = known.sum().clamp(min=1)
    share = ones.sum() / total
    weight = torch.where(label == 1, 1 - share, share) * known
    return F.binary_cross_entropy_with_logits(x, ones, weight, reduction="sum") / total


def normals_l1(prediction: Tensor, label: Tensor) -> Tensor:
    """Mean of `|p/‖p‖ - n|` over the three numbers of each known pixel; 0 if there is none.

    A prediction of length 0 has no direction: it stays 0, with the gradient of an L1 loss without division.

    Args:
        prediction: (n, 3, H, W), of any length.
        label: (n, 3, H, W), unit vectors, zero where unknown.

    Raises:
        ValueError: If shapes do not fit.

    Example:
        >>> up = torch.tensor([0.0, 1.0, 0.0]).reshape(1, 3, 1, 1)
        >>> float(normals_l1(7 * up, up)), float(normals_l1(-7 * up, up))  # the second: 2 / 3
        (0.0, 0.6666666865348816)
    """
    known = known_normals(prediction, label)[:, None]
    p = _single(prediction).where(known, 0)
    length = torch.linalg.vector_norm(p, dim=1, keepdim=True)
    unit = p / length.where(length > 0, 1)
    return (unit - label).abs().where(known, 0).sum() / (3 * known.sum()).clamp(min=1)


def known_pixels(logits: Tensor, label: Tensor, classes: int, *, channels: int | None = None) -> Tensor:
    """Where a label of classes says something, bool (n, H, W), once all fits.

    Args:
        logits: (n, channels, H, W).
        label: (n, H, W).
        classes: Labels are below.
        channels: Of the logits; None if as many as classes.

    Raises:
        TypeError: If `label` is not of whole numbers.
        ValueError: If shapes do not fit, or a label is neither a class nor 255.
    """
    want = classes if channels is None else channels
    if logits.dim() != 4 or logits.shape[1] != want or label.shape != logits[:, 0].shape:
        raise ValueError(
            f"logits has shape {tuple(logits.shape)}, label {tuple(label.shape)}; they must be "
            f"(n, {want or 'classes'}, H, W) and (n, H, W)"
        )
    if label.is_floating_point() or label.is_complex() or label.dtype == torch.bool:
        raise TypeError(f"label is {label.dtype}; it must be of whole numbers, as torch.int64")
    known = label != IGNORE
    wrong = known & ((label < 0) | (label >= classes))
    if bool(wrong.any()):
        raise ValueError(
            f"label holds {int(label[wrong][0])}; it must be from 0 to {classes - 1}, or {IGNORE} where "
            "nothing is known"
        )
    return known


def known_normals(prediction: Tensor, label: Tensor) -> Tensor:
    """Where a label of normals says something, bool (n, H, W), once all fits.

    Raises:
        ValueError: If the two are not of one shape (n, 3, H, W), or `label` is not finite.
    """
    if prediction.dim() != 4 or prediction.shape[1] != 3 or label.shape != prediction.shape:
        raise ValueError(
            f"prediction has shape {tuple(prediction.shape)}, label {tuple(label.shape)}; both must be "
            "(n, 3, H, W)"
        )
    if not bool(torch.isfinite(label).all()):
        raise ValueError("label holds NaN or infinity; it must be a normal, or zero where nothing is known")
    return (label != 0).any(1)


def _single(x: Tensor) -> Tensor:
    """At least float32: sums over a picture in half precision would be lost."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x

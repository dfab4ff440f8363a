"""What a run on one of Flat-LoRA's own protocols is made of: its numbers, its network and data, its arms.

    r8.0, r8.0.05, …   LoRA of rank r and alpha 16, and the same with noise of σ times half a cosine
    pissa, dora, ga    PEFT's PiSSA, DoRA and LoRA-GA at rank 8; `pissa.0.05`: with noise
    full               all weights of the network

Where the paper (Li et al. 2024, arXiv 2409.14396v1) is silent, both readings take what its published code
does: AdamW, gradients clipped to 1, a warm-up over 3 % of the steps, adapters on all linear layers but the
output's.  The last epoch counts; nothing is selected.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn
from torch.utils.data import Dataset

from geolessons.studies.flat_arms import Arm, arm

__all__ = ["Batch", "Protocol", "Reading", "Task", "arm_of", "arms_of"]

Reading = Literal["paper", "code"]
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Protocol:
    """The numbers of a run.

    Attributes:
        epochs: Passes over the data.
        lr: Largest learning rate of adapters; it falls to zero along half a cosine.
        full_lr: The same where all weights train.
        sigma: Strength of the noise.
        batch: Examples a step, over all processes and accumulated batches.
        weight_decay: Of AdamW, on matrices; vectors have none.
        warmup: Share of the steps in which the learning rate rises.
        alpha: Of LoRA, whose scale is alpha over the rank.
        clip: The largest gradient norm.
        own_draws: Each process draws a noise of its own, as in the published code; else all share one.
    """

    epochs: int
    lr: float
    full_lr: float
    sigma: float
    batch: int
    weight_decay: float = 0.1
    warmup: float = 0.03
    alpha: int = 16
    clip: float = 1.0
    own_draws: bool = False


@dataclass(frozen=True)
class Task:
    """A pre-trained network and a data set.

    Attributes:
        model: As pre-trained; runs work on copies.  Its parameters are what full fine-tuning trains.
        layers: Names of the linear layers that adapters go on.
        loss: The mean loss of a batch, 0-d.
        logits: One number a class, (n, C), for a batch.
        classes: C.
        train: Examples.
        test: Examples.
        collate: Puts examples together; the batch holds `label`, (n,), among others.
        matthews: Report Matthews' correlation beside the accuracy.
        facts: What else a result should tell of, e.g. where the weights are from.
    """

    model: nn.Module
    layers: list[str]
    loss: Callable[[nn.Module, Batch], Tensor]
    logits: Callable[[nn.Module, Batch], Tensor]
    classes: int
    train: Dataset[Any]
    test: Dataset[Any]
    collate: Callable[[list[Any]], Batch]
    matthews: bool = False
    facts: dict[str, Any] = field(default_factory=dict)


def arm_of(name: str) -> Arm:
    """What an arm's name says, as `flat_arms.arm`, without SAM.

    Raises:
        ValueError: If it names no arm of these studies.
    """
    found = arm(name)
    if found.kind.startswith("sam"):
        raise ValueError(f"name={name!r} is no arm of this study: the paper's tables have no SAM")
    return found


def arms_of(sigma: float, *, others: bool) -> tuple[str, ...]:
    """The arms of a table of the paper, each before the one that is compared with it.

    Args:
        sigma: Of the noise.
        others: PiSSA, DoRA and LoRA-GA as well (Table 3).

    Example:
        >>> arms_of(0.15, others=False)
        ('full', 'r8.0', 'r8.0.15', 'r16.0', 'r16.0.15')
    """
    kinds = ("r8", "r16", *(("pissa", "dora", "ga") if others else ()))
    return ("full", *(f"{kind}.{s:g}" for kind in kinds for s in (0, sigma)))

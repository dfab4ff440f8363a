"""The ways to tune that the study compares: each makes a given model ready and returns what answers.

single         a network a task, all weights: what Δ_m compares with
full           one network, all weights
lora           one LoRA for all tasks, one inference: the control that the paper's table lacks
lora-each      a LoRA a task, an inference each
literal        DELoRA as printed
centred        the field less the uniform matrix, so that it starts at W0
normalised     centred, with W0 scaled inside the softmax, so that signal comes through
normalised-4   the same in four Euler steps
mtlora         MTLoRA, after its code: one inference, streams that part in the last block of each stage
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn

from geolessons.attaching import effective_weights
from geolessons.models.mtlora import MTLoRA
from geolessons.models.multitask import MultiTask
from geolessons.models.multitask_methods import (
    answers_each,
    tune_full,
    tune_lora,
    tune_lora_each,
    tune_single,
    tune_velocity,
)
from geolessons.trees import Params

__all__ = ["ALL_WEIGHTS", "METHODS", "Answers", "moved", "ready", "trainings"]

METHODS = (
    "single",
    "full",
    "lora",
    "lora-each",
    "literal",
    "centred",
    "normalised",
    "normalised-4",
    "mtlora",
)
ALL_WEIGHTS = ("single", "full")


class Answers(nn.Module):
    """A model that answers some tasks, by one inference or by one a task."""

    def __init__(self, model: MultiTask, tasks: tuple[str, ...], *, each: bool = False) -> None:
        super().__init__()
        self.model, self.tasks, self.each = model, tasks, each

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Logits by task, for pictures (n, 3, H, W)."""
        return answers_each(self.model, image) if self.each else self.model(image, self.tasks)


def trainings(method: str, tasks: Iterable[str]) -> list[tuple[str, ...]]:
    """The tasks of each network that a method trains.

    Raises:
        ValueError: If there is no such method.
    """
    if method not in METHODS:
        raise ValueError(f"--method {method} is unknown; it is one of {', '.join(METHODS)}")
    return [(task,) for task in tasks] if method == "single" else [tuple(tasks)]


def ready(
    model: MultiTask, method: str, rank: int, tasks: tuple[str, ...], generator: torch.Generator
) -> nn.Module:
    """Make a model ready for a method, in place.

    Args:
        model: From the pre-trained backbone.
        method: One of `METHODS`.
        rank: Of its adapters or fields.
        tasks: As `trainings` gives them.
        generator: What adapters and fields are drawn from.

    Returns:
        A module that gives logits by task; its parameters that require gradients are what trains.

    Raises:
        ValueError: As `trainings`.
    """
    trainings(method, tasks)
    if method == "mtlora":
        return MTLoRA(model, rank, generator=generator)
    field = partial(tune_velocity, model, rank, generator=generator)
    tune: dict[str, Callable[[], object]] = {
        "single": lambda: tune_single(model, tasks[0]),
        "full": lambda: tune_full(model),
        "lora": lambda: tune_lora(model, rank, generator=generator),
        "lora-each": lambda: tune_lora_each(model, rank, generator=generator),
        "literal": lambda: field(variant="literal"),
        "centred": lambda: field(variant="centred"),
        "normalised": lambda: field(variant="normalised"),
        "normalised-4": lambda: field(variant="normalised", steps=4),
    }
    tune[method]()
    return Answers(model, tasks, each=method == "lora-each")


def moved(model: MultiTask) -> Params:
    """The backbone's weights as they act now, adapters merged, under the names of a model without any."""
    return {name: w for name, w in effective_weights(model).items() if name.startswith("features.")}

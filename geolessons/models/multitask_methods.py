"""Ways to tune a multi-task Swin: each makes a given model ready, in place, and says what trains.

    all weights     `tune_full`; for one task alone `tune_single`
    LoRA            `tune_lora`: one adapter for all tasks, one inference
    LoRA per task   `tune_lora_each`: one adapter a task, an inference each (`answers_each`)
    DELoRA          `tune_velocity`: as printed, centred, or normalised, in K Euler steps

The adapters sit on the rows of W_q and W_v in each block's fused qkv (C, C each), which torchvision reads and
never calls.  Where adapters train, so do the decoders; and, if `small`, layer norms, tables of relative
positions and the patches' convolution, as in MTLoRA's benchmark (Agiza et al. 2024, arXiv 2403.20320).
`attaching.detach` takes adapters off, `merge_` makes them the model's own.  MTLoRA is in `models.mtlora`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geolessons.adapters import Adapter, LoRA, Product, Rows, Scaling
from geolessons.attaching import adapted_layers, attach
from geolessons.models.multitask import MultiTask
from geolessons.velocity import VelocityLoRA

__all__ = [
    "SMALL",
    "PerTask",
    "Variant",
    "answers_each",
    "trained",
    "tune_full",
    "tune_lora",
    "tune_lora_each",
    "tune_single",
    "tune_velocity",
]

SMALL = ("features.*norm*", "features.*relative_position_bias_table", "features.0.*")
Variant = Literal["literal", "centred", "normalised"]


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of a model that train, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def tune_full(model: MultiTask) -> dict[str, nn.Parameter]:
    """Train all weights.

    Returns:
        What trains, by name.

    Raises:
        ValueError: If the model has adapters.
    """
    _refuse_adapters(model)
    model.requires_grad_(True)
    return trained(model)


def tune_single(model: MultiTask, task: str) -> dict[str, nn.Parameter]:
    """Train the backbone and the decoder of one task; the other decoders are held.

    Returns:
        What trains, by name.

    Raises:
        ValueError: If the model has adapters or no such task.
    """
    _refuse_adapters(model)
    if task not in model.tasks:
        raise ValueError(f"task={task!r} is unknown; this model has {', '.join(model.tasks)}")
    model.requires_grad_(True)
    for other in model.tasks:
        model.decoders[other].requires_grad_(other == task)
    return trained(model)


def tune_lora(
    model: MultiTask,
    rank: int,
    *,
    generator: torch.Generator,
    alpha: float | None = None,
    scaling: Scaling = "standard",
    on: str = "qv",
    small: bool = True,
) -> dict[str, nn.Parameter]:
    """Train one LoRA for all tasks: W0 + s·B·A on the rows of q and v of every block.

    Args:
        model: Changed in place.
        rank: r of each adapter.
        generator: Where A is drawn from.
        alpha: As in `adapters.LoRA`.
        scaling: As there.
        on: Which of q, k and v have adapters, one each.
        small: Whether norms, tables of positions and patches train too.

    Returns:
        What trains, by name.

    Raises:
        ValueError: As `adapters.LoRA` and `attaching.attach`; or if `on` names other blocks.

    Example:
        >>> from geolessons.models.multitask import swin
        >>> g = torch.Generator().manual_seed(0)
        >>> model = MultiTask(swin(g), g, narrow=6)
        >>> len(tune_lora(model, 4, generator=g, small=False)) - len(list(model.decoders.parameters()))
        40
    """
    make = partial(LoRA, rank=rank, alpha=alpha, scaling=scaling, generator=generator)
    return _attached(model, _fused(make, on), small)


def tune_velocity(
    model: MultiTask,
    rank: int,
    *,
    generator: torch.Generator,
    variant: Variant = "literal",
    steps: int = 1,
    on: str = "qv",
    small: bool = True,
) -> dict[str, nn.Parameter]:
    """Train one velocity field for all tasks on the rows of q and v of every block (DELoRA).

    Args:
        model: Changed in place.
        rank: r of each field.
        generator: Where the fields' parameters are drawn from.
        variant: `"literal"`, the paper's, which does not start at W0; ours: `"centred"`, which does, and
            `"normalised"`, centred and with W0 scaled inside the softmax, so that signal comes through.
        steps: K, Euler steps of length 1/K.
        on: Which of q, k and v have fields, one each.
        small: Whether norms, tables of positions and patches train too.

    Returns:
        What trains, by name.

    Raises:
        ValueError: As `velocity.VelocityLoRA` and `attaching.attach`; or if `variant` or `on` is unknown.
    """
    if variant not in get_args(Variant):
        raise ValueError(f"variant={variant!r} is unknown; it is one of {', '.join(get_args(Variant))}")
    make = partial(
        VelocityLoRA,
        rank=rank,
        reference=None if variant == "literal" else "uniform",
        normalise=variant == "normalised",
        steps=steps,
        generator=generator,
    )
    return _attached(model, _fused(make, on), small)


def tune_lora_each(
    model: MultiTask,
    rank: int,
    *,
    generator: torch.Generator,
    alpha: float | None = None,
    scaling: Scaling = "standard",
    on: str = "qv",
) -> dict[str, nn.Parameter]:
    """Train one LoRA a task, and the decoders; `answers_each` gives the answers, in a pass for each task.

    What tasks share is frozen, so norms, tables and patches are too.

    Args:
        model: Changed in place.
        rank: r of each adapter.
        generator: Where A is drawn from.
        alpha: As in `adapters.LoRA`.
        scaling: As there.
        on: Which of q, k and v have adapters, one each.

    Returns:
        What trains, by name.

    Raises:
        ValueError: As `tune_lora`.
    """
    fused = _fused(partial(LoRA, rank=rank, alpha=alpha, scaling=scaling, generator=generator), on)
    return _attached(
        model, lambda name, W: PerTask(W.shape, {task: fused(name, W) for task in model.tasks}), small=False
    )


def answers_each(model: MultiTask, image: Tensor) -> dict[str, Tensor]:
    """The answers of a model with one adapter a task: logits (n, outputs, H, W) by task, a pass for each.

    Raises:
        ValueError: If the model has no such adapters.
    """
    layers = [layer.adapter for layer in adapted_layers(model).values()]
    adapters = [adapter for adapter in layers if isinstance(adapter, PerTask)]
    if not adapters:
        raise ValueError("the model has no adapters for each task: make them with tune_lora_each")
    before = [adapter.task for adapter in adapters]
    found: dict[str, Tensor] = {}
    try:
        for task in model.tasks:
            for adapter in adapters:
                adapter.choose(task)
            found |= model(image, [task])
    finally:
        for adapter, task in zip(adapters, before, strict=True):
            adapter.choose(task)
    return found


class PerTask(Adapter):
    """Several adapters on one frozen matrix, of which one is in force.

    Args:
        shape: (d, k) of the matrix.
        adapters: Task to its adapter, of that shape; the first is in force until `choose`.

    Attributes:
        task: Whose adapter is in force.

    Raises:
        ValueError: If there is none, or one is made for another shape.
    """

    def __init__(self, shape: Sequence[int], adapters: Mapping[str, Adapter]) -> None:
        super().__init__(shape)
        wrong = [task for task, adapter in adapters.items() if adapter.shape != self.shape]
        if wrong or not adapters:
            raise ValueError(f"adapters needs one of shape {self.shape} for each task; not so: {wrong}")
        self.adapters = nn.ModuleDict(adapters)
        self.task = next(iter(adapters))

    def choose(self, task: str) -> None:
        """Put one task's adapter in force.

        Raises:
            ValueError: If the task has none.
        """
        if task not in self.adapters:
            raise ValueError(f"task={task!r} has no adapter here; there are {', '.join(self.adapters)}")
        self.task = task

    def weight(self, W0: Tensor) -> Tensor:
        """The weight that the chosen adapter makes of W0, (d, k)."""
        return self._chosen().weight(W0)

    def linear(
        self, x: Tensor, W0: Tensor, bias: Tensor | None = None, product: Product = F.linear
    ) -> Tensor:
        """The layer's output by the chosen adapter, for x of shape (…, k): (…, d)."""
        return self._chosen().linear(x, W0, bias, product)

    def _chosen(self) -> Adapter:
        chosen = self.adapters[self.task]
        assert isinstance(chosen, Adapter)  # all are, by the signature of __init__
        return chosen

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"{super().extra_repr()}, {self.task} of {', '.join(self.adapters)}"


def _attached(
    model: MultiTask, make: Callable[[str, Tensor], Adapter], small: bool
) -> dict[str, nn.Parameter]:
    attach(model, "features.*.attn.qkv", make, train=["decoders.*", *(SMALL if small else ())])
    return trained(model)


def _fused(make: Callable[..., Adapter], on: str) -> Callable[[str, Tensor], Rows]:
    """Makes adapters for the blocks of a fused qkv, each a third of its rows."""
    if not on or len(set(on)) < len(on) or not set(on) <= set("qkv"):
        raise ValueError(f"on={on!r} must name some of q, k and v, each once, as in 'qv'")

    def rows(name: str, W: Tensor) -> Rows:
        C = len(W) // 3
        starts = ["qkv".index(letter) * C for letter in on]
        return Rows(W.shape, [(slice(i, i + C), make((C, W.shape[1]), dtype=W.dtype)) for i in starts])

    return rows


def _refuse_adapters(model: nn.Module) -> None:
    if adapted_layers(model):
        raise ValueError("the model has adapters: detach or merge_ them before all its weights train")

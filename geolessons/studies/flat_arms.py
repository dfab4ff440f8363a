"""What the study of Flat-LoRA compares: each arm is a copy of a model, what trains in it, and its loss.

    lora, r8.0.15, …   LoRA of rank r and alpha 16, and the same with noise of σ times half a cosine
    sam full           SAM (Foret et al. 2021, arXiv 2010.01412) on the adapted weights W0 + s·B·A
    sam factors        the same on A and B (Flat-LoRA, Eq. 2)
    pissa, dora, ga    PEFT's PiSSA, DoRA and LoRA-GA at rank 8; `pissa.0.15`: with noise
    full               the two matrices themselves, all their numbers

All train fc1 and fc2 and nothing else.  SAM's ρ = 0.05 is its authors' default.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from geolessons.adapters import LoRA
from geolessons.attaching import attach, effective_weights
from geolessons.data.digits import Split
from geolessons.noise import FlatNoise
from geolessons.sam import Space, sam_gradients
from geolessons.schedules import cosine
from geolessons.seeding import seeded
from geolessons.trees import Params, params_of

__all__ = ["ALPHA", "LAYERS", "RHO", "Arm", "arm", "matrices", "ready"]

LAYERS = ["fc1", "fc2"]
ALPHA = 16
RHO = 0.05


class Arm(NamedTuple):
    """What an arm's name says."""

    kind: str  # "lora", "pissa", "dora", "ga", "full", "sam full" or "sam factors"
    rank: int
    sigma: float


class Ready(NamedTuple):
    """A copy of the model made ready for an arm."""

    model: nn.Module
    trained: list[nn.Parameter]
    loss: Callable[[Tensor, Tensor, int, int], Tensor]  # (x, y, step from 0, steps) to the loss to descend


def arm(name: str) -> Arm:
    """What a name says: `r8.0` is LoRA of rank 8, `r8.0.15` has noise of σ = 0.15; so `pissa.0.15`.

    Raises:
        ValueError: If it names no arm.

    Example:
        >>> arm("r4.0.5")
        Arm(kind='lora', rank=4, sigma=0.5)
    """
    if name in ("full", "sam full", "sam factors"):
        return Arm(name, 8, 0.0)
    kind, _, sigma = name.partition(".")
    if kind in ("pissa", "dora", "ga"):
        return Arm(kind, 8, float(sigma))
    if kind[:1] == "r" and kind[1:].isdigit():
        return Arm("lora", int(kind[1:]), float(sigma))
    raise ValueError(f"name={name!r} is no arm; examples are r8.0, r8.0.15, pissa.0, full and sam full")


def ready(model: nn.Module, split: Split, name: str, seed: int) -> Ready:
    """A copy of the model ready for an arm; a seed gives all arms of a rank the same A (where A is random).

    Args:
        model: With layers fc1 and fc2; it is not touched.
        split: The new task; LoRA-GA looks at the gradient of its first 256 examples.
        name: As `arm`.
        seed: Draws A and the noise.
    """
    kind, rank, sigma = arm(name)
    model = copy.deepcopy(model).requires_grad_(False)
    if kind == "full":
        for layer in LAYERS:
            model.get_parameter(f"{layer}.weight").requires_grad_()
    elif kind in ("pissa", "dora", "ga"):
        model = _from_peft(model, split, kind, rank, seed)
    else:
        generator = torch.Generator().manual_seed(seed)
        attach(model, LAYERS, lambda _, W: LoRA(W.shape, rank, ALPHA, generator=generator, dtype=W.dtype))
    trained = [p for p in model.parameters() if p.requires_grad]

    def plain(x: Tensor, y: Tensor, i: int, N: int) -> Tensor:
        return cross_entropy(model(x), y)

    def noisy(x: Tensor, y: Tensor, i: int, N: int) -> Tensor:
        with FlatNoise(model, sigma * cosine(i, N), seed=seed, step=i):
            return cross_entropy(model(x), y)

    def sam(x: Tensor, y: Tensor, i: int, N: int) -> Tensor:
        space: Space = "full" if kind == "sam full" else "factors"
        value = sam_gradients(model, lambda: cross_entropy(model(x), y), RHO, space)
        return value.requires_grad_()  # the gradients are there already; its own backward adds nothing

    return Ready(model, trained, sam if kind.startswith("sam") else noisy if sigma else plain)


def matrices(model: nn.Module) -> Params:
    """The two matrices as an arm has them now, adapters applied: `fc1.weight` and `fc2.weight`."""
    if hasattr(model, "merge_and_unload"):  # from PEFT
        theirs: Any = copy.deepcopy(model)
        W = params_of(theirs.merge_and_unload())
    else:
        W = effective_weights(model)
    return {f"{layer}.weight": W[f"{layer}.weight"] for layer in LAYERS}


def _from_peft(model: nn.Module, split: Split, kind: str, rank: int, seed: int) -> nn.Module:
    from peft import LoraConfig, LoraGAConfig, get_peft_model
    from peft.tuners.lora import preprocess_loraga

    kinds: dict[str, dict[str, Any]] = {
        "pissa": {"init_lora_weights": "pissa"},
        "dora": {"use_dora": True},
        "ga": {"init_lora_weights": "lora_ga", "lora_ga_config": LoraGAConfig()},
    }
    config = LoraConfig(r=rank, lora_alpha=ALPHA, target_modules=LAYERS, **kinds[kind])

    def gradient() -> None:
        x = split.x_train[:256].clone().requires_grad_()  # else PEFT's hooks warn
        cross_entropy(model(x), split.y_train[:256]).backward()  # type: ignore[no-untyped-call]

    dtype = split.x_train.dtype
    with seeded(seed):  # PEFT draws from the global generator
        if kind == "ga":
            preprocess_loraga(model, config, gradient)
        if kind == "pissa":
            model = model.float()  # PEFT decomposes in float32 or less
        found: nn.Module = get_peft_model(model, config, autocast_adapter_dtype=False)
    return found.to(dtype)

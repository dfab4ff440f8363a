"""MTLoRA: adapters that all tasks share, and in the last block of each stage a stream for each task.

    shared   y  = W0·x + s·B·A·x         on qkv, proj, fc1 and fc2 of every block
    task t   yₜ = W0·x + s·Bₜ·Aₜ·xₜ      on proj, fc1 and fc2 of the last block of each stage

(Agiza et al. 2024, arXiv 2403.20320, as their code has it: W0 sees the shared x in a task's stream too, xₜ
is the stream's own, and s is a plain factor.)  The shared stream goes on to the next stage; a task's streams
are merged and go to its decoder.  So one pass serves all tasks.

Of the numbers counted, the shared adapter on fc2 of the very last block can change no answer: only the shared
stream sees it, and that ends there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geolessons.adapters import LoRA
from geolessons.attaching import AdaptedLinear, attach
from geolessons.models.multitask import MultiTask
from geolessons.models.multitask_methods import SMALL

__all__ = ["MTLoRA"]

SHARED = ("features.*.attn.qkv", "features.*.attn.proj", "features.*.mlp.0", "features.*.mlp.3")
TRAINED = ("decoders.*", *SMALL, "features.*.reduction.weight")
PLACES = {"proj": "attn.proj", "fc1": "mlp.0", "fc2": "mlp.3"}  # where a task has adapters, in a block


class MTLoRA(nn.Module):
    """A multi-task Swin with MTLoRA's adapters, attached to it in place.

    Beside adapters and decoders, norms, tables of relative positions, patches and mergings train.
    `attaching.detach(wrapped.model)` gives the model back as it was.  `merge_` has no place here: W0 alone
    is part of each answer.

    Args:
        model: Gets the shared adapters; holds all that is frozen.
        rank: Of the shared adapters.
        task_rank: Of each task's.
        scale: s of both.
        dropout: Of an adapter's input in training, on fc1 and fc2, where the input is the shared stream's;
            torchvision's attention reads the weights of qkv and proj, which have none.  Draws from torch's
            global generator.
        generator: Where the A are drawn from.

    Attributes:
        model: The same model.
        streams: For each stage, task to its adapters `proj`, `fc1` and `fc2`.

    Raises:
        ValueError: As `adapters.LoRA` and `attaching.attach`; the model is then as it was.

    Example:
        >>> from geolessons.models.multitask import swin
        >>> g = torch.Generator().manual_seed(0)
        >>> model = MTLoRA(MultiTask(swin(g), g, narrow=6), 4, generator=g)
        >>> model(torch.zeros(2, 3, 64, 64))["normals"].shape
        torch.Size([2, 3, 64, 64])
    """

    def __init__(
        self,
        model: MultiTask,
        rank: int,
        *,
        task_rank: int = 4,
        scale: float = 4.0,
        dropout: float = 0.05,
        generator: torch.Generator,
    ) -> None:
        super().__init__()

        def make(W: Tensor, rank: int, dropout: float = 0.0) -> LoRA:
            made = LoRA(
                W.shape, rank, scale, scaling="paper", dropout=dropout, generator=generator, dtype=W.dtype
            )
            return made.to(W.device)

        streams = nn.ModuleList()
        for stage in _stages(model):
            weights: dict[str, Any] = {
                name: stage[-1].get_submodule(at).weight for name, at in PLACES.items()
            }
            streams.append(
                nn.ModuleDict(
                    {
                        task: nn.ModuleDict({name: make(W, task_rank) for name, W in weights.items()})
                        for task in model.tasks
                    }
                )
            )
        attach(model, SHARED, lambda name, W: make(W, rank, dropout * (".mlp." in name)), train=TRAINED)
        self.model, self.streams = model, streams

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Logits (n, outputs, H, W) of each task, for pictures (n, 3, H, W), in one pass.

        Raises:
            RuntimeError: If the model's shared adapters were taken off.
            ValueError: If the sides of the pictures are not multiples of the patch.
        """
        self.model.check(image)
        features = self.model.features
        found: dict[str, list[Tensor]] = {task: [] for task in self.model.tasks}
        x = features[0](image)
        for i, (stage, tasks) in enumerate(zip(_stages(self.model), self.streams, strict=True)):
            x = stage[:-1](x)
            x, streams = _split(stage[-1], x, tasks)
            merging = features[2 * i + 2] if 2 * i + 2 < len(features) else nn.Identity()
            x = merging(x)
            for task, own in streams.items():
                found[task].append(merging(own))
        size = image.shape[-2:]
        return {task: self.model.decoders[task](scales, size) for task, scales in found.items()}


def _stages(model: MultiTask) -> list[Any]:
    """The stages: sequences of blocks."""
    return list(model.features)[1::2]


def _split(block: Any, x: Tensor, tasks: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """What a block makes of the shared stream x (n, h, w, C), and each task's stream, which parts from it."""
    left_out, mlp = block.stochastic_depth, block.mlp
    h = _heads(block.attn, block.norm1(x))
    attended, own = _both(block.attn.proj, h, {task: h for task in tasks}, tasks, "proj")
    dropped, training = block.attn.dropout, block.attn.training
    streams = {task: x + left_out(F.dropout(y, dropped, training)) for task, y in own.items()}
    x = x + left_out(F.dropout(attended, dropped, training))

    def between(y: Tensor) -> Tensor:
        return mlp[2](mlp[1](y))

    normed = {task: block.norm2(y) for task, y in streams.items()}
    h, own = _both(mlp[0], block.norm2(x), normed, tasks, "fc1")
    h, own = _both(mlp[3], between(h), {task: between(y) for task, y in own.items()}, tasks, "fc2")
    return x + left_out(mlp[4](h)), {task: streams[task] + left_out(mlp[4](y)) for task, y in own.items()}


def _heads(attention: Any, x: Tensor) -> Tensor:
    """What the heads of torchvision's attention find, before `proj`: (n, h, w, C)."""
    from torchvision.models.swin_transformer import shifted_window_attention

    return shifted_window_attention(
        x,
        attention.qkv.weight,
        torch.eye(x.shape[-1], dtype=x.dtype, device=x.device),  # it knows no way to leave proj out
        attention.get_relative_position_bias(),
        attention.window_size,
        attention.num_heads,
        shift_size=attention.shift_size,
        attention_dropout=attention.attention_dropout,
        qkv_bias=attention.qkv.bias,
        training=attention.training,
    )


def _both(
    layer: nn.Module, x: Tensor, own: dict[str, Tensor], tasks: Any, name: str
) -> tuple[Tensor, dict[str, Tensor]]:
    """A layer on the shared stream, and on each task's own, with one product with W0 for all of them."""
    if not isinstance(layer, AdaptedLinear):
        raise RuntimeError("the shared adapters were taken off this model: wrap it in MTLoRA anew")
    W0, bias = layer.base_weight, layer.bias
    frozen = F.linear(x, W0, bias)

    def product(*_: Any) -> Tensor:
        return frozen

    shared = layer.adapter.linear(x, W0, bias, product)
    return shared, {t: tasks[t][name].linear(y, W0, bias, product) for t, y in own.items()}

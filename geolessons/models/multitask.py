"""One picture in, four dense answers out: a Swin backbone that all tasks share, and one decoder a task.

    f₁ … f₄   what the four stages give after merging: (H/2p, W/2p, 2C), (H/4p, …, 4C), (H/8p, …, 8C) twice
    answer    up to (H, W) of conv(relu(norm(conv(the four, reduced to few channels, all at the size of f₁))))

p is the size of a patch and C the width, 4 and 96 in Swin-Tiny (Liu et al. 2021, arXiv 2103.14030), which is
torchvision's.  The decoder is HRNet's head (Wang et al. 2019, arXiv 1908.07919) behind convolutions of size 1
without bias, as in MTLoRA's benchmark (Agiza et al. 2024, arXiv 2403.20320).  Ours: small sizes of both.

Methods that tune it are in `models.multitask_methods` and `models.mtlora`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from geolessons.data.dense import IGNORE
from geolessons.seeding import seeded

__all__ = ["OUTPUTS", "Decoder", "MultiTask", "swin", "swin_tiny"]

OUTPUTS = {"semseg": 21, "human_parts": 7, "saliency": 1, "normals": 3}  # PASCAL-Context's channels
WIDTHS = (18, 36, 72, 144)  # what the features of the four stages are reduced to
STAGES = (2, 4, 6, 7)  # where in `features` each of them is to be had


def swin(
    generator: torch.Generator,
    *,
    width: int = 24,
    depths: Sequence[int] = (2, 2, 4, 2),
    heads: Sequence[int] = (1, 2, 4, 8),
    patch: int = 2,
    window: int = 4,
    drop_path: float = 0.0,
    classes: int = 10,
) -> nn.Module:
    """A `SwinTransformer` of any size; left alone, 1.5 million numbers for pictures of 64 × 64 pixels.

    Args:
        generator: Where the weights come from; the global generator is not touched.
        width: C, channels in the first stage; doubled in each stage after it.
        depths: Blocks in each of four stages.
        heads: Of the attention, by stage; each must divide the stage's channels.
        patch: p, pixels along the side of a patch.
        window: Patches along the side of a window.
        drop_path: The chance that the last block is left out in training, less in those before it.  Drawn
            from torch's global generator, as dropout is: train inside `seeding.seeded`.
        classes: Outputs of its own head, which sorts whole pictures and is what it can be trained with first.

    Raises:
        ValueError: If there are not four stages, a size is not positive, or heads do not divide channels.

    Example:
        >>> net = swin(torch.Generator().manual_seed(0))
        >>> net(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 10])
    """
    from torchvision.models import SwinTransformer

    if len(depths) != len(STAGES) or len(heads) != len(STAGES):
        raise ValueError(
            f"depths={tuple(depths)}, heads={tuple(heads)}: each needs four numbers, one a stage"
        )
    if min(width, patch, window, classes, *depths, *heads) < 1:
        raise ValueError("width, depths, heads, patch, window and classes must all be at least 1")
    odd = [(h, width * 2**i) for i, h in enumerate(heads) if width * 2**i % h]
    if odd:
        raise ValueError(f"{odd[0][0]} heads do not divide {odd[0][1]} channels; change heads or width")
    if not 0 <= drop_path < 1:
        raise ValueError(f"drop_path={drop_path} must be a chance in [0, 1)")
    with seeded(_seed(generator)):
        return SwinTransformer(
            [patch, patch],
            width,
            list(depths),
            list(heads),
            [window, window],
            stochastic_depth_prob=drop_path,
            num_classes=classes,
        )


def swin_tiny(generator: torch.Generator, *, weights: str | None = None) -> nn.Module:
    """Swin-Tiny: patch 4, width 96, depths 2, 2, 6, 2, window 7, stochastic depth 0.2.

    Args:
        generator: Where the weights come from, if not from a file; the global generator is not touched.
        weights: torchvision's name for trained ones, `"IMAGENET1K_V1"`: 108 MB, downloaded once.

    Raises:
        ValueError: If torchvision has no weights of that name.
    """
    from torchvision.models import Swin_T_Weights, swin_t

    known = [w.name for w in Swin_T_Weights]
    if weights is not None and weights not in known:
        raise ValueError(f"weights={weights!r} is unknown; it is None or one of {', '.join(known)}")
    with seeded(_seed(generator)):
        return swin_t(weights=weights)


class Decoder(nn.Module):
    """The features of four stages made one dense answer.

    Args:
        channels: Of the four features.
        outputs: Channels of the answer: classes, 1 for a mask, 3 for a vector.
        narrow: What the inner widths, 18, 36, 72 and 144, are divided by: 1, 2, 3, 6, 9 or 18.

    Raises:
        ValueError: If `narrow` does not divide the widths, or `outputs` is not positive.
    """

    def __init__(self, channels: Sequence[int], outputs: int, narrow: int = 1) -> None:
        super().__init__()
        if narrow < 1 or WIDTHS[0] % narrow:
            raise ValueError(f"narrow={narrow} must divide 18: 1, 2, 3, 6, 9 or 18")
        if not 1 <= outputs < IGNORE:
            raise ValueError(f"outputs={outputs} must be a number of channels from 1 to {IGNORE - 1}")
        widths = [w // narrow for w in WIDTHS]
        total = sum(widths)
        self.reducers = nn.ModuleList(
            nn.Conv2d(c, w, 1, bias=False) for c, w in zip(channels, widths, strict=True)
        )
        self.head = nn.Sequential(
            nn.Conv2d(total, 4 * total, 1),
            nn.BatchNorm2d(4 * total),
            nn.ReLU(),
            nn.Conv2d(4 * total, outputs, 1),
        )

    def forward(self, features: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """Logits (n, outputs, height, width), for features (n, h, w, channels), the largest first."""
        maps = [reduce(f.movedim(-1, 1)) for reduce, f in zip(self.reducers, features, strict=True)]
        at = maps[0].shape[-2:]
        joined = torch.cat([_resized(m, at) for m in maps], 1)
        return _resized(self.head(joined), size)


class MultiTask(nn.Module):
    """A Swin and a decoder for each task; one pass of the Swin serves them all.

    The decoders start as torch starts convolutions.

    Args:
        backbone: A `SwinTransformer` with four stages.  Its `features` become this model's, uncopied and
            under the names they had; its own norm and head are left out.
        generator: Where the decoders' weights come from; the global generator is not touched.
        outputs: Task to channels of its answer; PASCAL-Context's if not given.
        narrow: What the decoders' widths are divided by; see `Decoder`.

    Attributes:
        features: Patches, then stages and mergings in turn.
        decoders: A `Decoder` for each task.

    Raises:
        TypeError: If the backbone has no `features`.
        ValueError: If it has not four stages, there is no task, or as `Decoder`.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> model = MultiTask(swin(g), g, outputs={"semseg": 5, "normals": 3}, narrow=6)
        >>> {task: tuple(y.shape) for task, y in model(torch.zeros(2, 3, 64, 64)).items()}
        {'semseg': (2, 5, 64, 64), 'normals': (2, 3, 64, 64)}
    """

    def __init__(
        self,
        backbone: nn.Module,
        generator: torch.Generator,
        *,
        outputs: Mapping[str, int] | None = None,
        narrow: int = 1,
    ) -> None:
        super().__init__()
        features = getattr(backbone, "features", None)
        if not isinstance(features, nn.Sequential):
            raise TypeError(
                f"a {type(backbone).__name__} has no `features` in sequence; give a SwinTransformer"
            )
        if len(features) != STAGES[-1] + 1:
            raise ValueError(f"the backbone has {len(features) // 2} stages; the decoders need four")
        outputs = OUTPUTS if outputs is None else outputs
        if not outputs:
            raise ValueError("outputs names no task; give each task and the channels of its answer")
        channels = _channels(features)
        self.features = features
        like = next(features.parameters())
        with seeded(_seed(generator)):
            made = {task: Decoder(channels, count, narrow) for task, count in outputs.items()}
        self.decoders = nn.ModuleDict(made).to(like.device, like.dtype)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in order."""
        return tuple(self.decoders)

    def scales(self, image: Tensor) -> list[Tensor]:
        """The features of pictures (n, 3, H, W) after each stage and its merging, each (n, h, w, channels).

        Raises:
            ValueError: If the sides of the pictures are not multiples of the patch.
        """
        self.check(image)
        found, x = [], image
        for i, part in enumerate(self.features):
            x = part(x)
            if i in STAGES:
                found.append(x)
        return found

    def forward(self, image: Tensor, tasks: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Logits (n, outputs, H, W) of each task, for pictures (n, 3, H, W).

        Args:
            image: Scaled as it was when the backbone was trained.
            tasks: Which tasks to answer; all if not given.

        Raises:
            ValueError: If a task is unknown, or the sides of the pictures are not multiples of the patch.
        """
        wanted = self.tasks if tasks is None else tuple(tasks)
        unknown = [task for task in wanted if task not in self.decoders]
        if unknown:
            raise ValueError(f"tasks names {unknown}, which this model does not answer; it has {self.tasks}")
        features = self.scales(image)
        return {task: self.decoders[task](features, image.shape[-2:]) for task in wanted}

    def check(self, image: Tensor) -> None:
        """Refuse a picture that patches do not cover.

        Raises:
            ValueError: If it is not (n, 3, H, W) with sides that are multiples of the patch.
        """
        patch: Any = self.features.get_submodule("0.0").stride
        shape = tuple(image.shape)
        if (
            len(shape) != 4
            or shape[1] != 3
            or any(n < p or n % p for n, p in zip(shape[2:], patch, strict=True))
        ):
            raise ValueError(
                f"image has shape {shape}; it must be (n, 3, H, W), H and W multiples of {patch[0]}"
            )


def _channels(features: nn.Sequential) -> list[int]:
    """Channels after each stage and its merging."""
    merged = [features.get_submodule(f"{i}.reduction") for i in STAGES[:-1]]
    last: Any = features.get_submodule(f"{STAGES[-1]}.0.norm1")
    return [int(m.out_features) for m in merged if isinstance(m, nn.Linear)] + [last.normalized_shape[0]]


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    same = x.shape[-2:] == torch.Size(size)
    return x if same else interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def _seed(generator: torch.Generator) -> int:
    """What to seed the global generator with, while torch and torchvision draw from it."""
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))

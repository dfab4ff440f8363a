"""Before any training: what the field of the paper does to the outputs of q and v of the pre-trained Swin.

    change = ‖t·v x‖ / ‖W0 x‖,    v = row softmax of c·Z,    Z of rank r, its numbers about N(0, 1)

at c = 0 the uniform 1/k, near which the drawn field is (Mantri et al. 2024, OpenReview FFQ5T3EN18, Eq. 7).
`x` is met at three places: what enters the layer, behind its norm; the same norm without scale and shift; and
what enters the norm, raw.
"""

from __future__ import annotations

import statistics
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from geolessons.data.dense_transforms import normalise

__all__ = ["PLACES", "SCALES", "changes", "entering"]

PLACES = ("norm", "plain norm", "raw")
SCALES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
RANK = 8


@torch.no_grad()
def entering(backbone: nn.Module, image: Tensor) -> dict[str, dict[str, Tensor]]:
    """What meets each block's attention for pictures in [0, 1]: block to place to tokens (n, C)."""
    found: dict[str, dict[str, Tensor]] = {}
    hooks = []
    for name, norm in backbone.named_modules():
        if isinstance(norm, nn.LayerNorm) and name.endswith("norm1"):

            def meet(norm: Any, given: Any, out: Tensor, name: str = name) -> None:
                C = norm.normalized_shape
                behind = layer_norm(given[0], C, eps=norm.eps)
                at = dict(zip(PLACES, (out, behind, given[0]), strict=True))
                found[name.removesuffix(".norm1")] = {p: x.reshape(-1, *C) for p, x in at.items()}

            hooks.append(norm.register_forward_hook(meet))
    try:
        backbone(normalise(image))
    finally:
        for hook in hooks:
            hook.remove()
    return found


@torch.no_grad()
def changes(backbone: nn.Module, image: Tensor, seed: int) -> dict[str, list[float]]:
    """`change` at t = 1 by place, at each of `SCALES`: the median over the q and v of all blocks.

    It is proportional to t.

    Args:
        backbone: Pre-trained, in evaluation mode.
        image: Pictures (n, 3, H, W) in [0, 1].
        seed: Draws Z.
    """
    generator = torch.Generator().manual_seed(seed)
    by_place: dict[str, list[list[float]]] = {place: [] for place in PLACES}
    for name, places in entering(backbone, image).items():
        fused: Any = backbone.get_submodule(f"{name}.attn.qkv")
        for W0 in (fused.weight.chunk(3)[i] for i in (0, 2)):
            d, k = W0.shape
            left, right = (torch.randn(n, RANK, generator=generator) for n in (d, k))
            Z = left @ right.T / RANK**0.5
            for place, x in places.items():
                size = (x @ W0.T).norm()
                by_place[place].append([float((x @ torch.softmax(c * Z, 1).T).norm() / size) for c in SCALES])
    return {
        place: [statistics.median(column) for column in zip(*rows, strict=True)]
        for place, rows in by_place.items()
    }

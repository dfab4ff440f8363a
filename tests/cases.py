"""Every adapter, once: the table that the property tests run over.  A new method is one row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from geolessons.adapters import Adapter, LoRA, Rows
from geolessons.fields import SoftmaxField
from geolessons.geodesics import GeodesicLoRA, RampedLoRA
from geolessons.velocity import VelocityLoRA

DOUBLE = torch.float64
SHAPE = (12, 5)

Make = Callable[..., Adapter]


def of(kind: type[LoRA], **options: Any) -> Make:
    """Makes an adapter for any shape; the rank is 3 where the matrix is large enough."""

    def make(shape, generator, dtype=DOUBLE):
        rank = min(3, *shape)
        return kind(shape, rank, 2 * rank, generator=generator, dtype=dtype, **options)

    return make


def velocity(**options: Any) -> Make:
    """Makes a velocity adapter for any shape."""

    def make(shape, generator, dtype=DOUBLE):
        return VelocityLoRA(shape, min(3, *shape), generator=generator, dtype=dtype, **options)

    return make


def rows(make: Make) -> Make:
    """On the first and the last third of the rows, as q and v of a fused qkv."""

    def fused(shape, generator, dtype=DOUBLE):
        third = shape[0] // 3
        blocks = (slice(0, third), slice(2 * third, shape[0]))
        parts = [(b, make((b.stop - b.start, shape[1]), generator, dtype)) for b in reversed(blocks)]
        return Rows(shape, parts)

    return fused


GEODESIC: dict[str, dict[str, Any]] = {
    f"{scope}-{mode}-t{t:g}": {"scope": scope, "norm_mode": mode, "t": t, "detach_angle": detach}
    for scope, mode, t, detach in (
        ("tensor", "raw", 0.0, True),
        ("tensor", "raw", 0.3, True),
        ("tensor", "raw", 0.7, False),
        ("tensor", "raw", 1.0, True),
        ("tensor", "direction_linear", 0.4, False),
        ("tensor", "direction_geometric", 0.6, True),
        ("row", "raw", 0.3, False),
        ("row", "direction_linear", 0.5, True),
        ("row", "direction_geometric", 0.5, False),
        ("row", "raw", 1.0, False),
    )
}
CASES: dict[str, Make] = {
    "lora": of(LoRA),
    "lora-rank_stabilised": of(LoRA, scaling="rank_stabilised"),
    "lora-paper": of(LoRA, scaling="paper"),
    "lora-dropout": of(LoRA, dropout=0.5),
    "ramped": of(RampedLoRA, t=0.3),
    "ramped-t1": of(RampedLoRA, t=1.0),
    **{f"geodesic-{name}": of(GeodesicLoRA, **options) for name, options in GEODESIC.items()},
    "velocity-literal": velocity(),
    "velocity-centred": velocity(reference="uniform"),
    "velocity-normalised": velocity(reference="uniform", normalise=True, steps=3),
    "velocity-columns": velocity(axis="out", horizon=0.5),
    "rows-lora": rows(of(LoRA)),
    "rows-geodesic": rows(of(GeodesicLoRA, t=0.4)),
}
LORA_NOW = ("lora", "lora-rank_stabilised", "lora-paper", "lora-dropout", "ramped-t1", "rows-lora")
LORA_NOW += ("geodesic-tensor-raw-t1", "geodesic-row-raw-t1")


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moved(adapter: nn.Module, seed: int = 0, size: float = 0.3) -> Any:
    """The adapter (or all those in a model) as if trained: B drawn instead of zero."""
    generator = drawn(seed)
    for module in adapter.modules():
        if isinstance(module, SoftmaxField):
            with torch.no_grad():
                W2 = torch.randn(module.W2.shape, generator=generator, dtype=DOUBLE)
                module.W2.copy_(size * W2)
        if isinstance(module, LoRA):
            with torch.no_grad():
                B = torch.randn(module.B.shape, generator=generator, dtype=DOUBLE)
                module.B.copy_(size * B)
    return adapter


def frozen(shape=SHAPE, seed: int = 1, dtype: torch.dtype = DOUBLE) -> torch.Tensor:
    return torch.randn(shape, generator=drawn(seed), dtype=DOUBLE).to(dtype)

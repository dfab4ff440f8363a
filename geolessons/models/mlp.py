"""A multilayer perceptron with ReLU, drawn from an explicit generator."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

__all__ = ["mlp"]


def mlp(
    sizes: Sequence[int],
    generator: torch.Generator,
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> nn.Sequential:
    """Layers fc1, fc2, … with ReLU between them; weights and biases uniform in ±1/√k, torch's default.

    Args:
        sizes: Inputs, hidden widths, outputs, e.g. (64, 128, 128, 10).
        generator: Where the weights come from; the global generator is not touched.
        dtype: Of the parameters.
        device: Of the parameters; the draws are made on the generator's device.

    Raises:
        ValueError: If there are fewer than two sizes, or one is not positive.
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"sizes={tuple(sizes)} needs at least two positive numbers: inputs and outputs")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (k, d) in enumerate(pairwise(sizes), start=1):
        if i > 1:
            layers[f"relu{i - 1}"] = nn.ReLU()
        layer = nn.utils.skip_init(nn.Linear, k, d, dtype=dtype, device=device)  # type: ignore[no-untyped-call]
        for p in layer.parameters():
            drawn = torch.rand(p.shape, generator=generator, dtype=dtype, device=generator.device)
            p.data.copy_((2 * drawn - 1) / math.sqrt(k))
        layers[f"fc{i}"] = layer
    return nn.Sequential(layers)

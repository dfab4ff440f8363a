"""Normal numbers two at a time, from a table: faster on a processor, and of a coarser law.

    16 random bits choose one of 65,536 points (x, y) of the plane that stand for two normal numbers

Most of the time that torch needs for normal numbers on a processor goes into random bits, 32 for each.  Here
64 bits make eight numbers.  The points are a lattice, (i, 2829·i) mod 16,384, in a quarter of the unit
square, taken to the plane by the quantiles of the normal law and reflected in both axes; all are scaled so
that a number's variance is 1.

What it costs: a number has 32,768 values, the largest 4.17 (of a million normal numbers, 30 are beyond); its
distribution function is within 2.1·10⁻⁵ of the normal one.  Two numbers of a pair, neighbours in a row, are
uncorrelated, but independent only up to 10⁻³: that is how close a sum of them, or their distance from zero,
comes to its law.  Pairs are independent of each other.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["normal_pairs"]

AT_ONCE = 1 << 18  # numbers between two passes over memory: calls cost more than what a smaller cache saves


def normal_pairs(std: Tensor, k: int, generator: torch.Generator, plus: Tensor | None = None) -> Tensor:
    """Normal numbers (d, k) with deviation std (d,), in its dtype; and `plus` added to them.

    A word of 64 random bits is four points, its lowest 16 bits the first, and rows follow each other: on
    every device the same bits are the same numbers.

    Args:
        std: Deviation of each row, float32 or float64.
        k: Length of a row.
        generator: Where the bits come from; on the device of std.
        plus: (d, k).
    """
    d, device = len(std), std.device
    points = _points(std.dtype, device)
    room = torch.empty(-(-d * k // 8) * 8, dtype=std.dtype, device=device)  # for whole words
    drawn = room[: d * k].view(d, k)
    # blocks of whole words, so that the cut does not show in the numbers
    rows = max(8, AT_ONCE // max(k, 1) // 8 * 8) if device.type == "cpu" else -(-d // 8) * 8
    index = torch.empty(min(len(room), rows * k) // 2, dtype=torch.int32, device=device)
    for i in range(0, d, rows):
        numbers, part, deviation = room[i * k : (i + rows) * k], drawn[i : i + rows], std[i : i + rows, None]
        # the bits lie where the numbers will: fresh memory costs as much as drawing does
        words = numbers.view(torch.int64)[: len(numbers) // 8]
        words.random_(-(1 << 63), None, generator=generator)
        which = index[: len(numbers) // 2].copy_(words.view(torch.uint16))
        torch.index_select(points, 0, which, out=numbers.view(points.dtype))
        part.mul_(deviation)
        if plus is not None:
            part.add_(plus[i : i + rows])
    return drawn


_POINTS: dict[tuple[torch.dtype, torch.device], Tensor] = {}


def _points(dtype: torch.dtype, device: torch.device) -> Tensor:
    """The 65,536 points as complex numbers."""
    if (dtype, device) in _POINTS:
        return _POINTS[dtype, device]
    n = 1 << 14
    with torch.device("cpu"):  # else devices would differ in the last digit
        i = torch.arange(4 * n)
        lattice = torch.stack([i, 2829 * i]) % n
        quantiles = torch.special.ndtri(0.5 + (torch.arange(n, dtype=torch.float64) + 0.5) / (2 * n))
        quantiles /= quantiles.square().mean().sqrt()
        signs = 1 - 2 * torch.stack([i // n % 2, i // (2 * n)])
        x, y = (quantiles[lattice] * signs).to(dtype)
        points = torch.complex(x, y).to(device)
    if type(points) is Tensor:  # not a stand-in with a shape and no numbers
        _POINTS[dtype, device] = points
    return points

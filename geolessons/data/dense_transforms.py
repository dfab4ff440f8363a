"""Pictures with dense answers mirrored, turned, scaled and resized, the answers with them.

    u = R(-a) x / s        where pixel x of the result, from the centre, lies in the picture
    n' = R(a) n            normals turn with the picture, in its plane; R(a) is a to the left

Training: mirror with p = 1/2, turn by U(-20°, 20°), scale by U(0.75, 1.25), resize; evaluation: resize only;
as the PASCAL-Context multi-task benchmark does (Maninis et al. 2019, arXiv 1904.08918).  One resampling does
it all.  Three habits of that benchmark's code are left out, since they make labels that nobody gave: what a
turn brings in from outside is IGNORE, not background; cubic overshoot is cut off at black and white, where a
cast to bytes makes 2 of 258; a normal is known only where the nearest one was, so that the negative lobes of
the cubic kernel make no opposite normals beside unknown ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset, Sampler

from geolessons.data.dense import IGNORE, Dense

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Augmented",
    "Resized",
    "Shuffled",
    "augment",
    "flip",
    "mark_ignored",
    "normalise",
    "resample",
]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
Size = int | tuple[int, int]


class Pictures(Protocol):
    """What has a length and a `Dense` at each index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Dense: ...


def flip(sample: Dense) -> Dense:
    """Left and right exchanged; the normals' x changes its sign.

    Args:
        sample: Of any size, with or without a leading axis.

    Example:
        >>> n = torch.tensor([1.0, 0.0, 0.0]).reshape(3, 1, 1)
        >>> label = torch.zeros(1, 1, dtype=torch.int64)
        >>> flip(Dense(n, label, label, label, n)).normals.flatten() + 0.0
        tensor([-1.,  0.,  0.])
    """
    image, semseg, parts, saliency, normals = (x.flip(-1) for x in sample)
    mirror = torch.tensor([-1.0, 1.0, 1.0], dtype=normals.dtype, device=normals.device)
    return Dense(image, semseg, parts, saliency, normals * mirror[:, None, None])


def resample(sample: Dense, size: Size, *, degrees: float = 0.0, scale: float = 1.0) -> Dense:
    """Turned to the left about its centre, scaled and resized at once.

    Images and normals are interpolated by cubic convolution (a = -0.75), labels taken from the nearest pixel.
    Sides are stretched to `size`, which changes no normal, as in the benchmark.

    Args:
        sample: One picture, `image` (3, H, W) and its answers.
        size: Of the result: (h, w), or one number for both.
        degrees: To turn by, to the left as seen.
        scale: Above 1 for larger.

    Returns:
        `image` in [0, 1], black outside; labels IGNORE outside; unit normals, zero outside and where unknown.

    Raises:
        ValueError: If the answers have another size than the image; for a size, angle or scale that is none.
    """
    H, W = _sides(sample)
    h, w = (size, size) if isinstance(size, int) else size
    if h < 1 or w < 1:
        raise ValueError(f"size={size} must be positive")
    if not math.isfinite(degrees) or not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"degrees={degrees} and scale={scale} must be finite, and scale positive")
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    y = (torch.arange(h, dtype=torch.float64)[:, None] + 0.5) * (H / h) - H / 2  # downwards, from the centre
    x = (torch.arange(w, dtype=torch.float64) + 0.5) * (W / w) - W / 2
    u, v = (
        (x * c - y * s) / scale + W / 2,
        (x * s + y * c) / scale + H / 2,
    )  # (h, w), from the upper left corner
    outside = (u < 0) | (u >= W) | (v < 0) | (v >= H)
    nearest = (v.floor().clamp(0, H - 1) * W + u.floor().clamp(0, W - 1)).long().flatten()

    def pick(x: Tensor) -> Tensor:
        return x.flatten(-2)[..., nearest].reshape(*x.shape[:-2], h, w)

    grid = torch.stack([2 * u / W - 1, 2 * v / H - 1], -1)[None]
    smooth = torch.cat([sample.image, sample.normals])[None]
    smooth = torch.nn.functional.grid_sample(
        smooth, grid.to(smooth.dtype), mode="bicubic", padding_mode="border", align_corners=False
    )[0]
    image = smooth[:3].clamp(0, 1).masked_fill(outside, 0)
    there = pick(sample.normals)
    length = _length(smooth[3:])
    # Opposite neighbours may cancel: then the nearest one is all that is known.
    n = torch.where(length > 0.1, smooth[3:] / length.clamp(min=0.1), there)
    n = n.masked_fill(outside | (there == 0).all(0), 0)
    n = torch.stack([c * n[0] - s * n[1], s * n[0] + c * n[1], n[2]])
    n = n / _length(n).clamp(min=1e-6)
    semseg, parts, saliency = (pick(label).masked_fill(outside, IGNORE) for label in sample[1:4])
    return Dense(image, semseg, parts, saliency, n)


def mark_ignored(sample: Dense) -> Dense:
    """Where no part of a person is labelled, nothing is known of parts: all IGNORE, as in the benchmark."""
    parts = sample.human_parts
    if bool(((parts > 0) & (parts != IGNORE)).any()):
        return sample
    return sample._replace(human_parts=torch.full_like(parts, IGNORE))


def augment(
    sample: Dense,
    generator: Generator,
    *,
    size: Size = 448,
    degrees: float = 20.0,
    scales: tuple[float, float] = (0.75, 1.25),
) -> Dense:
    """A picture as it is trained on: mirrored or not, turned, scaled, resized, marked.

    Args:
        sample: One picture.
        generator: Three numbers are drawn from it.
        size: Of the result.
        degrees: The largest angle, to either side.
        scales: The smallest and largest scale.
    """
    mirror, turn, scale = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
    if mirror < 0.5:
        sample = flip(sample)
    low, high = scales
    return mark_ignored(
        resample(sample, size, degrees=degrees * (2 * turn - 1), scale=low + (high - low) * scale)
    )


def normalise(
    image: Tensor, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> Tensor:
    """Images (…, 3, H, W) in [0, 1] less ImageNet's mean, in its deviations.

    Example:
        >>> grey = torch.tensor(IMAGENET_MEAN).reshape(3, 1, 1)
        >>> float(normalise(grey).abs().max())
        0.0
    """
    mean_, std_ = (
        torch.tensor(x, dtype=image.dtype, device=image.device)[:, None, None] for x in (mean, std)
    )
    return (image - mean_) / std_


class Resized(Dataset[Dense]):
    """Pictures as they are evaluated on: resized and marked.

    Args:
        pictures: Anything with a length and a `Dense` at each index.
        size: Of the results.
    """

    def __init__(self, pictures: Pictures, size: Size = 448) -> None:
        self.pictures, self.size = pictures, size

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Dense:
        return mark_ignored(resample(self.pictures[index], self.size))


class Augmented(Dataset[Dense]):
    """Pictures as they are trained on; each is asked for by (index, seed), as `Shuffled` gives them.

    All that is random is drawn in one place, so that batches are the same with any number of workers.

    Args:
        pictures: Anything with a length and a `Dense` at each index.
        size: Of the results.

    Example:
        >>> from torch.utils.data import DataLoader
        >>> label = torch.zeros(4, 4, dtype=torch.int64)
        >>> grey = Dense(torch.full((3, 4, 4), 0.5), label, label, label, torch.zeros(3, 4, 4))
        >>> order = Shuffled(2, torch.Generator().manual_seed(0))
        >>> batch = next(iter(DataLoader(Augmented([grey, grey], size=8), batch_size=2, sampler=order)))
        >>> tuple(batch.image.shape)
        (2, 3, 8, 8)
    """

    def __init__(self, pictures: Pictures, size: Size = 448) -> None:
        self.pictures, self.size = pictures, size

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, at: tuple[int, int]) -> Dense:
        """The picture at `at[0]`, drawn with the seed `at[1]`.

        Raises:
            ValueError: For an index without a seed.
        """
        if not isinstance(at, tuple):
            raise ValueError(
                f"index={at!r} must be a pair (index, seed): give the loader sampler=Shuffled(…)"
            )
        index, seed = at
        return augment(self.pictures[index], Generator().manual_seed(seed), size=self.size)


class Shuffled(Sampler[tuple[int, int]]):
    """Indices in a new order each time, each with the seed of its augmentation.

    Args:
        count: Of pictures.
        generator: What orders and seeds are drawn from, in the process that iterates.
    """

    def __init__(self, count: int, generator: Generator) -> None:
        self.count, self.generator = count, generator

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = torch.randperm(self.count, generator=self.generator).tolist()
        seeds = torch.randint(2**63 - 1, (self.count,), generator=self.generator).tolist()
        return iter(list(zip(order, seeds, strict=True)))


def _length(n: Tensor) -> Tensor:
    """The lengths of (3, h, w), without `norm`, which is slow along a first axis."""
    return (n[0].square() + n[1].square() + n[2].square()).sqrt()


def _sides(sample: Dense) -> tuple[int, int]:
    """(H, W), the same for all."""
    if sample.image.dim() != 3 or sample.image.shape[0] != 3:
        raise ValueError(f"sample.image has shape {tuple(sample.image.shape)}; one picture is (3, H, W)")
    H, W = sample.image.shape[1:]
    for name, x in zip(Dense._fields[1:], sample[1:], strict=True):
        right = (3, H, W) if name == "normals" else (H, W)
        if tuple(x.shape) != right:
            raise ValueError(f"sample.{name} has shape {tuple(x.shape)} where its image needs {right}")
    return H, W

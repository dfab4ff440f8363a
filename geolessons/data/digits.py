"""Scikit-learn's 1,797 handwritten digits, 8×8 pixels: real, bundled, offline.

They are a test part of the UCI set by Alpaydin and Kaynak (1998).  The split is our own: 1,200 to
train on, 597 to test, drawn once.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

__all__ = ["Split", "digits"]

Task = Literal["upright", "lying", "tilted"]


class Split(NamedTuple):
    """Inputs (n, pixels) in [0, 1] and labels (n,), to train on and to test on."""

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor


def digits(
    task: Task = "upright", *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
) -> Split:
    """The digits as vectors of 64 pixels.

    Args:
        task: `"upright"`; `"lying"`, turned a quarter to the left, exactly; or `"tilted"`, turned by 30°
            with linear interpolation.  The same digits are in the same places in all three.
        dtype: Of the pixels.
        device: Of both.

    Raises:
        ValueError: For an unknown task.
    """
    if task not in get_args(Task):
        raise ValueError(f"task={task!r} is unknown; it is one of {', '.join(get_args(Task))}")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images) / 16  # (1797, 8, 8)
    if task == "lying":
        images = torch.rot90(images, 1, (1, 2))
    if task == "tilted":
        from scipy.ndimage import rotate

        images = torch.from_numpy(rotate(images.numpy(), 30, axes=(1, 2), reshape=False, order=1))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    x, y = images.reshape(len(images), 64)[order].to(dtype), torch.from_numpy(bunch.target)[order]
    return Split(*(part.to(device) for part in (x[:1200], y[:1200], x[1200:], y[1200:])))

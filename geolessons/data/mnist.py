"""MNIST and Fashion-MNIST from files that you have (or that torchvision may download)."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from geolessons.data.digits import Split

__all__ = ["mnist"]

Name = Literal["MNIST", "FashionMNIST"]
MEAN_STD = {"MNIST": (0.1307, 0.3081), "FashionMNIST": (0.2860, 0.3530)}
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def mnist(
    name: Name = "MNIST",
    *,
    root: str | Path | None = None,
    download: bool = False,
    turn: float = 0.0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Split:
    """60,000 + 10,000 images as vectors of 784 pixels, normalised to mean 0 and deviation 1.

    Args:
        name: `"MNIST"` or `"FashionMNIST"`.
        root: Folder in torchvision's layout (`root/MNIST/raw/…`, gzipped or not); the environment variable
            GEOLESSONS_DATA if not given.
        download: Let torchvision fetch the files into `root` if they are not there.
        turn: Turn each image by this many degrees to the left (bilinear).
        dtype: Of the pixels.
        device: Of both.

    Raises:
        ValueError: For an unknown name, a `turn` that is not finite, no root, or a damaged file.
        FileNotFoundError: If files are missing; the message names them.
    """
    if name not in get_args(Name):
        raise ValueError(f"name={name!r} is unknown; it is one of {', '.join(get_args(Name))}")
    if not math.isfinite(turn):
        raise ValueError(f"turn={turn} must be a finite number of degrees")
    root = root or os.environ.get("GEOLESSONS_DATA")
    if not root:
        raise ValueError(
            "root is not given and GEOLESSONS_DATA is not set: name the folder that holds " + name
        )
    if download:
        import torchvision

        getattr(torchvision.datasets, name)(str(root), download=True)
    folder = Path(root) / name / "raw"
    paths = [_find(folder, file) for file in FILES]
    missing = [str(folder / file) for file, path in zip(FILES, paths, strict=True) if path is None]
    if missing:
        raise FileNotFoundError("missing (plain or with .gz): " + ", ".join(missing))
    x_train, y_train, x_test, y_test = (_read_idx(path) for path in paths if path)
    for images, labels, file in ((x_train, y_train, paths[1]), (x_test, y_test, paths[3])):
        if images.dim() != 3 or labels.shape != images.shape[:1]:
            raise ValueError(
                f"{file} has labels of shape {tuple(labels.shape)} for images of shape {tuple(images.shape)}"
            )
    mean, std = MEAN_STD[name]

    def pixels(images: Tensor) -> Tensor:
        images = images.to(dtype) / 255
        if turn:
            from torchvision.transforms.functional import InterpolationMode, rotate

            images = rotate(images, turn, InterpolationMode.BILINEAR)
        return ((images - mean) / std).reshape(len(images), -1).to(device)

    return Split(pixels(x_train), y_train.long().to(device), pixels(x_test), y_test.long().to(device))


def _find(folder: Path, file: str) -> Path | None:
    return next((p for p in (folder / file, folder / (file + ".gz")) if p.is_file()), None)


def _read_idx(path: Path) -> Tensor:
    """An IDX file of bytes: two zero bytes, type 8, number of dimensions, big-endian sizes, data."""
    raw = path.read_bytes()
    if path.suffix == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is not a whole gzip file: {error}") from error
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is not an IDX file of bytes")
    start = 4 + 4 * raw[3]
    sizes = [int.from_bytes(raw[i : i + 4], "big") for i in range(4, start, 4)]
    if len(raw) != start + math.prod(sizes):
        raise ValueError(
            f"{path} is truncated or damaged: {len(raw)} bytes where its header promises "
            f"{start + math.prod(sizes)}"
        )
    return torch.frombuffer(bytearray(raw[start:]), dtype=torch.uint8).reshape(sizes)

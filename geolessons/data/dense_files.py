"""Pictures and labels in files, one at a time, with errors that name the file and say what is right.

`look` reads the beginning and the end only: cheap enough for every file before training starts.  `pixels`
reads all of it, looks first, and checks a PNG's sums, without which a damaged label is read as another one.
A label must be a lossless PNG whose values are the labels: palettes are not turned into colours, and colours
not into labels.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["labels", "listing", "look", "pixels", "refuse", "same"]

ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
FORMATS = {".jpg": "JPEG", ".png": "PNG"}
COLOURS = ("RGB", "L")
LABELS = ("P", "L")


def look(path: Path, modes: tuple[str, ...]) -> tuple[int, int]:
    """(H, W) of a picture, by its header, after a look at its end.

    Args:
        path: Ends in `.jpg` or `.png`, and is that.
        modes: Pillow's names of those that are right.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is of another kind or mode, truncated, or no picture.
    """
    from PIL import Image

    form = FORMATS[path.suffix]
    _there(path)
    with path.open("rb") as file:
        try:
            with Image.open(file, formats=[form]) as picture:
                (W, H), mode = picture.size, picture.mode
        except Exception as error:  # what Pillow raises for a damaged file has many types
            raise ValueError(f"{path} is no {form}, or damaged at its beginning") from error
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 1024))
        if ENDS[form] not in file.read():
            raise ValueError(f"{path} is truncated: its end is missing")
    if mode not in modes:
        raise ValueError(f"{path} has the mode {mode}, where {' or '.join(modes)} is right")
    return H, W


def pixels(path: Path, modes: tuple[str, ...]) -> Tensor:
    """The bytes of a picture, (H, W) or, in colour, (3, H, W), after a `look`.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is of another kind or mode, truncated or damaged.
    """
    import numpy
    from PIL import Image

    look(path, modes)
    whole = path.read_bytes()
    if path.suffix == ".png" and not _sums_are_right(whole):
        raise ValueError(f"{path} is damaged: its sums do not match its content")
    with io.BytesIO(whole) as file:
        try:
            with Image.open(file) as picture:
                drawn = picture.convert("RGB") if modes == COLOURS else picture
                found = torch.from_numpy(numpy.array(drawn))
        except Exception as error:
            raise ValueError(f"{path} is damaged: {error}") from error
    return found.permute(2, 0, 1) if found.dim() == 3 else found


def labels(path: Path, size: tuple[int, int], allowed: Iterable[int]) -> Tensor:
    """A picture of labels, (H, W) int64.

    Args:
        path: Of a PNG.
        size: (H, W) that is right.
        allowed: The labels that may be in it.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is of another kind, mode or size, damaged, or holds another label.
    """
    found = pixels(path, LABELS)
    same(path, tuple(found.shape), size)
    right = torch.zeros(256, dtype=torch.bool)
    right[torch.tensor(list(allowed))] = True
    if not bool(right[found.long()].all()):
        wrong = sorted(set(found.flatten().tolist()) - set(right.nonzero().flatten().tolist()))
        raise ValueError(f"{path} holds the labels {wrong[:5]}, which are none of its {int(right.sum())}")
    return found.long()


def same(path: Path, size: tuple[int, ...], right: tuple[int, int]) -> None:
    """Refuse a size that is not the photograph's.

    Raises:
        ValueError: For another size.
    """
    if size != right:
        a, b = ("×".join(map(str, x)) for x in (size, right))
        raise ValueError(f"{path} is {a} (height × width) where its photograph is {b}")


def listing(path: Path) -> list[str]:
    """The names in a split's file, one a line.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is empty, or a name is there twice, or none.
    """
    _there(path)
    try:
        names = path.read_text(encoding="utf8").split()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text: it must hold one name a line") from error
    odd = [name for name in names if not name.replace("_", "").isalnum()]
    if odd or not names or len(set(names)) < len(names):
        why = f"{odd[0]!r} is no name" if odd else "a name is there twice" if names else "it is empty"
        raise ValueError(f"{path} must hold one name a line, each once: {why}")
    return names


def refuse(wrong: list[str], count: int, right: str) -> None:
    """One error for all files that are not right, if there are any.

    Args:
        wrong: A sentence each.
        count: Of the files looked at.
        right: What would be.

    Raises:
        ValueError: With the first ten.
    """
    if wrong:
        more = [f"and {len(wrong) - 10} more"] if len(wrong) > 10 else []
        lines = "\n  ".join([*wrong[:10], *more])
        raise ValueError(f"{len(wrong)} of {count} files are not right:\n  {lines}\nRight is: {right}")


def _sums_are_right(png: bytes) -> bool:
    """Whether each chunk of a PNG, (length, kind, data, sum), has the sum that it says, up to the last."""
    at = 8
    while at + 12 <= len(png):
        end = at + 8 + int.from_bytes(png[at : at + 4], "big")
        if zlib.crc32(png[at + 4 : end]) != int.from_bytes(png[end : end + 4], "big"):
            return False
        if png[at + 4 : at + 8] == b"IEND":
            return True
        at = end + 4
    return False


def _there(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")

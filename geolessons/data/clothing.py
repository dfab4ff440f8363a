"""Clothing Co-Parsing: street photographs of one person each, every pixel labelled, from your files.

Yang, Luo and Lin 2014, "Clothing Co-Parsing by Joint Image Segmentation and Labeling" (CVPR).  The
photographs show identifiable people and are not part of this project: publish numbers, not pictures.

    ccp/<split>/JPEGImages/<id>.jpg        the photograph, at half size
    ccp/<split>/semseg/<id>.png            its label per pixel, 0 to 58, at full size
    ccp/classes.csv                        id, name, part_group, foreground
"""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import get_args

import torch
from torch.utils.data import Dataset

from geolessons.data.dense import Dense
from geolessons.data.dense_files import COLOURS, LABELS, labels, look, pixels, refuse
from geolessons.data.pascal import PictureSet

__all__ = ["ClothingPeople"]

COLUMNS = ["id", "name", "part_group", "foreground"]
RIGHT = (
    "for each photograph JPEGImages/<id>.jpg a PNG of labels, semseg/<id>.png, mode P or L, twice as high "
    "and wide (to a pixel)"
)


class ClothingPeople(Dataset[Dense]):
    """Photographs with three answers that a table makes of one annotation; there are no normals (all zero).

    `semseg` holds 59 classes, 0 for none.  `human_parts` holds seven groups of clothing and body, not
    the limbs of `PARTS`: 1 head and what is worn on it, 2 skin, 3 upper body, 4 lower body, 5 whole body, 6
    feet, 7 accessories.  `saliency` is the person with all that is worn or carried: a stand-in, not an eye's.

    Args:
        root: Folder that holds `ccp`; the environment variable GEOLESSONS_DATA if not given.
        split: `"train"` or `"val"`.

    Raises:
        ValueError: If there is no root, or no such split, or the table is damaged, or there is no photograph.
        FileNotFoundError: If the table is missing.
    """

    def __init__(self, root: str | Path | None = None, split: PictureSet = "train") -> None:
        if split not in get_args(PictureSet):
            raise ValueError(f"split={split!r} is unknown; it is one of {', '.join(get_args(PictureSet))}")
        root = root or os.environ.get("GEOLESSONS_DATA")
        if not root:
            raise ValueError(
                "root is not given and GEOLESSONS_DATA is not set: name the folder that holds ccp"
            )
        self.folder = Path(root) / "ccp" / split
        self.classes, table = _table(Path(root) / "ccp" / "classes.csv")
        self._groups, self._foreground = torch.tensor(table).unbind(1)
        found = {file.stem for kind in ("JPEGImages", "semseg") for file in (self.folder / kind).glob("*.*g")}
        if not found:
            raise ValueError(f"{self.folder} holds no photographs: right is {RIGHT}")
        self.names = sorted(found)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Dense:
        """A photograph and its answers, (H, W) as the photograph.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If one is damaged, or not of the right kind or size, or holds what is no label.
        """
        photo, annotation = self._files(self.names[index])
        image = pixels(photo, COLOURS)
        H, W = image.shape[1:]
        h, w = _twice(annotation, (H, W))
        found = labels(annotation, (h, w), range(len(self.classes)))
        rows, columns = (((torch.arange(n) + 0.5) * (full / n)).long() for n, full in ((H, h), (W, w)))
        semseg = found[rows[:, None], columns]  # the nearest label
        return Dense(
            image.float() / 255, semseg, self._groups[semseg], self._foreground[semseg], torch.zeros(3, H, W)
        )

    def check(self) -> None:
        """Look at every file's beginning and end before training starts.

        Raises:
            ValueError: One error for all files that are missing, truncated, or of a wrong kind, mode or size;
                it names the first ten, how many there are, and what would be right.
        """
        wrong: list[str] = []
        for name in self.names:
            photo, annotation = self._files(name)
            size = None
            for file, modes in ((photo, COLOURS), (annotation, LABELS)):
                try:
                    found = look(file, modes)
                    if file is photo:
                        size = found
                    elif size:
                        _twice(file, size)
                except (FileNotFoundError, ValueError) as error:
                    wrong.append(str(error))
        refuse(wrong, 2 * len(self.names), RIGHT)

    def _files(self, name: str) -> tuple[Path, Path]:
        return self.folder / "JPEGImages" / f"{name}.jpg", self.folder / "semseg" / f"{name}.png"


def _twice(annotation: Path, size: tuple[int, int]) -> tuple[int, int]:
    """The size of an annotation, about twice its photograph's.

    Raises:
        ValueError: If it is not.
    """
    h, w = look(annotation, LABELS)
    if abs(h - 2 * size[0]) > 1 or abs(w - 2 * size[1]) > 1:
        raise ValueError(
            f"{annotation} is {h}×{w} (height × width), not twice its photograph's {size[0]}×{size[1]}"
        )
    return h, w


def _table(path: Path) -> tuple[tuple[str, ...], list[tuple[int, int]]]:
    """Names of the classes, and of each its group and whether it is foreground.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; root must name the folder that holds ccp")
    try:
        with path.open(encoding="utf8", newline="") as file:
            head, *rows = csv.reader(file)
        found = [(int(row[2]), int(row[3])) for row in rows]
        whole = head == COLUMNS and [int(row[0]) for row in rows] == list(range(59))
        whole = whole and all(0 <= group <= 7 and front in (0, 1) for group, front in found)
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not whole:
        raise ValueError(
            f"{path} is damaged: it needs the columns {', '.join(COLUMNS)} and the labels 0 to 58"
        )
    return tuple(row[1] for row in rows), found

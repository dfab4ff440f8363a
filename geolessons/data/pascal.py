"""PASCAL-Context as the multi-task benchmark lays it out: photographs with four dense answers, from files.

    JPEGImages/<id>.jpg                    the photograph
    ImageSets/Context/<split>.txt          the names of train (4,998) and val (5,105)
    semseg/VOC12/<id>.png                  21 classes; else semseg/pascal-context/<id>.png; 255 is unknown
    human_parts/<id>.mat                   PASCAL-Part's `anno`; 24 parts of persons, read as six groups
    normals_distill/<id>.png               n = 2 p/255 - 1, another network's answers
    sal_distill/<id>.png                   salient above 1/2, another network's answers
    pascal-context/trainval/<id>.mat       LabelMap; normals count on the indoor classes of NYUv2 only

Written from the description of the benchmark (Maninis et al. 2019, arXiv 1904.08918; in MTLoRA, arXiv
2403.20320).  Data: Everingham et al. 2010, Mottaghi et al. 2014, Chen et al. 2014; not part of this project.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.utils.data import Dataset

from geolessons.data.dense import IGNORE, Dense
from geolessons.data.dense_files import (
    COLOURS,
    LABELS,
    labels,
    listing,
    look,
    pixels,
    refuse,
    same,
)
from geolessons.data.mat_files import mat, shape_in_mat
from geolessons.data.person_parts import parts_of
from geolessons.files import replacing

__all__ = ["CLASSES", "INDOOR", "PascalContext"]

PictureSet = Literal["train", "val"]
CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *(
        "diningtable",
        "dog",
        "horse",
        "motorbike",
        "person",
        "pottedplant",
        "sheep",
        "sofa",
        "train",
        "tvmonitor",
    ),
)
# PASCAL-Context's numbers (of 459) of the classes whose names NYUv2 has as well, and 427, its television.
# fmt: off
INDOOR = frozenset((
    3, 4, 6, 9, 10, 11, 13, 15, 17, 18, 22, 23, 29, 30, 33, 34, 36, 37, 38, 39, 41, 43, 46, 49, 50, 51,
    53, 55, 56, 59, 61, 62, 65, 66, 68, 69, 72, 73, 78, 83, 84, 85, 87, 88, 95, 96, 101, 104, 105, 107,
    111, 113, 115, 122, 124, 135, 141, 142, 143, 146, 150, 154, 157, 158, 159, 165, 172, 174, 181, 183,
    184, 191, 193, 195, 197, 199, 202, 213, 215, 216, 219, 220, 223, 225, 228, 230, 232, 233, 238, 239,
    242, 243, 246, 250, 251, 252, 255, 260, 261, 263, 269, 272, 273, 275, 281, 283, 284, 285, 286, 287,
    288, 290, 291, 292, 293, 295, 304, 307, 309, 310, 314, 315, 319, 323, 329, 330, 331, 336, 342, 345,
    349, 350, 351, 352, 355, 357, 368, 370, 371, 374, 379, 380, 383, 384, 397, 401, 403, 405, 407, 408,
    411, 412, 413, 414, 417, 419, 421, 423, 427, 429, 430, 432, 440, 441, 442, 443, 444, 446, 454, 457,
))
# fmt: on
RIGHT = (
    "for each name a JPEG photograph, and of the same height and width: a PNG of labels (mode P or L) in "
    "semseg/VOC12 or semseg/pascal-context, a PNG in normals_distill (mode RGB) and one in sal_distill (mode "
    "L); human_parts/<id>.mat with `anno`, and pascal-context/trainval/<id>.mat with `LabelMap`"
)


class PascalContext(Dataset[Dense]):
    """The pictures of a split at their own size; `Augmented` and `Resized` make batches of them.

    Files that were exchanged for one another are noticed where their kind, size or values betray it; two
    label files of one size and one kind cannot be told apart.  Normals and saliency are other networks'
    answers, so a metric on them measures agreement, not truth.

    Args:
        root: Folder in the layout above.
        split: `"train"` or `"val"`.
        axes: What the stored normals are multiplied by, so that x is to the right, y up, and z to the viewer.
            The benchmark does not say where its axes point.  How it turns normals fits x right and y down
            (taken here) or x left and y up.  Between these two only the sign of x and y together differs, on
            which no metric, mirror or turn depends, nor on the sign of z.
        indoor: PASCAL-Context's classes on which normals count.

    Raises:
        ValueError: For an unknown split or axes that are no signs; if the split's list is empty or damaged.
        FileNotFoundError: If that list is missing.

    Example::

        data = PascalContext("PASCAL_MT", "train")
        data.check()
        g = torch.Generator().manual_seed(0)
        order = Shuffled(len(data), g)
        loader = DataLoader(Augmented(data, 448), batch_size=32, sampler=order, generator=g, num_workers=8)
    """

    def __init__(
        self,
        root: str | Path,
        split: PictureSet = "train",
        *,
        axes: tuple[int, int, int] = (1, -1, 1),
        indoor: Collection[int] = INDOOR,
    ) -> None:
        if split not in get_args(PictureSet):
            raise ValueError(f"split={split!r} is unknown; it is one of {', '.join(get_args(PictureSet))}")
        if len(axes) != 3 or any(a not in (1, -1) for a in axes):
            raise ValueError(f"axes={axes} must be three signs, 1 or -1")
        self.root, self.split = Path(root), split
        self.names = listing(self.root / "ImageSets" / "Context" / f"{split}.txt")
        self._axes = torch.tensor(axes, dtype=torch.float32)[:, None, None]
        self._indoor = torch.zeros(460, dtype=torch.bool)
        self._indoor[torch.tensor(sorted(indoor), dtype=torch.int64)] = True

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Dense:
        """A picture and its answers, (H, W) as photographed.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If one is damaged, or not of the right kind or size, or holds what is no label.
        """
        name = self.names[index]
        photo, parts = self._file("JPEGImages", name), self._file("human_parts", name)
        image = pixels(photo, COLOURS)
        H, W = image.shape[1:]
        saliency = self._file("sal_distill", name)
        bright = pixels(saliency, ("L",))
        same(saliency, tuple(bright.shape), (H, W))
        return Dense(
            image.float() / 255,
            labels(self._semseg(name), (H, W), (*range(len(CLASSES)), IGNORE)),
            parts_of(parts, (H, W)),
            (bright > 127).long(),
            self._normals(name, (H, W)),
        )

    def check(self) -> None:
        """Look at every file's beginning and end, as cheaply as that goes, before training starts.

        Raises:
            ValueError: One error for all files that are missing, truncated, or of a wrong kind, mode or size;
                it names the first ten, how many there are, and what would be right.
        """
        wrong: list[str] = []
        for name in self.names:
            size = None
            for file, modes in (
                (self._file("JPEGImages", name), COLOURS),
                (self._semseg(name), LABELS),
                (self._file("normals_distill", name), ("RGB",)),
                (self._file("sal_distill", name), ("L",)),
                (self._file("pascal-context", name), "LabelMap"),
                (self._file("human_parts", name), "anno"),
            ):
                try:
                    found = shape_in_mat(file, modes) if isinstance(modes, str) else look(file, modes)
                    size = size or (found if modes is COLOURS else None)
                    if size and modes != "anno":
                        same(file, found, (size[0], size[1]))
                except (FileNotFoundError, ValueError) as error:
                    wrong.append(str(error))
        refuse(wrong, 6 * len(self.names), RIGHT)

    def people(self, cache: str | Path) -> list[int]:
        """Indices of the pictures with a labelled part of a person: those to train on for parts alone.

        Reading all files takes minutes; the outcome is kept in a file of `cache`, under a name that holds a
        digest of the names, sizes and times of what was read, so that changed files are read again.

        Args:
            cache: A folder for it, outside the data's.

        Raises:
            ValueError: If `cache` lies in the data's folder, or one error for all files that are missing,
                truncated or damaged.
        """
        folder = Path(cache).resolve()
        if folder.is_relative_to(self.root.resolve()):
            raise ValueError(
                f"cache={str(cache)!r} lies in the data's folder, which is only read: name another"
            )
        files = [self._file("human_parts", name) for name in self.names]
        digest = hashlib.sha256()
        for file in files:
            stat = file.stat() if file.is_file() else None
            digest.update(repr((file.name, stat and (stat.st_size, stat.st_mtime_ns))).encode())
        kept = folder / f"people-{self.split}-{digest.hexdigest()[:16]}.json"
        if (known := _kept(kept, len(files))) is not None:
            return known
        from tqdm import tqdm

        found, wrong = [], []
        for i, file in enumerate(tqdm(files, "people", unit="file", disable=None)):
            try:
                if bool(parts_of(file, None).any()):
                    found.append(i)
            except (FileNotFoundError, ValueError) as error:
                wrong.append(str(error))
        refuse(wrong, len(files), RIGHT)
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(kept) as aside:
            aside.write_text(json.dumps(found), encoding="utf8")
        return found

    def _file(self, folder: str, name: str) -> Path:
        if folder == "JPEGImages":
            return self.root / folder / f"{name}.jpg"
        if folder == "pascal-context":
            return self.root / folder / "trainval" / f"{name}.mat"
        return self.root / folder / f"{name}.{'mat' if folder == 'human_parts' else 'png'}"

    def _semseg(self, name: str) -> Path:
        first, other = (self.root / "semseg" / kind / f"{name}.png" for kind in ("VOC12", "pascal-context"))
        return other if other.is_file() and not first.is_file() else first

    def _normals(self, name: str, size: tuple[int, int]) -> Tensor:
        """(3, H, W), of unit length on indoor classes, zero elsewhere."""
        file, context = self._file("normals_distill", name), self._file("pascal-context", name)
        found = pixels(file, ("RGB",))
        same(file, tuple(found.shape[1:]), size)
        classes = mat(context, "LabelMap")
        if isinstance(classes, (str, list)):
            raise ValueError(f"{context}: its LabelMap holds no numbers")
        same(context, classes.shape, size)
        limit = len(self._indoor)
        if not ((classes >= 0) & (classes < limit) & (classes % 1 == 0)).all():
            raise ValueError(f"{context}: its LabelMap holds numbers that are none of 0 to {limit - 1}")
        n = (found.float() * 2 / 255 - 1) * self._axes
        length = (n[0].square() + n[1].square() + n[2].square()).sqrt()
        known = length > 0.1  # bytes have no exact zero: 127 and 128 are ±0.004
        known &= self._indoor[torch.from_numpy(classes.astype("int64"))]
        return torch.where(known, n / length.clamp(min=0.1), 0.0)


def _kept(file: Path, count: int) -> list[int] | None:
    """Indices from a file that was kept, if it is whole."""
    try:
        known = json.loads(file.read_text(encoding="utf8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(known, list) and all(type(i) is int and 0 <= i < count for i in known)
    return known if whole else None

"""The parts of persons in PASCAL-Part's files (Chen et al. 2014, arXiv 1406.2031), 24 names in six groups.

anno            imname, objects (1×n)
an object       class, class_ind (15 for a person), mask (H, W), parts (1×m, or empty)
a part          part_name, mask (H, W)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geolessons.data.dense_files import same
from geolessons.data.mat_files import mat

__all__ = ["GROUPS", "parts_of"]

PERSON = 15
# l and r for left and right; the numbers are the places in `PARTS`.
GROUPS: dict[str, int] = {
    **dict.fromkeys(("head", "hair", "mouth", "nose"), 1),
    **dict.fromkeys(("lear", "rear", "lebrow", "rebrow", "leye", "reye"), 1),
    **dict.fromkeys(("torso", "neck"), 2),
    **dict.fromkeys(("luarm", "ruarm"), 3),
    **dict.fromkeys(("llarm", "rlarm", "lhand", "rhand"), 4),
    **dict.fromkeys(("luleg", "ruleg"), 5),
    **dict.fromkeys(("llleg", "rlleg", "lfoot", "rfoot"), 6),
}


def parts_of(file: Path, size: tuple[int, int] | None) -> Tensor:
    """The groups of persons' parts, (H, W) int64, later parts over earlier ones.

    Args:
        file: Built as above.
        size: (H, W) that is right; None for that of the first mask.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is damaged, built another way, of another picture or size, or names an unknown part.
    """
    found = None if size is None else torch.zeros(size, dtype=torch.int64)
    anno = _one(mat(file, "anno"), file)
    of = str(anno.get("imname") or file.stem).split(".")[0]
    if of != file.stem:
        raise ValueError(f"{file} is of another picture, {of!r} by its imname")
    for thing in _structs(anno, "objects", file):
        found = _as_large(found, _field(thing, "mask", file), "an object", file)
        if _field(thing, "class_ind", file) != PERSON:
            continue
        for part in _structs(thing, "parts", file):
            name, mask = _field(part, "part_name", file), _field(part, "mask", file)
            if name not in GROUPS:
                right = ", ".join(sorted(GROUPS))
                raise ValueError(f"{file} names the part {name!r}; a person's are {right}")
            found = _as_large(found, mask, f"the part {name!r}", file)
            found[torch.from_numpy(mask != 0)] = GROUPS[name]
    return torch.zeros(1, 1, dtype=torch.int64) if found is None else found


def _as_large(found: Tensor | None, mask: Any, of: str, file: Path) -> Tensor:
    """What was found so far, after a look whether a mask is a picture of that size."""
    if getattr(mask, "ndim", 0) != 2:
        raise ValueError(f"{file}: the mask of {of} is no picture")
    if found is None:
        return torch.zeros(mask.shape, dtype=torch.int64)
    same(file, mask.shape, (found.shape[0], found.shape[1]))
    return found


def _field(struct: dict[str, Any], name: str, file: Path) -> Any:
    """What a field holds; a number if it is one."""
    if name not in struct:
        raise _built_otherwise(file, f"{name} is missing")
    found = struct[name]
    return found.item() if getattr(found, "size", 0) == 1 else found


def _structs(struct: dict[str, Any], name: str, file: Path) -> list[dict[str, Any]]:
    """The structs in a field; none if it is empty."""
    found = _field(struct, name, file)
    if isinstance(found, list):
        return found
    if getattr(found, "size", 1) == 0:
        return []
    raise _built_otherwise(file, f"{name} holds no structs")


def _one(found: Any, file: Path) -> dict[str, Any]:
    if not isinstance(found, list) or len(found) != 1:
        raise _built_otherwise(file, "it is no single struct")
    return found[0]


def _built_otherwise(file: Path, why: str) -> ValueError:
    return ValueError(f"{file}: its anno is not built as PASCAL-Part's: {why}")

"""The pictures of the study, to train on and to grade on, in one form for scenes and for photographs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset

from geolessons.data.clothing import ClothingPeople
from geolessons.data.dense import PARTS, Dense
from geolessons.data.dense_transforms import Augmented, Resized, Shuffled
from geolessons.data.pascal import PascalContext
from geolessons.data.scenes import CLASSES, scenes
from geolessons.models.multitask import OUTPUTS
from geolessons.studies.multitask.protocol import Protocol
from geolessons.training import read_in_batches

__all__ = ["AT_ONCE", "Pictures", "pictures"]

AT_ONCE = 32  # pictures graded at a time
TRAINED_ON, GRADED_ON = 1, 2  # seeds of scenes; the same for all methods and all seeds of the study
CLOTHES = 8  # groups of clothing and body, with background


@dataclass
class Pictures:
    """What a method is trained and graded on.

    Attributes:
        outputs: Task to channels of its answer.
        loader: Makes the batches of an epoch, as tuples in the order of `Dense`, of a size, from a generator.
        graded: Gives the batches to grade on, always the same.
        facts: What a result should tell of, e.g. how many there are.
    """

    outputs: dict[str, int]
    loader: Callable[[int, torch.Generator], DataLoader[Any]]
    graded: Callable[[], Iterator[Dense]]
    facts: dict[str, Any] = field(default_factory=dict)


def pictures(protocol: Protocol, root: Path | None = None, workers: int = 0) -> Pictures:
    """The pictures of a protocol.

    Args:
        protocol: Says which, how large and how many.
        root: Folder of the photographs; for ccp `GEOLESSONS_DATA` if not given.
        workers: Processes that read photographs.

    Raises:
        FileNotFoundError: If photographs or labels are missing.
        ValueError: If they are damaged, or `root` is needed and not given.
    """
    if protocol.data == "scenes":
        return _rendered(protocol)
    if protocol.data == "pascal":
        if root is None:
            raise ValueError("--root is needed: the folder that the archive PASCAL_MT was extracted to")
        sets: Any = [PascalContext(root, split) for split in ("train", "val")]
        outputs = dict(OUTPUTS)
    else:
        sets = [ClothingPeople(root, split) for split in ("train", "val")]
        outputs = {"semseg": len(sets[0].classes), "human_parts": CLOTHES, "saliency": 1}
    for each in sets:
        each.check()
    return _read(protocol, sets, outputs, workers)


def _rendered(protocol: Protocol) -> Pictures:
    if protocol.train is None or protocol.val is None:
        raise ValueError("--train and --val must be numbers: there is no end of scenes")
    train = scenes(protocol.train, protocol.size, seed=TRAINED_ON)
    val = scenes(protocol.val, protocol.size, seed=GRADED_ON)
    outputs = {"semseg": len(CLASSES), "human_parts": len(PARTS), "saliency": 1, "normals": 3}

    def graded() -> Iterator[Dense]:
        return (Dense(*batch) for batch in zip(*(torch.split(x, AT_ONCE) for x in val), strict=True))

    return Pictures(
        outputs,
        lambda batch, generator: read_in_batches(*train, batch=batch, generator=generator),
        graded,
        {"trained on": len(train.image), "graded on": len(val.image)},
    )


def _read(protocol: Protocol, sets: list[Any], outputs: dict[str, int], workers: int) -> Pictures:
    train, val = (
        each if most is None else Subset(each, range(min(most, len(each))))
        for each, most in zip(sets, (protocol.train, protocol.val), strict=True)
    )

    def loader(batch: int, generator: torch.Generator) -> DataLoader[Any]:
        return DataLoader(
            Augmented(train, protocol.size),
            batch,
            sampler=Shuffled(len(train), generator),
            generator=generator,
            num_workers=workers,
            drop_last=len(train) >= batch,  # the balanced loss hangs on how many pictures share it
        )

    def graded() -> Iterator[Dense]:
        read = DataLoader(Resized(val, protocol.size), AT_ONCE, num_workers=workers)
        return (Dense(*batch) for batch in read)

    return Pictures(outputs, loader, graded, {"trained on": len(train), "graded on": len(val)})

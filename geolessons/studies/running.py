"""What long studies share: how they are laid out on a machine, and what is kept when they are stopped."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from geolessons.guards import Precision, check_counts
from geolessons.schedules import cosine
from geolessons.studies.record import Found, write

__all__ = ["Machine", "decayed", "kept", "leads", "processes", "rates", "share", "steps_an_epoch"]


@dataclass(frozen=True)
class Machine:
    """How a run is laid out; what is meant to come out is the same.

    Attributes:
        accumulate: Batches a step, each of `batch / accumulate / processes` examples.  What looks at a batch
            as a whole, a batch norm or a loss that balances classes, then looks at such a part.
        precision: Of the forward pass: `"no"`, `"bf16"` or `"fp16"`.
        cpu: Stay on the processor.
        workers: Processes that read data.
    """

    accumulate: int = 1
    precision: Precision = "no"
    cpu: bool = False
    workers: int = 0


def processes() -> tuple[int, int]:
    """This process's number and how many there are, also before they have met."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    return (int(os.environ.get("RANK", "0")), world) if world > 1 else (0, 1)


def share(batch: int, machine: Machine) -> int:
    """Examples that a process reads at a time, for a step of `batch` examples.

    Raises:
        ValueError: If the batch does not divide among processes and accumulation.
    """
    check_counts(accumulate=machine.accumulate)
    world = processes()[1]
    found, rest = divmod(batch, world * machine.accumulate)
    if rest or not found:
        raise ValueError(
            f"batch={batch} does not divide among {world} processes that accumulate "
            f"{machine.accumulate} batches each: choose numbers that divide it"
        )
    return found


def steps_an_epoch(loader: DataLoader[Any], machine: Machine) -> int:
    """Steps of the optimiser in a pass over a loader that all processes share."""
    batches, world = len(loader), processes()[1]
    mine = batches // world if loader.drop_last else math.ceil(batches / world)
    return math.ceil(mine / machine.accumulate)


def decayed(trained: Iterable[Tensor], weight_decay: float) -> list[dict[str, Any]]:
    """Groups for an optimiser: matrices decay, and biases, norms and other vectors do not."""
    trained = list(trained)
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def rates(N: int, warmup: float, *, start: float = 0.0, end: float = 0.0) -> Callable[[int], float]:
    """The factor of the learning rate before step 0, 1, …: up to 1 in a line, then down half a cosine.

    Args:
        N: Steps.
        warmup: Share of them in which it rises.
        start: Where it begins.
        end: Where it ends.
    """
    rise = math.ceil(warmup * N)

    def rate(i: int) -> float:
        if i < rise:
            return start + (1 - start) * i / rise
        return 1 - (1 - end) * cosine(min(i, N) - rise, max(N - rise, 1))

    return rate


def kept(place: Path | None, name: str, measure: Callable[[Path | None], Found]) -> Found:
    """What `measure` finds, kept in `place/name.json` as soon as it is there, and taken from there if it is.

    Args:
        place: A folder; None keeps nothing.
        name: Of what is measured.
        measure: Called with a folder for its checkpoints, `place/name`, which is gone afterwards.
    """
    if place is None:
        return measure(None)
    done, checkpoints = place / f"{name}.json", place / name
    if done.is_file():
        return dict(json.loads(done.read_text(encoding="utf8")))
    values: Mapping[str, Any] = measure(checkpoints)
    if not processes()[0]:
        write(dict(values), done)
        shutil.rmtree(checkpoints, ignore_errors=True)
    return dict(values)


def leads() -> bool:
    """Wait until all processes have read and written what they must, and part; True for one of them."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    return not processes()[0]

"""Checkpoints of a run: each is written aside, marked complete, renamed; the newest two are kept.

A run that is killed at any moment leaves at most one unfinished folder, `….writing`, which nobody reads.
Accelerate writes and reads what it prepared, model, optimiser, scaler, schedule, and the global generators.
Beside that stand `run.json`: what run it is, the order it reads in, what it measured; and the mark,
`complete.json`: a checksum of each file, for a flipped bit in a tensor loads without a word.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Checkpoints", "newest"]

MARK, RUN = "complete.json", "run.json"
STEP = "step-" + 8 * "[0-9]"  # folders of other names are the user's own
KEPT = 2  # should the newest be damaged, there is one before it


class Checkpoints:
    """Where a run writes what it has reached, and where it goes on from.

    Args:
        folder: Made if missing.
        accelerator: Has prepared what is trained.
        parts: Model, optimiser, schedule: put back, bit for bit, if a checkpoint does not fit them.
        generator: The loader's.
        same: What must be the same in the run that goes on, e.g. the number of epochs.

    Raises:
        NotADirectoryError: If `folder` is a file.
    """

    def __init__(
        self,
        folder: str | Path,
        accelerator: Accelerator,
        parts: Sequence[Any],
        generator: torch.Generator,
        same: dict[str, Any],
    ) -> None:
        self.folder = Path(folder).expanduser()
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"checkpoints={str(folder)!r} is a file; name a folder")
        self.accelerator, self.parts, self.generator, self.same = accelerator, parts, generator, same

    def save(self, step: int, order: torch.Tensor, history: dict[str, Any]) -> None:
        """Write the checkpoint of a step; all processes call this together.

        Args:
            step: How many steps were done.
            order: The generator's state from which the current epoch's order is drawn.
            history: What was measured.
        """
        main, wait = self.accelerator.is_main_process, self.accelerator.wait_for_everyone
        aside, final = (self.folder / f"step-{step:08d}{end}" for end in (".writing", ""))
        if main:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
        wait()
        # safetensors cannot read back every model that it writes: tied weights that are not contiguous
        self.accelerator.save_state(str(aside), safe_serialization=False)
        wait()
        if main:
            state = order.numpy().tobytes().hex()
            _write(aside / RUN, {"same": self.same, "order": state, "history": history})
            _write(aside / MARK, {path.name: _checksum(path) for path in sorted(aside.iterdir())})
            shutil.rmtree(final, ignore_errors=True)  # has no mark, else this run had gone on from it
            os.replace(aside, final)
            kept = _complete(self.folder)[-KEPT:]
            for old in [*self.folder.glob(STEP), *self.folder.glob(STEP + ".writing")]:
                if old not in kept:
                    shutil.rmtree(old, ignore_errors=True)
        wait()

    def resume(self) -> dict[str, Any] | None:
        """Go on from the newest checkpoint: put everything in its place and return the history.

        Returns:
            None if there is no checkpoint.

        Raises:
            ValueError: If the checkpoint is damaged or of another run; then nothing was changed.
        """
        found = newest(self.folder)
        if found is None:
            return None
        if damaged := _damaged(found):
            raise ValueError(
                f"{found} is damaged ({', '.join(damaged)} is not as it was written): delete this folder to "
                "go on from the checkpoint before it, or name another"
            )
        run = json.loads((found / RUN).read_text(encoding="utf8"))
        there = run["same"]
        differ = [f"{k}={v!r}, there {there[k]!r}" for k, v in self.same.items() if there.get(k, v) != v]
        if differ:
            raise ValueError(f"{found} is of another run: {'; '.join(differ)}: name another folder")
        before = [deepcopy(part.state_dict()) for part in self.parts]
        try:
            self.accelerator.load_state(str(found))
        except Exception as error:
            for part, state in zip(self.parts, before, strict=True):
                part.load_state_dict(state)
            raise ValueError(
                f"{found} does not fit this model, optimiser or schedule ({error}): name another folder"
            ) from error
        self.generator.set_state(torch.frombuffer(bytearray.fromhex(run["order"]), dtype=torch.uint8))
        return run["history"]


def newest(folder: Path) -> Path | None:
    """The complete checkpoint of the most steps, if there is one."""
    found = _complete(folder)
    return found[-1] if found else None


def _complete(folder: Path) -> list[Path]:
    return sorted(mark.parent for mark in folder.glob(f"{STEP}/{MARK}"))


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf8")


def _damaged(found: Path) -> list[str]:
    """The files of a checkpoint that are not as they were written."""
    try:
        sums = json.loads((found / MARK).read_text(encoding="utf8"))
        return [name for name in sorted({RUN, *sums}) if _checksum(found / name) != sums.get(name)]
    except (ValueError, TypeError, AttributeError):
        return [MARK]


def _checksum(path: Path) -> int | None:
    """CRC-32 of a file, the fastest that finds accidents; None if there is no such file."""
    if not path.is_file():
        return None
    total = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            total = zlib.crc32(block, total)
    return total

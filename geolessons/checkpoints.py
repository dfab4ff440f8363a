"""Checkpoints of a run: each is written aside, marked complete, renamed; the newest two are kept.

A run that is killed at any moment leaves at most one unfinished folder, `….writing`, which nobody reads.
Accelerate writes and reads what it prepared: model, optimiser, scaler, schedule.  Beside that stand the
random generators' states, one file a process, and the mark: what run it is, and what it measured.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Checkpoints", "newest"]

MARK = "complete.json"
KEPT = 2  # should the newest be damaged, there is one before it


class Checkpoints:
    """Where a run writes what it has reached, and where it goes on from.

    Args:
        folder: Made if missing.
        accelerator: Has prepared model and optimiser.
        model: Put back, bit for bit, if a checkpoint cannot be read.
        generator: The loader's.
        same: What must be the same in the run that goes on, e.g. the number of steps.

    Raises:
        NotADirectoryError: If `folder` is a file.
    """

    def __init__(
        self,
        folder: str | Path,
        accelerator: Accelerator,
        model: nn.Module,
        generator: torch.Generator,
        same: dict[str, Any],
    ) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"checkpoints={str(folder)!r} is a file; name a folder")
        self.accelerator, self.model, self.generator, self.same = accelerator, model, generator, same

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
        self.accelerator.save_state(str(aside))
        torch.save(_random_states() | {"order": order}, aside / self._random())
        wait()
        if main:
            with open(aside / MARK, "w", encoding="utf8") as file:
                json.dump({"same": self.same, "history": history}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, final)
            for old in [*_complete(self.folder)[:-KEPT], *self.folder.glob("step-*.writing")]:
                shutil.rmtree(old, ignore_errors=True)
        wait()

    def resume(self) -> dict[str, Any] | None:
        """Go on from the newest checkpoint: put everything in its place and return the history.

        Returns:
            None if there is no checkpoint.

        Raises:
            ValueError: If the checkpoint is damaged or of another run; the model is then as it was.
        """
        found = newest(self.folder)
        if found is None:
            return None
        advice = f"name another folder, or delete {found} to go on from the one before it"
        try:
            mark = json.loads((found / MARK).read_text(encoding="utf8"))
            same, history = mark["same"], mark["history"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{found / MARK} is damaged ({error}): {advice}") from error
        differ = [f"{k}={v!r}, there {same.get(k)!r}" for k, v in self.same.items() if v != same.get(k)]
        if differ:
            raise ValueError(f"{found} is of another run: {'; '.join(differ)}: name another folder")
        kept = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        try:
            states = torch.load(found / self._random(), weights_only=True)
            self.accelerator.load_state(str(found))
            _put_back(states)
            self.generator.set_state(states["order"])
        except (OSError, RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError) as error:
            self.model.load_state_dict(kept)
            raise ValueError(f"{found} is damaged or of another model ({error}): {advice}") from error
        return history

    def _random(self) -> str:
        return f"generators-{self.accelerator.process_index}.pt"


def newest(folder: Path) -> Path | None:
    """The complete checkpoint of the most steps, if there is one."""
    found = _complete(folder)
    return found[-1] if found else None


def _complete(folder: Path) -> list[Path]:
    return sorted(p.parent for p in folder.glob(f"step-*/{MARK}") if p.parent.suffix != ".writing")


def _random_states() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _put_back(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["cpu"])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])

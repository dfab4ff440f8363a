"""The backbone that all methods start from: a small Swin that learned which things a scene shows.

    loss = mean over classes of binary cross entropy of (logit, is a ball in sight?, a cone?, …)

Each of 40,000 scenes is seen once.  Whole pictures are sorted, nothing dense is told: as ImageNet does for
Swin-Tiny.  The weights are kept in a file, and what is in the file is named by a digest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from geolessons.data.dense_transforms import normalise
from geolessons.data.scenes import CLASSES, present, scenes
from geolessons.files import replacing
from geolessons.models.multitask import swin, swin_tiny
from geolessons.schedules import cosine
from geolessons.seeding import seeded
from geolessons.studies.running import decayed
from geolessons.trees import params_of

__all__ = ["PRETRAINING", "cache_folder", "digest", "in_sight", "pretrain", "small", "tiny"]

DEPTHS = (2, 2, 2, 2)
PRETRAINING: dict[str, float] = {
    "scenes": 40_000,
    "difficulty": 0.25,
    "size": 64,
    "batch": 32,
    "lr": 2e-3,
    "weight_decay": 0.05,
    "seed": 9,
}
STAMP = "made by"
LEAST = 12  # pixels of a class that is in sight
FIRST = 1_000_000  # number of the first scene: all others in the study are below


def cache_folder() -> Path:
    """Where the pre-trained weights are kept: `$XDG_CACHE_HOME/geolessons`, or `~/.cache/geolessons`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "geolessons"


def small(kept: Path | None = None, *, progress: bool | None = None) -> nn.Module:
    """The small Swin, pre-trained; from a file if it is there and of these numbers, else trained now.

    Args:
        kept: File of the weights; `cache_folder()/multitask-backbone.safetensors` if not given.
        progress: Show a bar; if not given, in terminals only.

    Raises:
        ValueError: If what is at `kept` is damaged or not from here; it is left alone.
    """
    if kept and kept.exists() and not _ours(kept):
        raise ValueError(f"{kept} is no backbone of this study: name another file, or one that is not there")
    kept = kept or cache_folder() / "multitask-backbone.safetensors"
    told = json.dumps({**PRETRAINING, "depths": DEPTHS, "least": LEAST}, sort_keys=True)
    with contextlib.suppress(FileNotFoundError, SafetensorError, KeyError, RuntimeError):
        model, found = _fresh(), load_file(kept)
        if found.pop(STAMP).numpy().tobytes() == told.encode():
            model.load_state_dict(found)
            return model.eval()
    # not there, damaged, or of other numbers: it is made anew
    model = _fresh()
    pretrain(model, progress=progress)
    kept.parent.mkdir(parents=True, exist_ok=True)
    stamp = torch.frombuffer(bytearray(told.encode()), dtype=torch.uint8)
    with replacing(kept) as aside:
        save_file({**model.state_dict(), STAMP: stamp}, aside)
    return model.eval()


def tiny(weights: str | None) -> nn.Module:
    """Swin-Tiny, with torchvision's weights of that name, or as it is drawn if None."""
    return swin_tiny(torch.Generator().manual_seed(0), weights=weights).eval()


def pretrain(
    model: nn.Module, numbers: dict[str, float] = PRETRAINING, *, progress: bool | None = None
) -> list[float]:
    """Train a Swin, in place, to say which classes are in sight.

    Args:
        model: With one output a class.
        numbers: As `PRETRAINING`.
        progress: Show a bar; if not given, in terminals only.

    Returns:
        The loss of each step, in nats.
    """
    batch, size, seed = (int(numbers[name]) for name in ("batch", "size", "seed"))
    steps = int(numbers["scenes"]) // batch
    groups = decayed(model.parameters(), numbers["weight_decay"])
    optimiser = torch.optim.AdamW(groups, lr=numbers["lr"])
    schedule = LambdaLR(optimiser, lambda i: min(1, (i + 1) / (steps // 20 + 1)) * (1 - cosine(i, steps)))
    model.train()
    losses = []
    bar = tqdm(
        range(steps), desc="pre-training", unit="step", disable=None if progress is None else not progress
    )
    with seeded(seed):
        for i in bar:
            start, difficulty = FIRST + i * batch, numbers["difficulty"]
            drawn = scenes(batch, size, seed=seed, difficulty=difficulty, start=start)
            logits = model(normalise(drawn.image))
            loss = binary_cross_entropy_with_logits(logits, present(drawn.semseg, least=LEAST))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()))
            bar.set_postfix_str(f"{losses[-1]:.3f} nats", refresh=False)
    return losses


@torch.no_grad()
def in_sight(model: nn.Module, count: int = 512) -> tuple[float, float]:
    """The share of right answers on scenes of its own, and what always saying the commoner answer gets."""
    size, seed = int(PRETRAINING["size"]), int(PRETRAINING["seed"]) + 1
    drawn = scenes(count, size, seed=seed, difficulty=PRETRAINING["difficulty"], start=FIRST)
    true = present(drawn.semseg, least=LEAST)
    says = torch.cat([model(normalise(x)) > 0 for x in torch.split(drawn.image, 64)])
    often = true.mean(0)
    return float((says == true).float().mean()), float(torch.maximum(often, 1 - often).mean())


def digest(model: nn.Module) -> str:
    """Names the weights: equal for equal bytes."""
    found = hashlib.sha256()
    weights: dict[str, Tensor] = params_of(model)
    for name, w in sorted(weights.items()):
        found.update(name.encode() + w.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def _ours(file: Path) -> bool:
    """Whether `small` wrote it, with whatever numbers."""
    try:
        return STAMP in load_file(file)
    except (OSError, SafetensorError):
        return False


def _fresh() -> nn.Module:
    seed = int(PRETRAINING["seed"])
    return swin(torch.Generator().manual_seed(seed), depths=DEPTHS, classes=len(CLASSES))

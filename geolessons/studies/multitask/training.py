"""One method on one seed: make it ready, train it, grade it.

Adapters and decoders of a seed are drawn alike for all methods that have them, and all read the pictures in
the same order, so differences within a seed are paired.
"""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geolessons.data.dense import Dense
from geolessons.data.dense_transforms import normalise
from geolessons.models.multitask import MultiTask
from geolessons.multitask_losses import multitask_loss
from geolessons.multitask_metrics import MeanIoU, NormalAngles, SaliencyIoU
from geolessons.saved import Saved
from geolessons.studies.multitask.methods import ALL_WEIGHTS, ready, trainings
from geolessons.studies.multitask.pictures import Pictures
from geolessons.studies.multitask.protocol import Protocol
from geolessons.studies.record import Found
from geolessons.studies.running import Machine, decayed, processes, rates, share, steps_an_epoch
from geolessons.training import History, fit

__all__ = ["METRICS", "fresh", "grade", "kept_bytes", "train", "without_a_say"]

WARMUP = 1 / 15  # the benchmark's 20 of 300 epochs
METRICS = {"semseg": "mIoU", "human_parts": "mIoU", "saliency": "mIoU", "normals": "mean angle"}


def fresh(backbone: nn.Module, pictures: Pictures, protocol: Protocol, seed: int) -> MultiTask:
    """A copy of the pre-trained backbone with decoders drawn from the seed."""
    generator = torch.Generator().manual_seed(seed)
    outputs = pictures.outputs
    return MultiTask(copy.deepcopy(backbone), generator, outputs=outputs, narrow=protocol.narrow)


def train(
    backbone: nn.Module,
    pictures: Pictures,
    protocol: Protocol,
    method: str,
    seed: int,
    *,
    machine: Machine | None = None,
    checkpoints: Path | None = None,
) -> tuple[Found, list[nn.Module]]:
    """Train a method and grade it.

    Args:
        backbone: Pre-trained; not touched.
        pictures: To train and to grade on.
        protocol: The numbers.
        method: One of `methods.METHODS`.
        seed: Draws decoders, adapters, the order of the pictures and dropout.
        machine: How it is laid out.
        checkpoints: A folder; a run that was stopped goes on from there.

    Returns:
        Values by name: of each task its metrics, in percent or degrees; `trainable` and `network` (numbers),
        `step ms` (median), `step kept MB` (`kept_by_step`), `loss by epoch`, and of each task
        `… by epoch`.  And what answers: one module, or for single one a task.

    Raises:
        ValueError: For a method that is none, or a batch that does not divide among processes and parts.
        KeyboardInterrupt: If the run was interrupted; its checkpoint is written.
    """
    machine = machine or Machine()
    share(protocol.batch, machine)  # before anything is made
    rows: list[Found] = []
    answering: list[nn.Module] = []
    for tasks in trainings(method, pictures.outputs):
        model = fresh(backbone, pictures, protocol, seed)
        answers = ready(model, method, protocol.rank, tasks, torch.Generator().manual_seed(seed))
        trained = [p for p in answers.parameters() if p.requires_grad]
        few = _few(pictures, protocol, seed)
        kept = kept_by_step(answers, few, protocol.batch)
        if processes()[1] > 1:  # which would wait for the gradients of these for ever
            for p in without_a_say(answers, few):
                p.requires_grad_(False)
        place = checkpoints and checkpoints / "-".join(tasks)
        rate = protocol.full_lr if method in ALL_WEIGHTS else protocol.lr
        history = _descended(
            answers, pictures, protocol, rate, seed, machine, place, f"{method}, seed {seed}"
        )
        answering.append(answers.eval())
        by_epoch = len(history.loss) // protocol.epochs
        rows.append(
            {
                **history.epochs[-1],
                **{f"{key} by epoch": [row[key] for row in history.epochs] for key in history.epochs[-1]},
                "loss by epoch": [
                    statistics.fmean(history.loss[i : i + by_epoch])
                    for i in range(0, len(history.loss), by_epoch)
                ],
                "trainable": sum(p.numel() for p in trained),
                "network": _size(answers, tasks),
                "step ms": 1e3 * statistics.median(history.seconds),
                "step kept MB": kept / 2**20,
            }
        )
    return _together(rows), answering


def _descended(
    answers: nn.Module,
    pictures: Pictures,
    protocol: Protocol,
    rate: float,
    seed: int,
    machine: Machine,
    checkpoints: Path | None,
    label: str,
) -> History:
    """Train what requires gradients, in place."""
    trained = [p for p in answers.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(decayed(trained, protocol.weight_decay), lr=rate, eps=protocol.eps)
    loader = pictures.loader(share(protocol.batch, machine), torch.Generator().manual_seed(seed))
    factor = rates(protocol.epochs * steps_an_epoch(loader, machine), WARMUP, start=1e-3, end=1e-2)
    history = fit(
        answers,
        loss,
        loader,
        optimiser,
        epochs=protocol.epochs,
        schedule=torch.optim.lr_scheduler.LambdaLR(optimiser, factor),
        after_epoch=lambda _, model: grade(model, pictures),
        accumulate=machine.accumulate,
        clip=protocol.clip,
        precision=machine.precision,
        cpu=machine.cpu,
        seed=seed,
        checkpoints=checkpoints,
        label=label,
    )
    if not history.finished:
        raise KeyboardInterrupt
    return history


def _together(rows: list[Found]) -> Found:
    """One set of values for a method that trains several networks, as if they were one.

    Numbers, time and loss add up; the memory of a step is the largest, since they train one after another.
    """
    found: Found = {key: value for row in rows for key, value in row.items()}
    for key in ("trainable", "network", "step ms"):
        found[key] = math.fsum(float(row[key]) for row in rows)  # type: ignore[arg-type]
    found["step kept MB"] = max(float(row["step kept MB"]) for row in rows)  # type: ignore[arg-type]
    curves: Any = [row["loss by epoch"] for row in rows]
    found["loss by epoch"] = [math.fsum(column) for column in zip(*curves, strict=True)]
    return found


def loss(answers: nn.Module, batch: Any) -> Tensor:
    """The benchmark's weighted loss of a batch, a tuple in the order of `Dense`."""
    sample = Dense(*batch)
    return multitask_loss(answers(normalise(sample.image)), sample)[0]


@torch.no_grad()
def grade(answers: nn.Module, pictures: Pictures) -> dict[str, float]:
    """The benchmark's metrics of all tasks that are answered: percent, and degrees.

    Each of several processes grades all pictures, so nothing is to be put together.
    """
    device = next(answers.parameters()).device
    training, meters = {m: m.training for m in answers.modules()}, dict[str, Any]()
    answers.eval()
    try:
        for sample in pictures.graded():
            said = answers(normalise(sample.image.to(device)))
            for task, logits in said.items():
                meter = meters.setdefault(task, _meter(task, pictures.outputs[task]))
                meter.update(logits.float().cpu(), getattr(sample, task))
    finally:
        for module, mode in training.items():
            module.training = mode
    found: dict[str, float] = {}
    for task, meter in meters.items():
        if task == "normals":
            errors = meter.compute()
            found |= {"normals.mean angle": errors.mean_angle_deg, "normals.rmse": errors.rmse_deg}
        else:
            found[f"{task}.mIoU"] = 100 * meter.compute()
    return found


def kept_bytes(answers: nn.Module, batch: Any) -> int:
    """Bytes that autograd keeps from forward to backward for a batch, parameters left out.

    The model is left in training mode, otherwise as it was.
    """
    with _as_it_was(answers), Saved(answers.parameters()) as saved:
        loss(answers, batch)
    return saved.bytes


def kept_by_step(answers: nn.Module, few: Any, batch: int) -> float:
    """`kept_bytes` of a batch, from those of a few pictures and of half of them.

    Weights that are formed anew are kept once a step, so pictures are counted apart from what all share.
    """
    n, half = len(few[0]), len(few[0]) // 2
    kept = kept_bytes(answers, few)
    if not half:
        return kept * batch
    each = (kept - kept_bytes(answers, [x[:half].clone() for x in few])) / (n - half)
    return kept + (batch - n) * each


def without_a_say(answers: nn.Module, batch: Any) -> list[nn.Parameter]:
    """What would train and yet changes no answer, such as MTLoRA's shared adapter at its very end."""
    trained = [p for p in answers.parameters() if p.requires_grad]
    with _as_it_was(answers):
        slopes = torch.autograd.grad(loss(answers, batch), trained, allow_unused=True)
    return [p for p, slope in zip(trained, slopes, strict=True) if slope is None]


@contextmanager
def _as_it_was(answers: nn.Module) -> Iterator[None]:
    """Inside, the model is in training mode; afterwards its buffers and the random state are put back."""
    before = {name: b.clone() for name, b in answers.named_buffers()}
    answers.train()
    try:
        with torch.random.fork_rng([]):
            yield
    finally:
        with torch.no_grad():
            for name, b in answers.named_buffers():
                b.copy_(before[name])


def _few(pictures: Pictures, protocol: Protocol, seed: int) -> Any:
    """Four pictures: what a step keeps grows with their number, and on the CPU takes its time."""
    few = min(4, protocol.batch)
    return next(iter(pictures.loader(few, torch.Generator().manual_seed(seed))))


def _meter(task: str, outputs: int) -> MeanIoU | SaliencyIoU | NormalAngles:
    if task == "saliency":
        return SaliencyIoU()
    return NormalAngles() if task == "normals" else MeanIoU(outputs)


def _size(answers: nn.Module, tasks: tuple[str, ...]) -> int:
    """Numbers of a network that answers these tasks: decoders of others do not count."""
    others = [
        f"decoders.{task}."
        for module in answers.modules()
        if isinstance(module, MultiTask)
        for task in module.tasks
        if task not in tasks
    ]
    return sum(p.numel() for name, p in answers.named_parameters() if not any(o in name for o in others))

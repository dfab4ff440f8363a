"""One arm of Flat-LoRA's own protocols: make it ready, train it with `fit`, say what it reached.

All adapters are PEFT's, on the same layers; noise is `geolessons.noise.FlatNoise` over them, one draw a step
of the optimiser however many batches are accumulated, and none in evaluation.
"""

from __future__ import annotations

import copy
import statistics
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from geolessons.metrics import matthews as correlation
from geolessons.noise import FlatNoise
from geolessons.schedules import cosine
from geolessons.seeding import seeded
from geolessons.studies.flat_protocol import Protocol, Task, arm_of
from geolessons.studies.record import Found
from geolessons.studies.running import Machine, decayed, processes, rates, share, steps_an_epoch
from geolessons.training import OnStep, fit

__all__ = ["build", "confusion", "noise", "scores", "train"]

EVERY = 1000  # steps from one checkpoint to the next, each the size of the network
LORA_GA = 8  # examples whose mean gradient LoRA-GA starts from, one at a time, as in its code


def build(task: Task, protocol: Protocol, name: str, seed: int) -> nn.Module:
    """A copy of the network made ready for an arm; a seed gives all arms of a rank the same random A.

    Args:
        task: Its network is not touched; LoRA-GA looks at the gradient of its first eight examples.
        protocol: Gives alpha.
        name: Of the arm.
        seed: Draws A.

    Raises:
        ValueError: If it names no arm of these studies, or PEFT is missing or too old for it.
    """
    kind, rank, _ = arm_of(name)
    model = copy.deepcopy(task.model)
    if kind == "full":
        return model.requires_grad_(True)
    options: dict[str, Any] = {"r": rank, "lora_alpha": protocol.alpha, "target_modules": task.layers}
    try:
        from peft import LoraConfig, get_peft_model

        if kind == "ga":
            from peft import LoraGAConfig
            from peft.tuners.lora import preprocess_loraga

            options.update(init_lora_weights="lora_ga", lora_ga_config=LoraGAConfig())
    except ImportError as error:
        raise ValueError(
            f"arm {name!r} needs a newer PEFT ({error}): pip install -U peft, or leave it out by --arms"
        ) from error
    if kind == "pissa":
        options["init_lora_weights"] = "pissa"
    config = LoraConfig(use_dora=kind == "dora", **options)

    def gradient() -> None:
        for i in range(min(LORA_GA, len(task.train))):  # type: ignore[arg-type]
            task.loss(model, task.collate([task.train[i]])).backward()  # type: ignore[no-untyped-call]

    with seeded(seed), warnings.catch_warnings():  # PEFT draws from the global generator
        warnings.filterwarnings("ignore", "Full backward hook is firing")  # it only counts with them
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`")  # PEFT asks transformers 5 for it
        if kind == "ga":
            preprocess_loraga(model, config, gradient)
        found: nn.Module = get_peft_model(model, config)
    return found


def noise(model: nn.Module, sigma: float, *, seed: int, own_draws: bool = False) -> OnStep:
    """For `fit`: step i of N runs under noise of σ·(1 − cos(π·(i − 1)/N))/2, so the first has none.

    Args:
        model: With adapters.
        sigma: The strength that the schedule rises to.
        seed: Of the run.
        own_draws: As `Protocol`.
    """

    def on_step(i: int, N: int) -> FlatNoise:
        return FlatNoise(model, sigma * cosine(i - 1, N), seed=seed, step=i, per_rank=own_draws)

    return on_step


def confusion(model: nn.Module, task: Task, *, batch: int = 64, workers: int = 0) -> Tensor:
    """How many test examples of class i (row) are taken for class j (column), (C, C), on the CPU.

    Several processes read a share each and all get the sum.
    """
    rank, world = processes()
    device = next(model.parameters()).device
    counts = torch.zeros(task.classes**2, dtype=torch.int64, device=device)
    share = Subset(task.test, range(rank, len(task.test), world))  # type: ignore[arg-type]
    for read in DataLoader(share, batch, collate_fn=task.collate, num_workers=workers):
        here = {name: tensor.to(device) for name, tensor in read.items()}
        pairs = here["label"] * task.classes + task.logits(model, here).argmax(1)
        counts += torch.bincount(pairs, minlength=len(counts))
    if world > 1:
        torch.distributed.all_reduce(counts)
    return counts.view(task.classes, task.classes).cpu()


def scores(counts: Tensor, *, matthews: bool = False) -> dict[str, float]:
    """Accuracy in percent, as the paper prints it, and Matthews' correlation if asked for.

    Args:
        counts: As `confusion`.
        matthews: Of two classes.

    Example:
        >>> scores(torch.tensor([[3, 1], [1, 3]]), matthews=True)
        {'accuracy': 75.0, 'matthews': 0.5}
    """
    found = {"accuracy": 100 * int(counts.trace()) / int(counts.sum())}
    if matthews:
        pairs = torch.arange(4).repeat_interleave(counts.flatten())
        found["matthews"] = correlation(pairs % 2, pairs // 2)
    return found


def train(
    task: Task,
    protocol: Protocol,
    name: str,
    seed: int,
    *,
    machine: Machine | None = None,
    checkpoints: Path | None = None,
) -> Found:
    """Train one arm from the pre-trained network and say what it reached.

    Args:
        task: The network, which is not touched, and the data.
        protocol: The numbers.
        name: Of the arm.
        seed: Draws A, the order of the data, dropout and noise.
        machine: How it is laid out.
        checkpoints: A folder; a run that was stopped goes on from there.

    Returns:
        `accuracy` (percent) and perhaps `matthews` after the last epoch, `… by epoch`, `train loss` (mean of
        the last epoch), and `step ms` (median).

    Raises:
        ValueError: For an arm that is none, or a batch that does not divide among processes and accumulation.
        KeyboardInterrupt: If the run was interrupted; its checkpoint is written.
    """
    machine = machine or Machine()
    batch = share(protocol.batch, machine)
    model, sigma = build(task, protocol, name, seed), arm_of(name).sigma
    generator = torch.Generator().manual_seed(seed)
    loader = DataLoader(
        task.train,
        batch,
        shuffle=True,
        generator=generator,
        collate_fn=task.collate,
        num_workers=machine.workers,
    )
    trained = [p for p in model.parameters() if p.requires_grad]
    rate = protocol.full_lr if name == "full" else protocol.lr
    optimiser = torch.optim.AdamW(decayed(trained, protocol.weight_decay), lr=rate)
    per_epoch = steps_an_epoch(loader, machine)
    N = protocol.epochs * per_epoch
    history = fit(
        model,
        task.loss,
        loader,
        optimiser,
        epochs=protocol.epochs,
        schedule=torch.optim.lr_scheduler.LambdaLR(optimiser, rates(N, protocol.warmup)),
        on_step=noise(model, sigma, seed=seed, own_draws=protocol.own_draws) if sigma else None,
        after_epoch=lambda _, found: scores(
            confusion(found, task, workers=machine.workers), matthews=task.matthews
        ),
        accumulate=machine.accumulate,
        clip=protocol.clip,
        precision=machine.precision,
        cpu=machine.cpu,
        seed=seed,
        checkpoints=checkpoints,
        every=EVERY,
        label=f"{name}, seed {seed}",
    )
    if not history.finished:
        raise KeyboardInterrupt
    by_epoch = {f"{key} by epoch": [row[key] for row in history.epochs] for key in history.epochs[-1]}
    return {
        **history.epochs[-1],
        **by_epoch,
        "train loss": statistics.fmean(history.loss[-per_epoch:]),
        "step ms": 1e3 * statistics.median(history.seconds),
    }

"""Training loops: `descend` for tensors in memory, `fit` for models, devices and long runs.

`descend` is the running example's loop and fits on a page.  `fit` runs on Accelerate: one GPU or several,
mixed precision, accumulated gradients, and checkpoints from which a killed run goes on bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

from geolessons.checkpoints import Checkpoints
from geolessons.guards import (
    Precision,
    accelerator_of_its_own,
    check_counts,
    described,
    interruption,
    left_as_found,
    own_generator,
    trained_tensors,
)
from geolessons.seeding import seeded

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["History", "descend", "fit", "read_in_batches"]

Optimiser = Literal["adam", "sgd"]
OnStep = Callable[[int, int], AbstractContextManager[Any] | None]
AfterEpoch = Callable[[int, nn.Module], Mapping[str, float] | None]
Loss = Callable[[nn.Module, Any], Tensor]


def descend(
    parameters: Iterable[Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    lr: float,
    generator: torch.Generator,
    batch: int = 64,
    optimiser: Optimiser = "adam",
    label: str = "training",
) -> list[float]:
    """Minimise `loss(x_batch, y_batch)` over `parameters`, which are changed in place.

    Args:
        parameters: Leaf tensors that require gradients.
        loss: Mean loss of a batch, 0-d.
        x: Inputs (n, …).
        y: Targets (n, …).
        epochs: Passes over the data, each in a new order.
        lr: Learning rate; it falls to zero along half a cosine.
        generator: Draws the orders; a CPU generator.
        batch: Examples a step.
        optimiser: `"adam"` or `"sgd"`.
        label: Words beside the progress bar, which shows in terminals only.

    Returns:
        The mean loss of each epoch.

    Raises:
        ValueError: For an unknown optimiser, epochs, lr or batch that are not positive, or x and y that
            are empty or differ in length.
        FloatingPointError: If the loss becomes NaN or infinite.
    """
    if optimiser not in get_args(Optimiser):
        raise ValueError(f"optimiser={optimiser!r} is unknown; it is one of {', '.join(get_args(Optimiser))}")
    if epochs < 1 or batch < 1 or not lr > 0:
        raise ValueError(f"epochs={epochs}, batch={batch} and lr={lr} must be positive")
    if len(x) == 0:
        raise ValueError("x is empty: there is nothing to train on")
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} rows and y has {len(y)}; they must go in pairs")
    make = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[optimiser]
    steps = make(list(parameters), lr=lr)  # type: ignore[operator]
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(steps, epochs * -(-len(x) // batch))
    history = []
    for _ in tqdm(range(epochs), label, unit="epoch", leave=False, disable=None):
        order = torch.randperm(len(x), generator=generator).to(x.device)
        total = 0.0
        for chosen in torch.split(order, batch):
            steps.zero_grad()
            value = loss(x[chosen], y[chosen])
            value.backward()  # type: ignore[no-untyped-call]
            steps.step()
            schedule.step()
            total += float(value.detach()) * len(chosen)
        if not math.isfinite(total):
            raise FloatingPointError(f"the loss became {total} with lr={lr}: take a smaller step")
        history.append(total / len(x))
    return history


@dataclass
class History:
    """What a run of `fit` measured.

    Attributes:
        loss: Of each step, the mean over its batches on all processes, before the step, in the unit of the
            loss (nats an example for cross-entropy).
        grad_norm: Of each step, the Euclidean norm of the gradient of all that trains, before clipping.
        lr: Of each step, the learning rate of the optimiser's first group.
        seconds: Of each step, wall time, reading of the data included.
        epochs: Of each epoch, what `after_epoch` returned.
        finished: False if the run was interrupted.
    """

    loss: list[float] = field(default_factory=list)
    grad_norm: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    epochs: list[dict[str, float]] = field(default_factory=list)
    finished: bool = False


def fit(
    model: nn.Module,
    loss: Loss,
    loader: DataLoader[Any],
    optimiser: torch.optim.Optimizer,
    *,
    epochs: int,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
    on_step: OnStep | None = None,
    after_epoch: AfterEpoch | None = None,
    accumulate: int = 1,
    clip: float | None = None,
    precision: Precision = "no",
    cpu: bool = False,
    seed: int = 0,
    checkpoints: str | Path | None = None,
    every: int | None = None,
    progress: bool | None = None,
    label: str = "training",
) -> History:
    """Train a model, in place, on the device and the processes that Accelerate finds.

    Ctrl-C ends the run after the step in progress, writes a checkpoint if there is a folder for it, and
    returns what was reached; a second Ctrl-C raises at once.  A run that was stopped or killed and is
    called again with the same arguments goes on from its newest checkpoint, and ends at the same weights
    bit for bit on the same machine, threads and versions (on a GPU, with torch's deterministic algorithms).
    From within an epoch this holds for data that reads the same twice; random augmentation does not.

    Args:
        model: What the optimiser holds of it is trained; it stays on the device.
        loss: Called with the model and a batch on its device; gives the batch's mean loss, 0-d.
        loader: Of known length, with a `generator` of its own, which draws each epoch's order.  Each of
            several processes (`accelerate launch`, `torchrun`) reads its share of the batches.
        optimiser: Holds the tensors of the model to train.
        epochs: Passes over the data.
        schedule: Of the optimiser's learning rates; stepped after each step of the optimiser.
        on_step: Called as `on_step(i, N)` before step i = 1, …, N, e.g. to move a t.  If it returns a
            context manager, the forward and backward passes of the step run inside it.
        after_epoch: Called as `after_epoch(epoch, model)` with epoch = 1, 2, …, the model in evaluation mode
            and no gradients recorded; the numbers it returns go into the history.
        accumulate: Batches a step; their gradients are averaged, also where an epoch ends early.
        clip: The largest gradient norm; a longer gradient is shortened to it.
        precision: Of the forward pass: the model's own, `"no"`; `"bf16"`; or `"fp16"`, on a GPU.
        cpu: Stay on the processor, whatever else there is.
        seed: Of the global generators during the run, from which dropout draws; they are put back.  The
            second process takes `seed + 1`, and so on.
        checkpoints: Folder for checkpoints; the two newest are kept.  Each holds the whole `state_dict`.
        every: Steps from one checkpoint to the next; if not given, an epoch's.
        progress: Show a bar; if not given, in terminals only.
        label: Words beside the bar.

    Raises:
        ValueError: If a number is not positive, or the precision unknown or not to be had; if the loader is
            empty, without length or generator, or one whose order cannot be drawn again; if the optimiser
            holds a tensor that is not the model's, or none that requires gradients, or the schedule is of
            another optimiser; if the loss is not 0-d; or if the checkpoint to go on from is damaged or of
            another run (then model and optimiser are left as they were).
        NotADirectoryError: If `checkpoints` is a file.
        FloatingPointError: If loss or gradient become NaN or infinite; the weights are those before the step
            (BatchNorm's averages have seen its batch).

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> x = torch.tensor([[1.0], [2.0]])
        >>> model = nn.Linear(1, 1, bias=False)
        >>> history = fit(
        ...     model,
        ...     lambda model, batch: (model(batch[0]) - batch[1]).square().mean(),
        ...     DataLoader(TensorDataset(x, 3 * x), batch_size=2, generator=torch.Generator()),
        ...     torch.optim.SGD(model.parameters(), lr=0.2),
        ...     epochs=50,
        ... )
        >>> round(model.weight.item(), 4), len(history.loss)
        (3.0, 50)
    """
    check_counts(epochs=epochs, accumulate=accumulate, every=every)
    if clip is not None and not clip > 0:
        raise ValueError(f"clip={clip} must be a positive number, or None")
    generator = own_generator(loader, resumable=checkpoints is not None)
    trained = trained_tensors(model, optimiser, schedule)
    with (
        accelerator_of_its_own(precision, cpu) as accelerator,
        left_as_found(model, optimiser),
        seeded(seed + accelerator.process_index),
        interruption(accelerator) as interrupted,
    ):
        wrapped, stepper, batches = accelerator.prepare(model, optimiser, loader)
        if len(batches) == 0:
            raise ValueError("loader has no batch for each process: there is nothing to train on")
        per_epoch = -(-len(batches) // accumulate)
        N = epochs * per_epoch
        history, saved = History(), None
        if checkpoints is not None:
            if schedule is not None:
                accelerator.register_for_checkpointing(schedule)
            same = described(model, loader, optimiser, schedule)
            same |= {"epochs": epochs, "batches": len(batches), "accumulate": accumulate, "clip": clip}
            same |= {"precision": precision, "seed": seed, "processes": accelerator.num_processes}
            parts = [part for part in (model, optimiser, schedule) if part is not None]
            saved = Checkpoints(checkpoints, accelerator, parts, generator, same)
            history = History(**(saved.resume() or {}))
        shown = progress if accelerator.is_main_process else False
        hidden = None if shown is None else not shown  # tqdm's None: in terminals only
        done = len(history.loss)
        with tqdm(desc=label, total=N, initial=done, unit="step", leave=False, disable=hidden) as bar:
            for epoch in range(done // per_epoch + 1, epochs + 1):
                batches.set_epoch(epoch - 1)  # for samplers and data that ask
                order, skip = generator.get_state(), len(history.loss) % per_epoch * accumulate
                reading = iter(accelerator.skip_first_batches(batches, skip) if skip else batches)
                model.train()
                clock = time.perf_counter()
                while group := list(islice(reading, accumulate)):
                    i = len(history.loss) + 1
                    with (on_step(i, N) if on_step else None) or nullcontext():
                        value = _gradients(accelerator, wrapped, loss, group)
                    norm = float(accelerator.clip_grad_norm_(trained, math.inf if clip is None else clip))
                    # where gradients are scaled, the scaler sees to the infinite ones
                    _refuse_infinite(value, norm if accelerator.scaler is None else 0.0, i)
                    history.lr.append(float(optimiser.param_groups[0]["lr"]))
                    stepper.step()
                    model.zero_grad()
                    if schedule is not None and not accelerator.optimizer_step_was_skipped:
                        schedule.step()
                    history.loss.append(value)
                    history.grad_norm.append(norm)
                    history.seconds.append(time.perf_counter() - clock)
                    bar.update()
                    ended = i == epoch * per_epoch
                    if ended and after_epoch:
                        with torch.no_grad():
                            numbers = after_epoch(epoch, model.eval()) or {}
                        history.epochs.append({name: float(number) for name, number in numbers.items()})
                    history.finished = i == N
                    stop = interrupted()
                    if saved and (stop or history.finished or i % (every or per_epoch) == 0):
                        saved.save(i, generator.get_state() if ended else order, asdict(history))
                    if stop:
                        return history
                    clock = time.perf_counter()
                if len(history.loss) != epoch * per_epoch:
                    raise ValueError(
                        f"loader gave batches for {len(history.loss)} steps by the end of epoch {epoch}; by "
                        f"its length they are {epoch * per_epoch}"
                    )
    return history


def read_in_batches(*tensors: Tensor, batch: int, generator: torch.Generator) -> DataLoader[Any]:
    """A loader over tensors in memory, in a new order each epoch; a batch is one read, not one an example.

    Args:
        *tensors: Inputs (n, …), targets (n, …).
        batch: Examples a batch; the last of an epoch may have fewer.
        generator: Draws the orders.

    Raises:
        ValueError: If there are no examples, the tensors differ in length, or `batch` is not positive.
    """
    if not tensors or not len(tensors[0]) or len({len(tensor) for tensor in tensors}) > 1:
        raise ValueError(
            f"tensors of lengths {[len(t) for t in tensors]} must be equally long, and not empty"
        )
    if isinstance(batch, bool) or batch < 1:
        raise ValueError(f"batch={batch} must be a positive number of examples")
    data = _Rows(*tensors)
    return DataLoader(data, batch, shuffle=True, generator=generator, collate_fn=tuple)


class _Rows(TensorDataset):
    """Gives the examples of a batch by one indexing each tensor, where a loader would stack them singly."""

    def __getitems__(self, chosen: list[int]) -> tuple[Tensor, ...]:
        return self[torch.tensor(chosen)]  # type: ignore[index]


def _gradients(accelerator: Accelerator, model: nn.Module, loss: Loss, group: list[Any]) -> float:
    """Put the mean gradient of some batches into the tensors; the mean loss, over all processes too."""
    total: float | Tensor = 0.0
    for j, batch in enumerate(group, start=1):
        # gradients travel between processes once, with the last batch
        with nullcontext() if j == len(group) else accelerator.no_sync(model):
            value = loss(model, batch)
            if not isinstance(value, Tensor) or value.dim():
                what = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"{value!r}"
                raise ValueError(f"loss returned {what}; it must be a mean, a 0-d tensor")
            accelerator.backward(value / len(group))
        total = total + value.detach() / len(group)
    return float(accelerator.reduce(total, reduction="mean"))


def _refuse_infinite(value: float, norm: float, i: int) -> None:
    for what, number in (("loss", value), ("gradient norm", norm)):
        if not math.isfinite(number):
            raise FloatingPointError(
                f"the {what} became {number} in step {i}: take a smaller learning rate, clip, or a warm-up"
            )

"""Training loops: `descend` for tensors in memory, `fit` for models, devices and long runs.

`descend` is the running example's loop and fits on a page.  `fit` runs on Accelerate: one GPU or several,
mixed precision, accumulated gradients, and checkpoints from which a killed run goes on bit for bit.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

from geolessons.checkpoints import Checkpoints
from geolessons.seeding import seeded

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["History", "descend", "fit", "read_in_batches"]

Optimiser = Literal["adam", "sgd"]
Precision = Literal["no", "bf16", "fp16"]
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
    bit for bit on the same machine, threads and versions.  From within an epoch this holds for data that
    reads the same twice; random augmentation does not.

    Args:
        model: What the optimiser holds of it is trained; it stays on the device.
        loss: Called with the model and a batch on its device; gives the batch's mean loss, 0-d.
        loader: Of known length, with a `generator` of its own, which draws each epoch's order.  Each of
            several processes reads its share of the batches.
        optimiser: Holds the tensors to train.
        epochs: Passes over the data.
        schedule: Of learning rates; stepped after each step of the optimiser.
        on_step: Called as `on_step(i, N)` before step i = 1, …, N, e.g. to move a t.  If it returns a
            context manager, the forward and backward passes of the step run inside it.
        after_epoch: Called as `after_epoch(epoch, model)` with epoch = 1, 2, …, the model in evaluation mode
            and no gradients recorded; the numbers it returns go into the history.
        accumulate: Batches a step; their gradients are averaged, also where an epoch ends early.
        clip: The largest gradient norm; a longer gradient is shortened to it.
        precision: Of the forward pass: the model's own, `"no"`; `"bf16"`; `"fp16"`.
        cpu: Stay on the processor, whatever else there is.
        seed: Of the global generators during the run, from which dropout draws; they are put back.
        checkpoints: Folder for checkpoints; the two newest are kept.  Each holds the whole model.
        every: Steps from one checkpoint to the next; if not given, an epoch's.
        progress: Show a bar; if not given, in terminals only.
        label: Words beside the bar.

    Raises:
        ValueError: If a number is not positive, the precision unknown, the loader empty, without length or
            generator, the optimiser without a tensor of the model that requires gradients; or if the
            checkpoint to go on from is damaged or of another run (then the model is left as it was).
        FloatingPointError: If loss or gradient become NaN or infinite; the weights are those before the step.

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
    generator = _check(model, loader, optimiser, epochs, accumulate, clip, precision, every)
    trained = [p for group in optimiser.param_groups for p in group["params"]]
    accelerator = _accelerator(precision, cpu)
    with _as_found(model, optimiser), seeded(seed), _interruption(accelerator) as interrupted:
        wrapped, stepper, batches = accelerator.prepare(model, optimiser, loader)
        if schedule is not None:
            accelerator.register_for_checkpointing(schedule)
        per_epoch = -(-len(batches) // accumulate)
        N = epochs * per_epoch
        history, saved = History(), None
        if checkpoints is not None:
            same: dict[str, Any] = {
                "steps": N,
                "batches": len(batches),
                "accumulate": accumulate,
                "seed": seed,
            }
            same |= {"precision": precision, "processes": accelerator.num_processes}
            saved = Checkpoints(checkpoints, accelerator, model, generator, same)
            history = History(**(saved.resume() or {}))
        hidden = True if progress is False or not accelerator.is_main_process else None
        bar = tqdm(
            desc=label,
            total=N,
            initial=len(history.loss),
            unit="step",
            leave=False,
            disable=False if progress and not hidden else hidden,
        )
        with bar:
            for epoch in range(len(history.loss) // per_epoch + 1, epochs + 1):
                order, skip = generator.get_state(), len(history.loss) % per_epoch * accumulate
                reading = iter(accelerator.skip_first_batches(batches, skip) if skip else batches)
                model.train()
                clock = time.perf_counter()
                while group := list(islice(reading, accumulate)):
                    i = len(history.loss) + 1
                    with (on_step(i, N) if on_step else None) or nullcontext():
                        value = _gradients(accelerator, wrapped, loss, group)
                    norm = float(accelerator.clip_grad_norm_(trained, math.inf if clip is None else clip))
                    _refuse_infinite(value, norm if accelerator.scaler is None else 0.0, i)
                    history.lr.append(float(optimiser.param_groups[0]["lr"]))
                    stepper.step()
                    stepper.zero_grad()
                    if schedule is not None and not accelerator.optimizer_step_was_skipped:
                        schedule.step()
                    history.loss.append(value)
                    history.grad_norm.append(norm)
                    history.seconds.append(time.perf_counter() - clock)
                    bar.update()
                    ended = i == epoch * per_epoch
                    if ended and after_epoch:
                        with torch.no_grad():
                            history.epochs.append(dict(after_epoch(epoch, model.eval()) or {}))
                    history.finished = i == N
                    stop = interrupted()
                    if saved and (stop or history.finished or i % (every or per_epoch) == 0):
                        saved.save(i, generator.get_state() if ended else order, asdict(history))
                    if stop:
                        return history
                    clock = time.perf_counter()
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
            if value.dim():
                raise ValueError(f"loss returned shape {tuple(value.shape)}; it must be a mean, 0-d")
            accelerator.backward(value / len(group))
        total = total + value.detach() / len(group)
    return float(accelerator.reduce(total, reduction="mean"))


def _refuse_infinite(value: float, norm: float, i: int) -> None:
    for what, number in (("loss", value), ("gradient norm", norm)):
        if not math.isfinite(number):
            raise FloatingPointError(
                f"the {what} became {number} in step {i}: take a smaller learning rate, clip, or a warm-up"
            )


def _accelerator(precision: Precision, cpu: bool) -> Accelerator:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    # A second run in a process may ask for another precision or device; Transformers' Trainer does the same.
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(mixed_precision=precision, cpu=cpu, step_scheduler_with_optimizer=False)


@contextmanager
def _as_found(model: nn.Module, optimiser: torch.optim.Optimizer) -> Iterator[None]:
    """Afterwards no wrapped method, mark or gradient is left, and each module is in its mode."""
    modes = {m: m.training for m in model.modules()}
    before = [(owner, dict(vars(owner))) for owner in (model, optimiser)]
    try:
        yield
    finally:
        for owner, held in before:
            for name in set(vars(owner)) - set(held):
                delattr(owner, name)
            for name in {"forward", "step"} & set(held):
                vars(owner)[name] = held[name]
        for module, mode in modes.items():
            module.training = mode
        optimiser.zero_grad(set_to_none=True)


@contextmanager
def _interruption(accelerator: Accelerator) -> Iterator[Callable[[], bool]]:
    """Ctrl-C only takes note, once; the function says whether any process has taken note."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if main else None

    def note(*_: object) -> None:
        accelerator.set_trigger()
        signal.signal(signal.SIGINT, before or signal.default_int_handler)

    if main:
        signal.signal(signal.SIGINT, note)
    try:
        yield accelerator.check_trigger
    finally:
        if main:
            signal.signal(signal.SIGINT, before or signal.default_int_handler)


def _check(
    model: nn.Module,
    loader: DataLoader[Any],
    optimiser: torch.optim.Optimizer,
    epochs: int,
    accumulate: int,
    clip: float | None,
    precision: Precision,
    every: int | None,
) -> torch.Generator:
    """Refuse what cannot be trained; the loader's generator."""
    for name, number in (("epochs", epochs), ("accumulate", accumulate), ("every", every)):
        if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
            raise ValueError(f"{name}={number!r} must be a whole number, 1 or more")
    if clip is not None and not clip > 0:
        raise ValueError(f"clip={clip} must be a positive number, or None")
    if precision not in get_args(Precision):
        raise ValueError(f"precision={precision!r} is unknown; it is one of {', '.join(get_args(Precision))}")
    try:
        length = len(loader)
    except TypeError as error:
        raise ValueError("loader has no length: the number of steps must be known beforehand") from error
    if length == 0:
        raise ValueError("loader is empty: there is nothing to train on")
    generator = loader.generator
    if generator is None or getattr(loader.sampler, "generator", generator) is not generator:
        raise ValueError(
            "loader needs a generator of its own, also its sampler's: DataLoader(…, shuffle=True, "
            "generator=torch.Generator().manual_seed(0)); else the order hangs on global state"
        )
    own = {id(p) for p in model.parameters() if p.requires_grad}
    held = [p for group in optimiser.param_groups for p in group["params"]]
    if not any(id(p) in own for p in held):
        raise ValueError(
            "optimiser holds no tensor of the model that requires gradients: nothing would train"
        )
    return generator

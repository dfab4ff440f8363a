"""What stands around a run of `training.fit`: refusals before it, and contexts that leave no trace of it.

Accelerate rebuilds the loader, patches model and optimiser, and shares its settings among all Accelerators
of a process.  Here is what that needs on either side.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = [
    "Precision",
    "accelerator_of_its_own",
    "check_counts",
    "described",
    "interruption",
    "left_as_found",
    "own_generator",
    "trained_tensors",
]

Precision = Literal["no", "bf16", "fp16"]
PATCHED = ("forward", "step", "_original_forward", "_is_accelerate_prepared")  # what Accelerate leaves


@contextmanager
def accelerator_of_its_own(precision: Precision, cpu: bool) -> Iterator[Accelerator]:
    """An Accelerator that no other one of the process has a say in; afterwards theirs are as before.

    Raises:
        ValueError: If the precision is unknown, or the device does not have it.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState, PartialState
    from accelerate.utils import GradientAccumulationPlugin

    if precision not in get_args(Precision):
        raise ValueError(f"precision={precision!r} is unknown; it is one of {', '.join(get_args(Precision))}")
    # All Accelerators of a process share these, and refuse a second precision or device.
    shared = [kind._shared_state for kind in (PartialState, AcceleratorState, GradientState)]
    before = [dict(state) for state in shared]
    try:
        for state in shared:
            state.clear()
        once = GradientAccumulationPlugin(num_steps=1)  # whatever the launcher says: `fit` does the averaging
        accelerator = Accelerator(mixed_precision=precision, cpu=cpu, gradient_accumulation_plugin=once)
        if precision == "fp16" and accelerator.scaler is None:
            raise ValueError(
                f"precision='fp16' needs a GPU, this is {accelerator.device}: take 'bf16' or 'no'"
            )
        yield accelerator
    finally:
        for state, held in zip(shared, before, strict=True):
            state.clear()
            state.update(held)


@contextmanager
def left_as_found(model: nn.Module, optimiser: torch.optim.Optimizer) -> Iterator[None]:
    """No gradients before and after; afterwards no patch of Accelerate's, and each module in its mode."""
    modes = {module: module.training for module in model.modules()}
    before = [(vars(owner), dict(vars(owner))) for owner in (model, optimiser)]
    model.zero_grad(set_to_none=True)
    try:
        yield
    finally:
        for now, held in before:
            for name in PATCHED:
                now.pop(name, None)
                if name in held:
                    now[name] = held[name]
        for module, mode in modes.items():
            module.training = mode
        model.zero_grad(set_to_none=True)


@contextmanager
def interruption(accelerator: Accelerator) -> Iterator[Callable[[], bool]]:
    """Ctrl-C only takes note, once; the function says whether any process has taken note."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if main else None
    noted = threading.Event()

    def note(*_: object) -> None:
        noted.set()
        signal.signal(signal.SIGINT, before)

    def interrupted() -> bool:
        if noted.is_set():
            accelerator.set_trigger()
        return accelerator.check_trigger()

    listens = before not in (None, signal.SIG_IGN)  # under nohup Ctrl-C is ignored, and stays so
    if listens:
        signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        if listens:
            signal.signal(signal.SIGINT, before)


def check_counts(**counts: int | None) -> None:
    """Refuse what is not a whole number, 1 or more.

    Raises:
        ValueError: That names the argument.
    """
    for name, number in counts.items():
        if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
            raise ValueError(f"{name}={number!r} must be a whole number, 1 or more")


def own_generator(loader: DataLoader[Any], resumable: bool) -> torch.Generator:
    """The generator that draws a loader's order.

    Raises:
        ValueError: If there is none, or the order is not drawn by it, or cannot be drawn again; or if the
            loader is empty or without length.
    """
    try:
        length = len(loader)
    except TypeError as error:
        raise ValueError("loader has no length: the number of steps must be known beforehand") from error
    if length == 0:
        raise ValueError("loader is empty: there is nothing to train on")
    if isinstance(loader.dataset, IterableDataset):
        raise ValueError("loader reads an IterableDataset, whose order cannot be drawn again; take a Dataset")
    if loader.batch_sampler is None:
        raise ValueError(
            "loader has batch_size=None: Accelerate would lose its order; give it a batch_size or a "
            "batch_sampler, or for tensors in memory take read_in_batches(…, batch=…, generator=…)"
        )
    if resumable and loader.persistent_workers:
        raise ValueError(
            "loader has persistent_workers=True: they are seeded once, which a run that goes on cannot "
            "repeat; leave it out, or do without checkpoints"
        )
    generator = loader.generator
    drawing = (loader.batch_sampler, getattr(loader.batch_sampler, "sampler", None))
    if generator is None or any(getattr(order, "generator", generator) is not generator for order in drawing):
        raise ValueError(
            "loader needs a generator of its own, also its sampler's: DataLoader(…, shuffle=True, "
            "generator=torch.Generator().manual_seed(0)); else the order hangs on global state"
        )
    return generator


def trained_tensors(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler | None,
) -> list[Tensor]:
    """What the optimiser holds.

    Raises:
        ValueError: If that is not the model's, or nothing in it requires gradients; or if the schedule is of
            another optimiser.
    """
    held = [p for group in optimiser.param_groups for p in group["params"]]
    own = {id(p) for p in model.parameters()}
    foreign = [str(tuple(p.shape)) for p in held if id(p) not in own]
    if foreign:
        raise ValueError(
            f"optimiser holds tensors that are not the model's, of shape {', '.join(foreign[:3])}: make them "
            "parameters of the model, or the optimiser anew from model.parameters()"
        )
    if not any(p.requires_grad for p in held):
        raise ValueError(
            "optimiser holds no tensor of the model that requires gradients: nothing would train"
        )
    if schedule is not None and schedule.optimizer is not optimiser:
        raise ValueError("schedule is of another optimiser: make it anew from this one")
    return held


def described(
    model: nn.Module,
    loader: DataLoader[Any],
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler | None,
) -> dict[str, Any]:
    """What can be said of these, so that another run's are told from them."""
    plain = (int, float, str, tuple, Tensor, type(None))  # prints the same in another process
    options = {name: str(value) for name, value in optimiser.defaults.items() if isinstance(value, plain)}
    return {
        "batch size": getattr(loader.batch_sampler, "batch_size", None),
        "loader's seed": loader.generator.initial_seed(),
        "dtypes": sorted({str(tensor.dtype) for tensor in model.state_dict().values()}),
        "schedule": type(schedule).__name__,
        "optimiser": type(optimiser).__name__,
    } | {f"optimiser's {name}": value for name, value in options.items()}

"""The training loops and the metrics: the loop one would write by hand, reproducible, nothing left behind."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from processes import train
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
)

from geolessons.metrics import accuracy, loss_and_accuracy
from geolessons.seeding import seeded
from geolessons.training import descend, fit, read_in_batches


def problem() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(50, 3, generator=draw, dtype=torch.float64)
    return x, x @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


def descended(seed: int = 0, **options):
    x, y = problem()
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    history = descend(
        [w],
        lambda a, b: (a @ w - b).square().mean(),
        x,
        y,
        **{"epochs": 20, "lr": 0.05, "batch": 16, "generator": torch.Generator().manual_seed(seed)} | options,
    )
    return w.detach(), history


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_it_goes_downhill(optimiser):
    w, history = descended(optimiser=optimiser, lr=0.2)
    assert len(history) == 20
    assert history[-1] < 0.05 * history[0]
    assert w.tolist() == pytest.approx([1, -2, 0.5], abs=0.1)


def test_same_seed_same_weights_bit_for_bit():
    before = torch.get_rng_state()
    (first, losses), (again, losses_again), (other, _) = (descended(seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first, again)
    assert losses == losses_again
    assert not torch.equal(first, other)


def test_the_history_is_the_mean_loss_and_batches_cover_all_rows_in_a_new_order():
    x, y = problem()
    seen = []

    def loss(a, b):
        seen.append(a[:, 0])
        return w.sum() * 0 + len(a)

    w = torch.zeros(1, requires_grad=True)
    history = descend([w], loss, x, y, epochs=2, lr=0.1, batch=16, generator=torch.Generator())
    assert [len(s) for s in seen] == [16, 16, 16, 2] * 2
    assert history == [pytest.approx((3 * 16 * 16 + 4) / 50)] * 2
    epochs = torch.cat(seen[:4]), torch.cat(seen[4:])
    assert not torch.equal(*epochs)
    for epoch in epochs:
        assert torch.equal(epoch.sort().values, x[:, 0].sort().values)


def test_the_rate_falls_along_half_a_cosine():
    w = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    places = []

    def loss(a, b):
        places.append(float(w.detach()))
        return w.sum()  # slope 1: each step shows its rate

    descend(
        [w],
        loss,
        torch.zeros(4),
        torch.zeros(4),
        epochs=2,
        lr=1.0,
        batch=1,
        optimiser="sgd",
        generator=torch.Generator(),
    )
    places.append(float(w.detach()))
    rates = [a - b for a, b in pairwise(places)]
    assert rates == pytest.approx([(1 + math.cos(math.pi * i / 8)) / 2 for i in range(8)])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"optimiser": "lbfgs"}, "optimiser='lbfgs' is unknown; it is one of adam, sgd"),
        ({"epochs": 0}, "epochs=0, batch=16 and lr=0.05 must be positive"),
        ({"batch": 0}, "batch=0"),
        ({"lr": 0.0}, "lr=0.0"),
        ({"lr": -1.0}, "lr=-1.0"),
        ({"lr": math.nan}, "lr=nan"),
    ],
)
def test_refusals(options, said):
    with pytest.raises(ValueError, match=said):
        descended(**options)


def test_refuses_data_that_do_not_go_in_pairs_or_are_not_there():
    w = torch.zeros(1, requires_grad=True)
    options = {"epochs": 1, "lr": 0.1, "generator": torch.Generator()}
    with pytest.raises(ValueError, match="x has 3 rows and y has 2; they must go in pairs"):
        descend([w], lambda a, b: w.sum(), torch.zeros(3), torch.zeros(2), **options)
    with pytest.raises(ValueError, match="x is empty: there is nothing to train on"):
        descend([w], lambda a, b: w.sum(), torch.zeros(0), torch.zeros(0), **options)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_stops_when_the_loss_is_no_number(value):
    w = torch.zeros(1, requires_grad=True)
    with pytest.raises(FloatingPointError, match=r"the loss became .* with lr=0.1: take a smaller step"):
        descend(
            [w],
            lambda a, b: w.sum() * 0 + value,
            torch.zeros(3),
            torch.zeros(3),
            epochs=1,
            lr=0.1,
            generator=torch.Generator(),
        )


def test_metrics():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0], [0.0, 1.0]])
    y = torch.tensor([0, 1, 1, 1])
    assert accuracy(logits, y) == 0.75
    loss, share = loss_and_accuracy(logits, y)(lambda x: x)
    assert share == 0.75
    by_hand = [
        math.log(sum(math.exp(v) for v in row)) - row[k]
        for row, k in zip(logits.tolist(), y.tolist(), strict=True)
    ]
    assert loss == pytest.approx(sum(by_hand) / 4, rel=1e-6)
    assert isinstance(loss, float)
    assert isinstance(share, float)


def order(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def examples(n: int = 22, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(n, 3, generator=order(1), dtype=torch.float64)
    return x.to(dtype), (x[:, :1] * x[:, 1:2]).to(dtype)


def network(dropout: float = 0.0, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    with seeded(0):
        return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Dropout(dropout), nn.Linear(5, 1)).to(dtype)


def squares(model, batch):
    x, y = batch
    return (model(x) - y).square().mean()


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def fitted(model=None, loss=squares, loader=None, optimiser=None, schedule=None, **options):
    """The model and the history of a short run: 6 steps an epoch, 12 in all."""
    model = network() if model is None else model
    loader = loader if loader is not None else read_in_batches(*examples(), batch=4, generator=order())
    optimiser = optimiser or torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = schedule(optimiser) if schedule else None
    return model, fit(model, loss, loader, optimiser, schedule=schedule, **{"epochs": 2} | options)


def cosine(optimiser):
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 12)


def adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.1)


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("make", [adamw, sgd])
@pytest.mark.parametrize("accumulate", [1, 4])
def test_fit_is_the_loop_one_would_write_bit_for_bit(make, dtype, accumulate):
    data = examples(dtype=dtype)
    loader = DataLoader(TensorDataset(*data), 4, shuffle=True, generator=order())
    model = network(0.3, dtype)
    optimiser = make(model)
    schedule = cosine(optimiser)
    losses, rates, norms = [], [], []
    with seeded(5):
        for _ in range(2):
            reading = iter(loader)
            while group := list(islice(reading, accumulate)):
                optimiser.zero_grad()
                values = [squares(model, batch) / len(group) for batch in group]
                for value in values:
                    value.backward()
                norms.append(nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
                rates.append(optimiser.param_groups[0]["lr"])
                optimiser.step()
                schedule.step()
                losses.append(sum(value.detach() for value in values).item())
    again = network(0.3, dtype)
    steps = make(again)
    _, history = fitted(
        again,
        loader=DataLoader(TensorDataset(*data), 4, shuffle=True, generator=order()),
        optimiser=steps,
        schedule=cosine,
        accumulate=accumulate,
        clip=1.0,
        seed=5,
    )
    assert torch.equal(weights(again), weights(model))
    assert (history.loss, history.lr, history.grad_norm) == (losses, rates, norms)
    assert len(losses) == {1: 12, 4: 4}[accumulate]
    assert max(norms) > 1 > min(norms)
    assert history.finished


@pytest.mark.parametrize("make", [adamw, sgd])
@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_batches_are_one_large_batch(make, accumulate):
    found = []
    for batch, together in ((2, accumulate), (2 * accumulate, 1)):  # 11 batches of 2: an epoch ends early
        model = network()
        loader = read_in_batches(*examples(), batch=batch, generator=order())
        history = fitted(model, loader=loader, optimiser=make(model), accumulate=together)[1]
        found.append((weights(model), history))
    (a, many), (b, one) = found
    assert (a - b).abs().max() < 1e-12
    assert many.loss == pytest.approx(one.loss, abs=1e-12)
    assert many.grad_norm == pytest.approx(one.grad_norm, abs=1e-12)


def test_gradients_are_measured_before_they_are_clipped():
    model = network()
    places, norms = [], []

    def loss(model, batch):
        value = squares(model, batch)
        gradients = torch.autograd.grad(value, list(model.parameters()), retain_graph=True)
        norms.append(math.sqrt(sum(float(g.square().sum()) for g in gradients)))
        places.append(weights(model))
        return value

    _, history = fitted(model, loss, clip=0.4)
    assert history.grad_norm == pytest.approx(norms, rel=1e-12)
    moved = [float((b - a).norm()) / 0.1 for a, b in pairwise([*places, weights(model)])]
    assert moved == pytest.approx([min(norm, 0.4) for norm in norms], rel=1e-4)
    assert max(norms) > 0.4 > min(norms)


def test_bfloat16_is_of_the_forward_pass_only_and_another_precision_may_follow():
    def run(precision):
        model, seen = network(dtype=torch.float32), []
        model[0].register_forward_hook(lambda module, args, y: seen.append(y.dtype))
        model.register_forward_hook(lambda module, args, y: seen.append(y.dtype))
        loader = read_in_batches(*examples(dtype=torch.float32), batch=4, generator=order())
        optimiser = sgd(model)
        fitted(model, loader=loader, optimiser=optimiser, precision=precision)
        kept = {p.dtype for p in model.parameters()} | {
            s["momentum_buffer"].dtype for s in optimiser.state.values()
        }
        trained = set(seen)
        seen.clear()
        model(torch.ones(1, 3))
        assert kept == set(seen) == {torch.float32}
        return weights(model), trained

    (full, a), (half, b), (full_again, c) = (run(precision) for precision in ("no", "bf16", "no"))
    assert a == c == {torch.float32}
    assert b == {torch.float32, torch.bfloat16}
    assert torch.equal(full, full_again)
    assert 1e-6 < (full - half).abs().max() < 0.05


def test_each_step_runs_inside_the_context_that_on_step_gives():
    log = []

    @contextmanager
    def around(i):
        log.append(f"enter {i}")
        try:
            yield
        finally:
            log.append(f"exit {i}")

    def loss(model, batch):
        value = squares(model, batch)
        value.register_hook(lambda gradient: log.append("backward"))
        log.append("forward")
        return value

    fitted(loss=loss, accumulate=4, on_step=lambda i, N: around(f"{i} of {N}"))
    once = ["forward", "backward"]
    assert log == [
        line
        for i, batches in enumerate([4, 2, 4, 2], start=1)
        for line in [f"enter {i} of 4", *batches * once, f"exit {i} of 4"]
    ]
    log.clear()
    with pytest.raises(ZeroDivisionError):
        fitted(loss=lambda model, batch: 1 / 0, on_step=lambda i, N: around(i))
    assert log == ["enter 1", "exit 1"]


def test_after_each_epoch_the_model_is_looked_at_in_evaluation_mode():
    model = network(0.5)
    model[2].eval()
    seen = []

    def after(epoch, given):
        assert given is model
        seen.append((epoch, any(m.training for m in model.modules()), torch.is_grad_enabled()))
        return {"epoch": epoch, "loss": squares(model, examples())}  # a tensor will do

    loss = [0]

    def counting(model, batch):
        loss[0] += 1
        assert all(m.training for m in model.modules())
        assert torch.is_grad_enabled()
        return squares(model, batch)

    _, history = fitted(model, counting, after_epoch=after, epochs=3)
    assert seen == [(1, False, False), (2, False, False), (3, False, False)]
    assert [set(map(type, numbers.values())) for numbers in history.epochs] == [{float}] * 3
    assert [numbers["epoch"] for numbers in history.epochs] == [1, 2, 3]
    assert [m.training for m in model.modules()] == [True, True, True, False, True]
    assert loss == [18]
    assert fitted(after_epoch=lambda epoch, model: None)[1].epochs == [{}, {}]


def test_the_history_counts_steps_and_times_them_in_seconds():
    def slowly(batch):
        time.sleep(0.01)
        return tuple(torch.stack(column) for column in zip(*batch, strict=True))

    begun = time.perf_counter()
    _, history = fitted(
        loader=DataLoader(TensorDataset(*examples()), 4, generator=order(), collate_fn=slowly),
        after_epoch=lambda epoch, model: time.sleep(0.2),
        accumulate=2,
    )
    spent = time.perf_counter() - begun
    assert {len(v) for v in (history.loss, history.grad_norm, history.lr, history.seconds)} == {6}
    assert all(seconds >= 0.01 for seconds in history.seconds)  # one batch is read ahead
    assert 0.12 <= sum(history.seconds) <= spent - 0.4
    assert history.lr == [0.1] * 6


def test_dropout_draws_from_the_seed():
    a, b, c = (weights(fitted(network(0.5), seed=seed)[0]) for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.parametrize("fails", [False, True])
def test_global_random_state_is_as_before(fails):
    def states():
        return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002

    def loss(model, batch):
        torch.rand(1), random.random(), np.random.rand()  # noqa: NPY002
        return squares(model, batch) if not fails else 1 / 0

    before = states()
    if fails:
        with pytest.raises(ZeroDivisionError):
            fitted(network(0.5), loss)
    else:
        fitted(network(0.5), loss)
    assert states() == before


class Noted(nn.Module):
    """Has an attribute that only its forward pass gives it, and a forward pass of its own in the instance."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network(0.5, torch.float32)
        self.frozen = nn.BatchNorm1d(1).eval()
        self.forward = self.passing

    def passing(self, x):
        self.last = x
        return self.frozen(self.inner(x))


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("fails_at", [None, 1, 7])
def test_model_and_optimiser_are_left_as_found(precision, fails_at):
    model = Noted()
    optimiser = torch.optim.AdamW(model.inner[3].parameters())
    schedule = cosine(optimiser)
    modes, grads = [m.training for m in model.modules()], torch.is_grad_enabled()
    attributes, methods = set(vars(model)), (model.forward, optimiser.step)
    held = set(vars(optimiser))
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    squares(model, examples(4, torch.float32)).backward()  # gradients that are nobody's

    def on_step(i, N):
        if i == fails_at:
            raise ZeroDivisionError

    def run():
        loader = read_in_batches(*examples(dtype=torch.float32), batch=4, generator=order())
        fit(
            model,
            squares,
            loader,
            optimiser,
            epochs=2,
            schedule=schedule,
            on_step=on_step,
            precision=precision,
        )

    if fails_at:
        with pytest.raises(ZeroDivisionError):
            run()
    else:
        run()
    assert [m.training for m in model.modules()] == modes
    assert torch.is_grad_enabled() == grads
    assert set(vars(model)) == attributes | {"last"}
    assert set(vars(optimiser)) - {"_opt_called"} == held
    assert (model.forward, optimiser.step) == methods
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()] == hooks
    assert all(p.grad is None for p in model.parameters())


def test_gradients_from_before_are_not_of_the_first_step():
    model = network()
    squares(model, examples()).backward()
    fitted(model)
    assert torch.equal(weights(model), weights(fitted()[0]))


def test_gradients_of_what_is_not_trained_do_not_pile_up():
    model = network()

    def on_step(i, N):
        assert all(p.grad is None for p in model.parameters())

    fitted(model, optimiser=torch.optim.SGD(model[3].parameters(), lr=0.1), on_step=on_step)
    assert torch.equal(model[0].weight, network()[0].weight)
    assert not torch.equal(model[3].weight, network()[3].weight)


def nan_loss(model, batch):
    return squares(model, batch) * math.nan


def infinite_gradient(model, batch):
    value = squares(model, batch)
    value.register_hook(lambda gradient: gradient * math.inf)
    return value


@pytest.mark.parametrize(
    ("bad", "what"), [(nan_loss, "loss became nan"), (infinite_gradient, "gradient norm")]
)
def test_a_step_that_is_no_number_is_not_taken(bad, what):
    model, calls, before = network(), [], []

    def loss(model, batch):
        calls.append(0)
        before.append(weights(model))
        return (bad if len(calls) == 8 else squares)(model, batch)

    optimiser = adamw(model)
    with pytest.raises(FloatingPointError, match=rf"the {what}.* in step 8: take a smaller learning rate"):
        fitted(model, loss, optimiser=optimiser)
    assert len(calls) == 8
    assert torch.equal(weights(model), before[-1])
    assert {float(state["step"]) for state in optimiser.state.values()} == {7}


class Endless(IterableDataset):
    def __iter__(self):
        return iter(range(10**6))


class Sized(Endless):
    def __len__(self):
        return 8


class Longer(BatchSampler):
    def __len__(self):
        return super().__len__() + 1


class Shorter(BatchSampler):
    def __len__(self):
        return super().__len__() - 1


DATA = TensorDataset(*examples(8))
MINE = order()


@pytest.mark.parametrize(
    ("loader", "said"),
    [
        (
            lambda: DataLoader(Endless(), 4, generator=MINE),
            "loader has no length: the number of steps must be known beforehand",
        ),
        (lambda: DataLoader(Sized(), 4, generator=MINE), "loader reads an IterableDataset"),
        (lambda: DataLoader(TensorDataset(*examples(0)), 4, generator=MINE), "loader is empty"),
        (lambda: DataLoader(DATA, 9, drop_last=True, generator=MINE), "loader is empty"),
        (lambda: DataLoader(DATA, 4, shuffle=True), "loader needs a generator of its own"),
        (lambda: DataLoader(DATA, 4, sampler=RandomSampler(DATA), generator=MINE), "also its sampler's"),
        (
            lambda: DataLoader(DATA, 4, sampler=RandomSampler(DATA, generator=order()), generator=MINE),
            "also its sampler's",
        ),
        (
            lambda: DataLoader(
                DATA, batch_sampler=BatchSampler(RandomSampler(DATA), 4, False), generator=MINE
            ),
            "also its sampler's",
        ),
        (
            lambda: DataLoader(DATA, None, shuffle=True, generator=MINE),
            "loader has batch_size=None: Accelerate",
        ),
        (
            lambda: DataLoader(DATA, batch_sampler=Longer(SequentialSampler(DATA), 4, False), generator=MINE),
            "loader gave batches for 2 steps by the end of epoch 1; by its length they are 3",
        ),
        (
            lambda: DataLoader(
                DATA, batch_sampler=Shorter(SequentialSampler(DATA), 4, False), generator=MINE
            ),
            "loader gave batches for 2 steps by the end of epoch 1; by its length they are 1",
        ),
    ],
)
def test_loaders_whose_order_is_not_known_are_refused(loader, said):
    with pytest.raises(ValueError, match=said):
        fitted(loader=loader())


def test_loaders_of_every_lawful_kind_are_read_in_their_order():
    mine = order()
    for loader in (
        DataLoader(DATA, 3, generator=mine),
        DataLoader(DATA, 3, shuffle=True, generator=mine),
        DataLoader(DATA, 3, sampler=RandomSampler(DATA, generator=mine), generator=mine),
        DataLoader(
            DATA, batch_sampler=BatchSampler(RandomSampler(DATA, generator=mine), 3, False), generator=mine
        ),
        read_in_batches(*DATA.tensors, batch=3, generator=mine),
    ):
        mine.manual_seed(3)
        expected = [x for _ in range(2) for x, _ in loader]
        mine.manual_seed(3)
        seen = []

        def loss(model, batch, seen=seen):
            seen.append(batch[0])
            return squares(model, batch)

        fitted(loss=loss, loader=loader)
        assert all(map(torch.equal, seen, expected))
        assert [len(x) for x in seen] == [3, 3, 2] * 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epochs": 0}, "epochs=0 must be a whole number, 1 or more"),
        ({"epochs": 1.5}, "epochs=1.5 must be"),
        ({"accumulate": 0}, "accumulate=0 must be"),
        ({"accumulate": True}, "accumulate=True must be"),
        ({"every": 0}, "every=0 must be"),
        ({"clip": 0.0}, "clip=0.0 must be a positive number, or None"),
        ({"clip": math.nan}, "clip=nan must be"),
        ({"precision": "fp8"}, "precision='fp8' is unknown; it is one of no, bf16, fp16"),
        (
            {"precision": "fp16", "cpu": True},
            "precision='fp16' needs a GPU, this is cpu: take 'bf16' or 'no'",
        ),
        ({"seed": -1}, "seed=-1 must be"),
        ({"loss": lambda model, batch: model(batch[0])}, r"loss returned shape \(4, 1\); it must be a mean"),
        ({"loss": lambda model, batch: 0.5}, "loss returned 0.5; it must be a mean, a 0-d tensor"),
        ({"optimiser": sgd(network())}, "optimiser holds tensors that are not the model's, of shape"),
    ],
)
def test_what_cannot_be_trained_is_refused(options, said):
    model = network()
    before = weights(model)
    with pytest.raises(ValueError, match=said):
        fitted(model, **options)
    assert torch.equal(weights(model), before)


def test_optimiser_and_schedule_must_be_of_this_model_and_each_other():
    model = network()
    frozen = network().requires_grad_(False)
    with pytest.raises(ValueError, match="optimiser holds no tensor of the model that requires gradients"):
        fitted(frozen)
    with pytest.raises(ValueError, match="schedule is of another optimiser"):
        fitted(model, schedule=lambda optimiser: cosine(sgd(model)))


def test_other_accelerators_of_the_process_have_no_say_and_are_left_alone(monkeypatch):
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    other = Accelerator(cpu=True)
    with other.accumulate(nn.Linear(1, 1)):
        assert not other.sync_gradients
        model, _ = fitted()
        assert (other.mixed_precision, other.gradient_accumulation_steps) == ("bf16", 4)
        assert not other.sync_gradients
    monkeypatch.undo()
    AcceleratorState._reset_state(reset_partial_state=True)
    assert torch.equal(weights(model), weights(fitted()[0]))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_that_read_change_nothing():
    found = [
        weights(
            fitted(
                loader=DataLoader(
                    TensorDataset(*examples()), 4, shuffle=True, generator=order(), num_workers=workers
                )
            )[0]
        )
        for workers in (0, 2)
    ]
    assert torch.equal(*found)


def test_the_bar_shows_on_request_only(capsys):
    fitted(progress=True, label="two epochs")
    assert "two epochs" in capsys.readouterr().err
    fitted(progress=False)
    fitted()  # no terminal
    assert capsys.readouterr().err == ""


@pytest.fixture
def ctrl_c():
    """What the run may rely on, also where the tests were started deaf to Ctrl-C."""

    def handler(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handler)
    yield handler
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_the_run_after_the_step_and_returns_what_was_reached(ctrl_c):
    def on_step(i, N):
        if i == 4:
            signal.raise_signal(signal.SIGINT)

    _, history = fitted(on_step=on_step)
    assert (len(history.loss), history.finished) == (4, False)
    assert signal.getsignal(signal.SIGINT) is ctrl_c
    _, whole = fitted()
    assert history.loss == whole.loss[:4]
    assert whole.finished
    assert signal.getsignal(signal.SIGINT) is ctrl_c
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_second_ctrl_c_raises_at_once_and_leaves_no_trace(ctrl_c):
    model, steps = network(0.5), []

    def on_step(i, N):
        steps.append(i)
        if i == 4:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    names, before = set(vars(model)), torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        fitted(model, on_step=on_step)
    assert steps == [1, 2, 3, 4]
    assert signal.getsignal(signal.SIGINT) is ctrl_c
    assert set(vars(model)) == names
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN])
def test_a_handler_that_is_none_of_pythons_comes_back_too(ctrl_c, handler):
    signal.signal(signal.SIGINT, handler)

    def on_step(i, N):
        if i == 4 and handler == signal.SIG_IGN:
            signal.raise_signal(signal.SIGINT)

    assert fitted(on_step=on_step)[1].finished  # who ignores Ctrl-C goes on ignoring it
    assert signal.getsignal(signal.SIGINT) == handler


def test_a_thread_may_fit(ctrl_c):
    found = []
    thread = threading.Thread(target=lambda: found.append(fitted()))
    thread.start()
    thread.join()
    ((model, history),) = found
    assert history.finished
    assert torch.equal(weights(model), weights(fitted()[0]))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("processes.py"), "pairs", tmp_path_factory.mktemp("pairs")],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        timeout=120,
        check=True,
    )
    return json.loads(done.stdout)


def test_two_processes_are_one_with_batches_twice_as_large(pairs):
    alone = train(None, dropout=0.0, examples=40, batch=8)
    first, second = pairs["without dropout"]
    assert first["digest"] == second["digest"]
    assert first["weights"] == pytest.approx(alone["weights"], abs=1e-10)
    assert first["loss"] == pytest.approx(alone["loss"], abs=1e-10)
    assert first["grad_norm"] == pytest.approx(alone["grad_norm"], abs=1e-10)
    assert len(first["loss"]) == 9


def test_two_processes_draw_different_dropout_and_have_the_same_weights(pairs):
    first, second = pairs["undisturbed"]
    assert not set(first["drawn"]) & set(second["drawn"])
    assert first["digest"] == second["digest"]
    assert first["finished"]


def test_two_processes_that_are_killed_go_on_bit_for_bit(pairs):
    assert pairs["killed"] == [-signal.SIGKILL] * 2
    first, second = pairs["killed, again"]
    assert len(first["drawn"]) == 6  # of 9 steps; the checkpoint was of step 3
    assert first["digest"] == second["digest"] == pairs["undisturbed"][0]["digest"]


def test_ctrl_c_in_one_of_two_processes_stops_both_at_the_same_step(pairs):
    stopped = pairs["interrupted"]
    assert [(len(rank["loss"]), rank["finished"]) for rank in stopped] == [(4, False)] * 2
    first, second = pairs["interrupted, again"]
    assert len(first["drawn"]) == len(second["drawn"]) == 5
    assert first["digest"] == second["digest"] == pairs["undisturbed"][0]["digest"]


def test_two_processes_cannot_share_one_batch(pairs):
    said = "loader has no batch for each process: there is nothing to train on"
    assert pairs["one batch"] == [said] * 2


def test_tensors_are_read_in_batches_that_cover_them_in_a_new_order():
    x, y = torch.arange(10), torch.arange(10) * 2
    loader = read_in_batches(x, y, batch=4, generator=order())
    epochs = [list(loader) for _ in range(2)]
    for batches in epochs:
        assert [len(a) for a, _ in batches] == [4, 4, 2]
        assert all(torch.equal(2 * a, b) for a, b in batches)
        assert torch.equal(torch.cat([a for a, _ in batches]).sort().values, x)
    assert not torch.equal(epochs[0][0][0], epochs[1][0][0])
    assert torch.equal(next(iter(read_in_batches(x, batch=4, generator=order())))[0], epochs[0][0][0])


@pytest.mark.parametrize(
    ("tensors", "batch", "said"),
    [
        ((), 4, r"tensors of lengths \[\] must be equally long, and not empty"),
        ((torch.zeros(0),), 4, r"lengths \[0\]"),
        ((torch.zeros(3), torch.zeros(2)), 4, r"lengths \[3, 2\]"),
        ((torch.zeros(3),), 0, "batch=0 must be a positive number of examples"),
    ],
)
def test_tensors_that_make_no_batches_are_refused(tensors, batch, said):
    with pytest.raises(ValueError, match=said):
        read_in_batches(*tensors, batch=batch, generator=order())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_on_a_gpu_a_stopped_run_goes_on_bit_for_bit(precision, tmp_path, ctrl_c):
    def run(folder, stop=None):
        model = network(0.5, torch.float32)
        names, optimiser = set(vars(model)), torch.optim.AdamW(model.parameters())
        state = torch.cuda.get_rng_state()

        def on_step(i, N):
            if i == stop:
                signal.raise_signal(signal.SIGINT)

        loader = read_in_batches(*examples(dtype=torch.float32), batch=4, generator=order())
        history = fitted(
            model,
            loader=loader,
            optimiser=optimiser,
            on_step=on_step,
            precision=precision,
            checkpoints=folder,
        )[1]
        assert {p.device.type for p in model.parameters()} == {"cuda"}
        assert set(vars(model)) == names
        assert "step" not in vars(optimiser)
        assert torch.equal(torch.cuda.get_rng_state(), state)
        return weights(model), history

    whole, _ = run(None)
    _, stopped = run(tmp_path, 4)
    assert len(stopped.loss) == 4
    again, history = run(tmp_path)
    assert torch.equal(again, whole)
    assert history.finished

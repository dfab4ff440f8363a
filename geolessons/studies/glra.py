"""Does walking the arc help LoRA?

Chapter 1.  One seed takes 2 min on digits; on MNIST and Fashion-MNIST (which need GEOLESSONS_DATA) 5 min.

The protocol of GLRA's section 6 with its gaps filled: a pre-trained perceptron learns a shifted task in ten
stages by LoRA of rank 8 and alpha 16 on its first two matrices; its biases and last matrix are frozen.

- digits: 64-128-128-10, from upright digits to tilted ones; 40 epochs, batches of 64
- mnist: 784-128-64-10, from MNIST to 20,000 of its images turned by 45°; 10 epochs, batches of 128
- fashion: the same network, from MNIST to 20,000 of Fashion-MNIST, its last layer trained first

Arms: LoRA; LoRA with its scale ramped along t, the control; GLRA; full fine-tuning; BitFit (biases alone).
AdamW and SGD, each at two learning rates, one on either side of an angle ω of about 0.5.  A rate is
constant, and the same for all arms.

Measured for each arm, by stage: loss, accuracy, gradient norm, distance, largest ω.  Beside GLRA's
results stand its gap to the ramped arm and the chaos floor: how far the ramped arm itself moves if the
pre-trained weights change by one part in a million.
"""

from __future__ import annotations

import copy
import statistics
import time
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from geolessons.adapters import LoRA
from geolessons.attaching import attach, effective_weights
from geolessons.data import digits, mnist
from geolessons.data.digits import Split
from geolessons.geodesics import GeodesicLoRA, RampedLoRA, set_t
from geolessons.metrics import loss_and_accuracy
from geolessons.running_example import SIZES, pretrain
from geolessons.saved import Saved
from geolessons.schedules import stages
from geolessons.sphere import angle
from geolessons.studies.record import Found, main
from geolessons.training import descend, fit, read_in_batches
from geolessons.trees import Params, axpy, norm, params_of

__all__ = ["ARMS", "LAYERS", "RATES", "arm", "costs", "distance", "one_seed", "task", "train"]

Data = Literal["digits", "mnist", "fashion"]
Arm = Literal["lora", "ramped", "glra", "full", "bitfit"]

ARMS: tuple[Arm, ...] = ("lora", "ramped", "glra", "full", "bitfit")
LAYERS = ["fc1", "fc2"]
TASK: Literal["tilted"] = "tilted"
STAGES = 10
EPOCHS = {"digits": 40, "mnist": 10, "fashion": 10}
BATCH = {"digits": 64, "mnist": 128, "fashion": 128}
RATES = {
    "digits": {"adamw": (2e-4, 2e-3), "sgd": (0.005, 0.1)},
    "mnist": {"adamw": (3e-5, 1e-3), "sgd": (3e-3, 0.05)},
    "fashion": {"adamw": (3e-5, 1e-3), "sgd": (3e-3, 0.05)},
}
KINDS = {"lora": LoRA, "ramped": RampedLoRA, "glra": GeodesicLoRA}


class Run(NamedTuple):
    """One training: where it ended and what was measured in each stage."""

    W: Params  # all parameters, adapters applied, t = 1
    walked: list[Params]  # the adapted matrices at the end of each stage, at the current t
    by_stage: dict[str, list[float]]


def task(data: Data, seed: int) -> tuple[nn.Module, Split]:
    """The pre-trained network of a seed, and what it is to learn."""
    if data == "digits":
        return pretrain(digits("upright"), seed), digits(TASK)
    sizes, start = (784, 128, 64, 10), mnist()
    model = pretrain(start, seed, epochs=2, lr=1e-3, batch=128, sizes=sizes)
    new = mnist(turn=45) if data == "mnist" else mnist("FashionMNIST")
    new = new._replace(x_train=new.x_train[:20_000], y_train=new.y_train[:20_000])
    if data == "mnist":
        return model, new
    generator = torch.Generator().manual_seed(seed)
    head = [p.requires_grad_() for name, p in model.named_parameters() if name.startswith("fc3.")]

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(model(x), y)

    options: dict[str, Any] = {"epochs": 1, "lr": 1e-3, "batch": 128, "label": "head"}
    descend(head, loss, new.x_train, new.y_train, generator=generator, **options)
    return model.requires_grad_(False), new


def arm(model: nn.Module, kind: Arm, seed: int) -> tuple[nn.Module, list[nn.Parameter]]:
    """A copy of the model made ready for an arm, and what trains in it."""
    model = copy.deepcopy(model)
    if kind in KINDS:
        generator = torch.Generator().manual_seed(seed)
        road: dict[str, Any] = {} if kind == "lora" else {"t": 0.0}

        def make(name: str, W: Tensor) -> LoRA:
            return KINDS[kind](W.shape, 8, 16, generator=generator, dtype=W.dtype, **road)

        attach(model, LAYERS, make)
    for name, p in model.named_parameters():
        if kind == "full" or (kind == "bitfit" and name.endswith("bias")):
            p.requires_grad_()
    return model, [p for p in model.parameters() if p.requires_grad]


def train(
    model: nn.Module,
    split: Split,
    kind: Arm,
    optimiser: str,
    lr: float,
    seed: int,
    *,
    epochs: int,
    batch: int,
) -> Run:
    """Train a copy of the model by one arm."""
    W0 = params_of(model)
    model, trained = arm(model, kind, seed)
    walks = kind in ("ramped", "glra")
    test = loss_and_accuracy(split.x_test, split.y_test)
    by_stage: dict[str, list[float]] = {}
    walked: list[Params] = []

    def on_step(i: int, N: int) -> None:
        if walks:
            set_t(model, stages(i, N, count=STAGES))

    def after_epoch(epoch: int, model: nn.Module) -> dict[str, float]:
        if epoch % (epochs // STAGES):
            return {}
        loss, read = test(model)
        W = effective_weights(model)
        matrices = [f"{layer}.weight" for layer in LAYERS]
        walked.append({name: W[name] for name in matrices})
        found = {"test loss": loss, "test accuracy": read, "distance": distance(W0, W)}
        if walks:
            set_t(model, 1.0)  # the next step moves it back
            loss, read = test(model)
            W = effective_weights(model)
        found |= {"test loss at 1": loss, "test accuracy at 1": read}
        found["omega"] = max(float(angle(W0[name], W[name])) for name in matrices)
        for name, value in found.items():
            by_stage.setdefault(name, []).append(value)
        return found

    def loss(model: nn.Module, xy: tuple[Tensor, Tensor]) -> Tensor:
        return cross_entropy(model(xy[0]), xy[1])

    kinds = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    loader = read_in_batches(
        split.x_train, split.y_train, batch=batch, generator=torch.Generator().manual_seed(seed)
    )
    history = fit(
        model,
        loss,
        loader,
        kinds[optimiser](trained, lr=lr),
        epochs=epochs,
        on_step=on_step,
        after_epoch=after_epoch,
        cpu=True,
        progress=False,
    )
    each = len(history.loss) // STAGES
    for name, values in (("train loss", history.loss), ("gradient norm", history.grad_norm)):
        by_stage[name] = [statistics.fmean(values[j * each : (j + 1) * each]) for j in range(STAGES)]
    spread = statistics.pstdev(history.grad_norm) / statistics.fmean(history.grad_norm)
    by_stage["gradient steadiness"] = [spread]
    return Run(effective_weights(model), walked, by_stage)


def distance(W0: Params, W: Params) -> float:
    """GLRA's parameter distance: the lengths of the moves of all matrices and biases, added."""
    return float(sum((W[name] - W0[name]).norm() for name in W0))


def gap(W0: Params, a: Params, b: Params) -> float:
    """How far two runs ended apart, as a share of how far the first went."""
    return float(norm(axpy(-1, a, b)) / norm(axpy(-1, W0, a)))


def sharpness(model: nn.Module, W: Params, split: Split, *, sigma: float = 0.3, draws: int = 30) -> float:
    """How much the training loss rises on average under noise of σ times the root mean square of each row.

    The noise is on the adapted matrices, and is the same for all arms but for its size.
    """
    x, y = split.x_train[:5000], split.y_train[:5000]
    generator = torch.Generator().manual_seed(0)

    def loss(point: Params) -> float:
        with torch.no_grad():
            return float(cross_entropy(torch.func.functional_call(model, point, (x,)), y))

    risen = []
    for _ in range(draws):
        noisy = dict(W)
        for name in (f"{layer}.weight" for layer in LAYERS):
            noise = torch.randn(W[name].shape, generator=generator, dtype=W[name].dtype)
            noisy[name] = W[name] + sigma * W[name].square().mean(1, keepdim=True).sqrt() * noise
        risen.append(loss(noisy))
    return statistics.fmean(risen) - loss(W)


def one_seed(seed: int, data: Data = "digits") -> Found:
    """All values of one seed, by name: `adamw.0.001.glra.test accuracy` at the end, `… by stage` on the way.

    Differences are paired: the same seed, that is the same pre-trained network, A and order of the data.
    """
    model, split = task(data, seed)
    W0 = params_of(model)
    found: Found = {}
    nudged = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    for p in nudged.parameters():
        noise = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        p.data = p.data * (1 + 1e-6 * noise)
    sizes: dict[str, Any] = {"epochs": EPOCHS[data], "batch": BATCH[data]}
    for optimiser, rates in RATES[data].items():
        for lr in rates:
            at = f"{optimiser}.{lr:g}"
            runs = {kind: train(model, split, kind, optimiser, lr, seed, **sizes) for kind in ARMS}
            found |= _measures(at, model, split, runs)
            again = train(nudged, split, "ramped", optimiser, lr, seed, **sizes)
            W = {kind: run.W for kind, run in runs.items()}
            found[f"{at}.gap to ramped"] = gap(W0, W["glra"], W["ramped"])
            found[f"{at}.gap to lora"] = gap(W0, W["glra"], W["lora"])
            found[f"{at}.ramped to lora"] = gap(W0, W["ramped"], W["lora"])
            found[f"{at}.chaos floor"] = gap(W0, W["ramped"], again.W)
    return found


def _measures(at: str, model: nn.Module, split: Split, runs: dict[Arm, Run]) -> Found:
    """What one optimiser at one rate gave: each arm, then GLRA's differences from its controls."""
    found: Found = {}
    goal = runs["lora"].by_stage["train loss"][-1]
    for kind, run in runs.items():
        s = run.by_stage
        reached = [j for j, value in enumerate(s["train loss"], start=1) if value <= goal]
        ends = {
            "mean train loss": statistics.fmean(s["train loss"]),
            "train loss": s["train loss"][-1],
            "test loss": s["test loss"][-1],
            "test accuracy": s["test accuracy"][-1],
            "gradient steadiness": s["gradient steadiness"][0],
            "distance": s["distance"][-1],
            "omega": s["omega"][-1],
            "largest omega": max(s["omega"]),
            "sharpness": sharpness(model, run.W, split),
            "stages to LoRA's loss": reached[0] if reached else STAGES + 1,
            "reached LoRA's loss": float(bool(reached)),
        }
        found |= {f"{at}.{kind}.{name}": float(value) for name, value in ends.items()}
        found |= {f"{at}.{kind}.{name} by stage": v for name, v in s.items() if len(v) == STAGES}
    names = (
        "mean train loss",
        "train loss",
        "test loss",
        "test accuracy",
        "gradient steadiness",
        "distance",
        "sharpness",
    )
    for control in ("lora", "ramped"):
        for name in names:
            one, other = found[f"{at}.glra.{name}"], found[f"{at}.{control}.{name}"]
            found[f"{at}.glra-{control}.{name}"] = one - other  # type: ignore[operator]
    return found


def costs(data: Data = "digits", *, steps: int = 60) -> dict[str, dict[str, float]]:
    """What a training step of each arm takes: time (interleaved, median), memory and trained numbers.

    The time is that of forward pass, backward pass and AdamW; the memory is what the forward pass keeps for
    the backward pass, and what AdamW keeps.
    """
    split = digits(TASK) if data == "digits" else mnist(turn=45)
    sizes = SIZES if data == "digits" else (784, 128, 64, 10)
    from geolessons.models import mlp

    base = mlp(sizes, torch.Generator().manual_seed(0), dtype=split.x_train.dtype).requires_grad_(False)
    x, y = split.x_train[: BATCH[data]], split.y_train[: BATCH[data]]
    found: dict[str, dict[str, float]] = {}
    times: dict[str, list[float]] = {kind: [] for kind in ARMS}
    ready = {kind: arm(base, kind, 0) for kind in ARMS}
    optimisers = {kind: torch.optim.AdamW(trained, lr=1e-4) for kind, (_, trained) in ready.items()}
    for kind, (model, trained) in ready.items():
        with Saved((*model.parameters(), x)) as saved:
            cross_entropy(model(x), y)
        numbers = sum(p.numel() for p in trained)
        found[kind] = {
            "trained": numbers,
            "kept bytes": saved.bytes,
            "optimiser bytes": 2 * numbers * x.element_size(),
        }
    for _ in range(steps):
        for kind, (model, _) in ready.items():
            start = time.perf_counter()
            if kind in ("ramped", "glra"):
                set_t(model, 0.5)
            cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
            optimisers[kind].step()
            optimisers[kind].zero_grad()
            times[kind].append(time.perf_counter() - start)
    for kind in ARMS:
        found[kind]["step ms"] = 1e3 * statistics.median(times[kind][5:])
    return found


if __name__ == "__main__":
    main("glra", __doc__, one_seed, choices={"data": ("digits", "mnist", "fashion")}, beside={"costs": costs})

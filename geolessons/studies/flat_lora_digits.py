"""What does training under noise buy?

Chapter 3.  Expected: a seed takes 2 min on digits, 3 min on MNIST and on Fashion-MNIST (which need
GEOLESSONS_DATA): with five seeds 0.7 hours of one core.

A pre-trained perceptron learns a shifted task by adapters on its first two matrices; all else is frozen.

- digits: 64-128-128-10, from upright digits to tilted ones; 40 epochs, batches of 64, rate 2e-3
- mnist: 784-128-64-10, from MNIST to 20,000 of its images turned by 45°; 5 epochs, batches of 128, rate 1e-3
- fashion: the same network, from MNIST to 20,000 of Fashion-MNIST, its last layer trained first

Adam; the rate was fixed beforehand: it is the larger of the GLRA study's, and falls to zero along half a
cosine, as in the Flat-LoRA paper.  Full fine-tuning takes a fifth of it, the paper's ratio on T5.

Arms (`flat_arms`): at rank 8 LoRA, Flat-LoRA at four σ (the paper's 0.05 and 0.15; 0.5 and 1), SAM on the
weights and on the factors, full fine-tuning.  Then ranks 1, 4, 16 and 64, and PiSSA, DoRA and LoRA-GA, each
without noise and at σ = 0.15.  For the time they take, MNIST and Fashion-MNIST have half the epochs of the
GLRA study.

Measured at the end: test loss and accuracy; on training images (5,000 at most) the loss, the sharpness
S(0.3) of 30 draws, the same for all arms, and the top eigenvalue of the Hessian of the two matrices (2,000
images at most).  Arms of a seed share the pre-trained network, A and the order of the data, so differences
are paired.
"""

from __future__ import annotations

import statistics
import time
import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from geolessons.curvature import eigenvalues
from geolessons.data.digits import Split
from geolessons.estimates import loss_of, sharpness
from geolessons.metrics import accuracy
from geolessons.models import mlp
from geolessons.running_example import SIZES
from geolessons.studies.flat_arms import matrices, ready
from geolessons.studies.glra import Data, task
from geolessons.studies.record import Found, main
from geolessons.training import descend
from geolessons.trees import Params

__all__ = ["ARMS", "PAIRS", "SIGMAS", "costs", "measured", "one_seed", "train"]

SIGMAS = (0.05, 0.15, 0.5, 1.0)
MAIN = ("r8.0", *(f"r8.{sigma:g}" for sigma in SIGMAS), "sam full", "sam factors", "full")
SWEEP = tuple(f"{kind}.{sigma}" for kind in ("r1", "r4", "r16", "r64") for sigma in ("0", "0.15"))
OTHERS = tuple(f"{kind}.{sigma}" for kind in ("pissa", "dora", "ga") for sigma in ("0", "0.15"))
ARMS = MAIN + SWEEP + OTHERS
EPOCHS = {"digits": 40, "mnist": 5, "fashion": 5}
BATCH = {"digits": 64, "mnist": 128, "fashion": 128}
RATES = {"digits": 2e-3, "mnist": 1e-3, "fashion": 1e-3}


def control(name: str) -> str | None:
    """The arm that an arm is compared with: its own without noise, and LoRA of rank 8 for the others."""
    kind, _, sigma = name.partition(".")
    if sigma == "0":
        return None
    return f"{kind}.0" if sigma else "r8.0"


PAIRS = {name: other for name in ARMS if (other := control(name))}


def train(model: nn.Module, split: Split, name: str, seed: int, data: Data) -> Params:
    """The two matrices that an arm ends at; the model is not touched."""
    found, trained, loss = ready(model, split, name, seed)
    batch, epochs = BATCH[data], EPOCHS[data]
    N = epochs * -(-len(split.x_train) // batch)
    done = 0

    def next_loss(x: Tensor, y: Tensor) -> Tensor:
        nonlocal done
        value = loss(x, y, done, N)
        done += 1
        return value

    options: dict[str, Any] = {"epochs": epochs, "batch": batch, "label": name}
    options["lr"] = RATES[data] * (0.2 if name == "full" else 1)
    generator = torch.Generator().manual_seed(seed)
    descend(trained, next_loss, split.x_train, split.y_train, generator=generator, **options)
    return matrices(found)


def measured(model: nn.Module, split: Split, W: Params) -> dict[str, float]:
    """What is read off a place: the model with its two matrices replaced by W."""
    with torch.no_grad():
        logits = functional_call(model, W, (split.x_test,))
    found = {
        "test loss": float(cross_entropy(logits, split.y_test)),
        "test accuracy": accuracy(logits, split.y_test),
    }
    loss = _training_loss(model, split, 5000)
    rise = sharpness(loss, W, 0.3, count=30, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found["train loss"] = float(loss(W))
    found["sharpness"] = rise.value
    loss = _training_loss(model, split, 2000)
    top = eigenvalues(loss, W, generator=torch.Generator().manual_seed(0), tolerance=1e-2)[0]
    return found | {"top eigenvalue": top.value}


def _training_loss(model: nn.Module, split: Split, images: int) -> Any:
    x, y = split.x_train[:images], split.y_train[:images]
    return loss_of(model, lambda run: cross_entropy(run(x), y))


def one_seed(seed: int, data: Data = "digits") -> Found:
    """All values of one seed, by name: `r8.0.15.test loss`, and `r8.0.15.minus r8.0.test loss`."""
    model, split = task(data, seed)
    by_arm = {name: measured(model, split, train(model, split, name, seed, data)) for name in ARMS}
    found: Found = {f"{name}.{key}": v for name, values in by_arm.items() for key, v in values.items()}
    for name, other in PAIRS.items():
        for key, value in by_arm[name].items():
            found[f"{name}.minus {other}.{key}"] = value - by_arm[other][key]
    return found


class _Kept:
    """A tensor that waits for the backward pass; gone when its graph is."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def costs(data: Data = "digits", *, steps: int = 30) -> dict[str, dict[str, float]]:
    """What a training step of each arm takes: time (interleaved, median), memory and trained numbers.

    The time is the processor's, for forward pass, backward pass and Adam; the memory is the most that is kept
    for a backward pass at once, besides parameters and inputs, each tensor counted once.
    """
    sizes, n = (SIZES, BATCH[data]) if data == "digits" else ((784, 128, 64, 10), BATCH[data])
    g, dtype = torch.Generator().manual_seed(0), torch.float64 if data == "digits" else torch.float32
    base = mlp(sizes, g, dtype=dtype).requires_grad_(False)
    x = torch.randn(max(n, 256), sizes[0], generator=g, dtype=dtype)
    y = torch.randint(0, 10, (len(x),), generator=g)
    split, x, y = Split(x, y, x, y), x[:n].clone(), y[:n].clone()
    arms = {name: ready(base, split, name, 0) for name in ARMS}
    optimisers = {name: torch.optim.Adam(made.trained, lr=1e-4) for name, made in arms.items()}
    times: dict[str, list[float]] = {name: [] for name in arms}
    found: dict[str, dict[str, float]] = {}
    for name, (model, trained, loss) in arms.items():
        own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), x, y)}
        kept: weakref.WeakSet[_Kept] = weakref.WeakSet()
        most = [0]

        def keep(
            tensor: Tensor,
            own: set[int] = own,
            kept: weakref.WeakSet[_Kept] = kept,
            most: list[int] = most,
        ) -> _Kept:
            kept.add(held := _Kept(tensor))
            alive = {s.data_ptr(): s.nbytes() for s in (h.tensor.untyped_storage() for h in kept)}
            most[0] = max(most[0], sum(size for where, size in alive.items() if where not in own))
            return held

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda held: held.tensor):
            loss(x, y, 1, 2).detach()
        found[name] = {"trained": sum(p.numel() for p in trained), "kept bytes": most[0]}
    for _ in range(steps):
        for name, (_, _, loss) in arms.items():
            start = time.process_time()
            loss(x, y, 1, 2).backward()  # type: ignore[no-untyped-call]
            optimisers[name].step()
            optimisers[name].zero_grad()
            times[name].append(time.process_time() - start)
    for name in arms:
        found[name]["step ms"] = 1e3 * statistics.median(times[name][steps // 10 :])
    return found


if __name__ == "__main__":
    main(
        "flat_lora_digits",
        __doc__,
        one_seed,
        choices={"data": ("digits", "mnist", "fashion")},
        beside={"costs": costs},
    )

"""What does a push gain that looks at the weight it moves?

Chapter 2; about 15 s a seed.

DELoRA's field moves the three matrices of our network to tilted digits, in the paper's form and in two of
ours, LoRA beside them.  Trained with one Euler step, each is then followed in up to 32; one more
is trained with four.  Beside them: the field before any training, and Eq. 3 of the paper taken literally.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from geolessons.adapters import LoRA
from geolessons.data import Split, digits
from geolessons.fields import ConstantField, Field, Flow, SoftmaxField
from geolessons.metrics import loss_and_accuracy
from geolessons.running_example import adapt, pretrain
from geolessons.sphere import angle
from geolessons.studies.record import main
from geolessons.training import descend
from geolessons.trees import Params, axpy, flatten, params_of

__all__ = ["ARMS", "STEPS", "constant", "one_seed", "pile", "softmax_fields", "steer"]

STEPS = (1, 2, 4, 8, 16, 32)
EPOCHS = 20
RATE, LORAS_RATE = 3e-2, 3e-3
SEEN = 1e-6  # a singular value counts if it is this share of the largest: no rounding decides
ARMS: dict[str, dict[str, Any]] = {
    "literal": {},
    "centred": {"reference": "uniform"},
    "normalised": {"reference": "uniform", "normalise": True},
    "four": {"steps": 4},
}
PILED = {"rows": (1, 5, 10, 50), "all": (1, 5, 10, 50, 100, 500, 2000)}


def softmax_fields(W0: Params, seed: int, *, rank: int = 8, **options: Any) -> dict[str, SoftmaxField]:
    """DELoRA's field on each matrix of W0, untrained; W2 starts at zero where the uniform field is taken out.

    Args:
        W0: The frozen point.
        seed: Draws W1 and W2.
        rank: Of each, or the smaller side of its matrix.
        **options: Of `SoftmaxField`.
    """
    generator = torch.Generator().manual_seed(seed)
    options = {"zero_init": options.get("reference") == "uniform"} | options
    return {
        name: SoftmaxField(tuple(W.shape), min(rank, *W.shape), generator=generator, dtype=W.dtype, **options)
        for name, W in W0.items()
        if W.dim() == 2
    }


def steer(
    model: nn.Module,
    data: Split,
    seed: int,
    *,
    steps: int = 1,
    epochs: int = EPOCHS,
    lr: float = RATE,
    **options: Any,
) -> dict[str, SoftmaxField]:
    """The fields that training on a new task finds; the model is not touched.

    The network that answers is W0 carried along the fields for a time of 1, and only the fields train.

    Args:
        model: E.g. from `running_example.pretrain`.
        data: The new task, e.g. `digits("tilted")`.
        seed: Draws the fields and the batches.
        steps: Euler steps of each forward pass, back-propagated through; the paper's reading is one.
        epochs: Passes over the training digits.
        lr: Adam's learning rate.
        **options: Of `softmax_fields`.

    Returns:
        The field of each matrix, trained.
    """
    W0 = params_of(model)
    fields = softmax_fields(W0, seed, **options)
    road = Flow(W0, dict(fields), steps=steps)

    def loss(xb: Tensor, yb: Tensor) -> Tensor:
        return cross_entropy(functional_call(model, road.at(1.0), (xb,)), yb)

    trainable = [p for field in fields.values() for p in field.parameters()]
    order = torch.Generator().manual_seed(seed)
    descend(
        trainable, loss, data.x_train, data.y_train, epochs=epochs, lr=lr, generator=order, label="fields"
    )
    for p in trainable:
        p.requires_grad_(False)
    return fields


def constant(W0: Params, W1: Params) -> dict[str, ConstantField]:
    """The constant field of each matrix that leads from W0 to W1 in a time of 1: LoRA's."""
    moves = {name: move for name, move in axpy(-1, W0, W1).items() if move.dim() == 2}
    return {name: ConstantField(move).requires_grad_(False) for name, move in moves.items()}


def pile(
    model: nn.Module,
    fields: dict[str, SoftmaxField],
    data: Split,
    seed: int,
    *,
    stops: tuple[int, ...],
    lr: float = 0.0,
) -> dict[int, Params]:
    """Eq. 3 of DELoRA as printed: each step adds the whole push, and takes a gradient step on the weights.

    The field's own parameters stay as they are; Eq. 4 would train them.

    Args:
        model: Where to start.
        fields: Of the matrices that are pushed.
        data: What the gradient is taken on, 64 training digits a step.
        seed: Draws them.
        stops: Numbers of steps.
        lr: Rate of the gradient step; none at 0.

    Returns:
        The weights after each number of steps in `stops`.
    """
    generator = torch.Generator().manual_seed(seed)
    W, found = params_of(model), {}
    for i in range(1, max(stops) + 1):
        down = _step(model, W, data, lr, generator) if lr else {}
        with torch.no_grad():
            pushed = {name: W[name] + field(W[name]) for name, field in fields.items()}
            W = {name: pushed.get(name, w) + down.get(name, 0.0) for name, w in W.items()}
        if i in stops:
            found[i] = W
    return found


def one_seed(seed: int) -> dict[str, float]:
    """All values of one seed, by name."""
    upright, tilted = digits("upright"), digits("tilted")
    model = pretrain(upright, seed)
    W0 = params_of(model)
    read = _Reader(model, {"upright": upright, "tilted": tilted})
    found = {f"before.{name}.read": read(W0, name)[1] for name in read.metrics}
    found |= _start(model, W0, read, tilted, seed)
    found["start.change.read"] = found["start.upright.read"] - found["before.upright.read"]

    arms: dict[str, dict[str, Field]] = {"lora": {**constant(W0, adapt(model, tilted, seed, epochs=EPOCHS))}}
    for name, options in ARMS.items():
        fields = steer(model, tilted, seed, **options)
        for key, field in fields.items():
            found[f"{name}.{_layer(key)}.spread"] = float(field.logits(W0[key]).std())
        arms[name] = {**fields}
    for name, fields_ in arms.items():
        ends = {K: Flow(W0, fields_, steps=K).at(1.0) for K in STEPS}
        for K, W in ends.items():
            found[f"{name}.{K}.loss"], found[f"{name}.{K}.read"] = read(W, "tilted")
        for what in ("loss", "read"):  # paired: the same field
            found[f"{name}.change.{what}"] = found[f"{name}.32.{what}"] - found[f"{name}.1.{what}"]
        found[f"{name}.after four.read"] = found[f"{name}.32.read"] - found[f"{name}.4.read"]
        found[f"{name}.angle"] = float(angle(flatten(W0), flatten(ends[1])))
        found[f"{name}.bend"] = float(angle(flatten(ends[1]), flatten(ends[32])))
        for key in fields_:
            move = ends[1][key] - W0[key]
            found[f"{name}.{_layer(key)}.rank"] = float(torch.linalg.matrix_rank(move, rtol=SEEN))
    slow = Flow(W0, {**steer(model, tilted, seed, lr=LORAS_RATE)})
    found["slow.read"] = read(slow.at(1.0), "tilted")[1]
    return found | _piled(model, W0, read, tilted, seed)


def _start(model: nn.Module, W0: Params, read: _Reader, data: Split, seed: int) -> dict[str, float]:
    """The field as it is drawn: how far from uniform, what it does to answers, how faint its gradient is."""
    fields = softmax_fields(W0, seed)
    with torch.no_grad():
        W = Flow(W0, {**fields}).at(1.0)
        found = {f"start.{name}.read": read(W, name)[1] for name in read.metrics}
        found["start.angle"] = float(angle(flatten(W0), flatten(W)))
        for key, field in fields.items():
            layer, (d, k) = _layer(key), field.shape
            push = field(W0[key])
            found[f"start.{layer}.spread"] = float(field.logits(W0[key]).std())
            found[f"start.{layer}.away"] = float((push - 1 / k).norm() / (d / k) ** 0.5)
            found[f"start.{layer}.share"] = float(push.norm() / W0[key].norm())

    generator = torch.Generator().manual_seed(seed)
    loras = {
        key: LoRA(field.shape, field.W1.shape[1], generator=generator, dtype=W0[key].dtype)
        for key, field in fields.items()
    }
    normalised = softmax_fields(W0, seed, reference="uniform", normalise=True)
    felt = {}
    for name, moved, watched in (
        ("lora", {key: a.weight(W0[key]) for key, a in loras.items()}, [a.B for a in loras.values()]),
        (
            "literal",
            {key: W0[key] + v(W0[key]) for key, v in fields.items()},
            [v.W1 for v in fields.values()],
        ),
        (
            "normalised",
            {key: W0[key] + v(W0[key]) for key, v in normalised.items()},
            [v.W2 for v in normalised.values()],
        ),
    ):
        loss = cross_entropy(functional_call(model, W0 | moved, (data.x_train,)), data.y_train)
        felt[name] = [float(slope.norm()) for slope in torch.autograd.grad(loss, watched)]
    for name in ("literal", "normalised"):  # all of them alone feel the loss at first: the other factor is 0
        for key, of_lora, of_field in zip(fields, felt["lora"], felt[name], strict=True):
            found[f"gradient.{name}.{_layer(key)}"] = of_lora / of_field
    return found


def _piled(model: nn.Module, W0: Params, read: _Reader, data: Split, seed: int) -> dict[str, float]:
    """What is read after so many steps of Eq. 3: the push alone, and with the gradient."""
    found = {}
    for name, axis in (("rows", "in"), ("all", "all")):
        fields = softmax_fields(W0, seed, axis=axis)
        for i, W in pile(model, fields, data, seed, stops=PILED[name]).items():
            found[f"piled.{name}.{i}.read"] = read(W, "upright")[1]
        for lr in (0.01, 0.1):
            stops = (10, 50, 500) if name == "all" else (10, 50)
            for i, W in pile(model, fields, data, seed, stops=stops, lr=lr).items():
                found[f"piled.{name}.{lr:g}.{i}.read"] = read(W, "tilted")[1]
    for layer in ("fc1", "fc2", "fc3"):
        alone = {key: field for key, field in softmax_fields(W0, seed).items() if _layer(key) == layer}
        W = pile(model, alone, data, seed, stops=(10,))[10]
        found[f"piled.{layer}.10.read"] = read(W, "upright")[1]
    return found


def _step(model: nn.Module, W: Params, data: Split, lr: float, generator: torch.Generator) -> Params:
    """One gradient step downhill from W, on 64 training digits."""
    chosen = torch.randperm(len(data.x_train), generator=generator)[:64]
    leaves = {name: w.detach().requires_grad_() for name, w in W.items()}
    loss = cross_entropy(functional_call(model, leaves, (data.x_train[chosen],)), data.y_train[chosen])
    slopes = torch.autograd.grad(loss, list(leaves.values()))
    return {name: -lr * slope for name, slope in zip(leaves, slopes, strict=True)}


class _Reader:
    """Loss and accuracy of a point on test digits."""

    def __init__(self, model: nn.Module, splits: dict[str, Split]) -> None:
        self.model = model
        self.metrics = {name: loss_and_accuracy(data.x_test, data.y_test) for name, data in splits.items()}

    @torch.no_grad()
    def __call__(self, W: Params, name: str) -> tuple[float, float]:
        return self.metrics[name](lambda x: functional_call(self.model, W, (x,)))


def _layer(key: str) -> str:
    return key.removesuffix(".weight")


if __name__ == "__main__":
    main("pushes", __doc__, one_seed)

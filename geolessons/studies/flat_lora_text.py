"""What does training under noise buy on sentences?

Chapter 3; needs GEOLESSONS_DATA.  Expected: a seed takes 4 min, so five take 0.3 hours of one core.

A small transformer encoder (2 layers, width 128, 4 heads, 32 words) first learns to tell sentences of CoLA
from the same with words out of order, in 10 epochs and without their labels; then whether a sentence is
acceptable, from the labels.  It knows the words that occur twice in the training sentences; all others are
one unknown word.

- r8.0, r8.0.05, r8.0.15: LoRA of rank 8, and Flat-LoRA with the paper's σ times half a cosine, on all
  matrices of both layers; the last layer trains besides; 4 epochs, rate 2e-3
- full: all numbers train; 3 epochs, rate 1e-3
- scratch: the same from random weights
- before: the network that knows the order of words alone, asked whether a sentence is acceptable

Adam, batches of 64, in each step a tenth of the words unknown; the rate falls to zero along half a cosine.
Rates were chosen on a tenth of the training sentences, with another seed: LoRA's is the best of 1e-3, 2e-3,
5e-3 and 1e-2 (longer training gained nothing), full's of 3e-4 and 1e-3; scratch takes the same.

Measured at the end: on the development set accuracy, Matthews' correlation, the area under the ROC curve
and the loss; in training accuracy and loss.  Where all get one answer the accuracy is `majority`, the
correlation 0, and the area 0.5.  So few sentences teach little, and no model that has read more is used.

What came out, as `tests/claims/test_flat_text.py` asserts with its intervals: the adapters, with noise and
without, end where chance may reach on so few sentences, and below training from random weights; noise makes
no difference that is seen.  So this study cannot tell whether Flat-LoRA gains on CoLA.

Arms of a seed share the pre-trained network, A, and the order of the data, so differences are paired.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from geolessons.adapters import LoRA
from geolessons.attaching import attach, merge_
from geolessons.data.cola import cola
from geolessons.data.digits import Split
from geolessons.data.words import PADDING, UNKNOWN, Vocabulary, misordered
from geolessons.metrics import accuracy, matthews, roc_area
from geolessons.models.encoder import Encoder
from geolessons.noise import FlatNoise
from geolessons.schedules import cosine
from geolessons.studies.flat_arms import ALPHA, arm
from geolessons.studies.record import Found, main
from geolessons.training import descend

__all__ = ["ARMS", "PAIRS", "Text", "measured", "one_seed", "pretrain", "text", "train"]

ARMS = ("r8.0", "r8.0.05", "r8.0.15", "full", "scratch")
PAIRS = {
    "r8.0.05": ("r8.0",),
    "r8.0.15": ("r8.0",),
    "full": ("r8.0",),
    "r8.0": ("scratch", "before"),
}
MATRICES = ["blocks.*.q", "blocks.*.k", "blocks.*.v", "blocks.*.o", "blocks.*.fc1", "blocks.*.fc2"]
SIZES: dict[str, Any] = {"width": 128, "heads": 4, "layers": 2, "length": 32}
BATCH = 64
UNKNOWNS = 0.1
EPOCHS = {"order": 10, "lora": 4, "full": 3, "scratch": 3}
RATES = {"order": 2e-3, "lora": 2e-3, "full": 1e-3, "scratch": 1e-3}


class Text(NamedTuple):
    """CoLA as ids and labels, and how many different ids there are."""

    split: Split
    vocabulary: int


def text() -> Text:
    """The sentences in the folder that GEOLESSONS_DATA names.

    Raises:
        ValueError: As `data.cola`.
        FileNotFoundError: As `data.cola`.
    """
    found = cola()
    known = Vocabulary(found.train)
    x_train, x_test = (known.encode(part, SIZES["length"]) for part in (found.train, found.dev))
    return Text(Split(x_train, found.y_train, x_test, found.y_dev), len(known))


def random(vocabulary: int, seed: int) -> Encoder:
    """The encoder that a seed starts from."""
    return Encoder(vocabulary, torch.Generator().manual_seed(seed), **SIZES)


def pretrain(data: Text, seed: int) -> Encoder:
    """The encoder, trained to tell sentences (1) from words out of order (0); half of each step's are so."""
    model, draws = random(data.vocabulary, seed), torch.Generator().manual_seed(seed)

    def loss(x: Tensor, _: Tensor) -> Tensor:
        z = misordered(x, draws)
        z = torch.where(torch.rand(len(x), 1, generator=draws) < 0.5, z, x)
        return cross_entropy(model(_some_unknown(z, draws)), (z == x).all(1).long())

    _descend(model, loss, data.split, "order", seed)
    return model


def train(model: Encoder, data: Text, name: str, seed: int) -> nn.Module:
    """The network that an arm ends at, adapters merged; `model` is not touched."""
    draws = torch.Generator().manual_seed(seed)
    sigma, kind = 0.0, name
    if name in ("full", "scratch"):
        moved = copy.deepcopy(model) if name == "full" else random(data.vocabulary, seed)
    else:
        kind, rank, sigma = arm(name)
        moved = copy.deepcopy(model)
        generator = torch.Generator().manual_seed(seed)
        attach(
            moved,
            MATRICES,
            lambda _, W: LoRA(W.shape, rank, ALPHA, generator=generator, dtype=W.dtype),
            train="head.*",
        )
    N = EPOCHS[kind] * -(-len(data.split.x_train) // BATCH)
    done = 0

    def loss(x: Tensor, y: Tensor) -> Tensor:
        nonlocal done
        x = _some_unknown(x, draws)
        done += 1
        if not sigma:
            return cross_entropy(moved(x), y)
        with FlatNoise(moved, sigma * cosine(done - 1, N), seed=seed, step=done):
            return cross_entropy(moved(x), y)

    _descend(moved, loss, data.split, kind, seed)
    if kind == "lora":
        merge_(moved)
    return moved


def measured(model: nn.Module, split: Split) -> dict[str, float]:
    """What is read off a network: on the development set, and on the training set."""
    with torch.no_grad():
        logits = model(split.x_test)
        train = torch.cat([model(x) for x in torch.split(split.x_train, 1000)])
    return {
        "accuracy": accuracy(logits, split.y_test),
        "mcc": matthews(logits.argmax(1), split.y_test),
        "auc": roc_area(logits[:, 1] - logits[:, 0], split.y_test),
        "loss": float(cross_entropy(logits, split.y_test)),
        "train accuracy": accuracy(train, split.y_train),
        "train loss": float(cross_entropy(train, split.y_train)),
    }


def order_accuracy(model: nn.Module, x: Tensor) -> float:
    """The share told right of sentences in their order and out of it, as many of each; 0.5 is chance."""
    z = misordered(x, torch.Generator().manual_seed(0))
    changed = (z != x).any(1)
    with torch.no_grad():
        kept, moved = (model(ids[changed]).argmax(1) for ids in (x, z))
    return float((kept == 1).double().mean() + (moved == 0).double().mean()) / 2


def one_seed(seed: int) -> Found:
    """All values of one seed, by name: `r8.0.15.mcc`, `r8.0.15.minus r8.0.mcc`, `majority.accuracy`."""
    data = text()
    model = pretrain(data, seed)
    by_arm = {"before": measured(model, data.split)}
    by_arm |= {name: measured(train(model, data, name, seed), data.split) for name in ARMS}
    found: Found = {f"{name}.{key}": v for name, values in by_arm.items() for key, v in values.items()}
    for name, others in PAIRS.items():
        for other in others:
            for key, value in by_arm[name].items():
                found[f"{name}.minus {other}.{key}"] = value - by_arm[other][key]
    yes = float(data.split.y_test.double().mean())
    found["majority.accuracy"] = max(yes, 1 - yes)
    found["dev.sentences"] = float(len(data.split.y_test))
    found["order.accuracy"] = order_accuracy(model, data.split.x_test)
    return found


def _some_unknown(x: Tensor, draws: torch.Generator) -> Tensor:
    hidden = torch.rand(x.shape, generator=draws) < UNKNOWNS
    return torch.where(hidden & (x != PADDING), UNKNOWN, x)


def _descend(model: nn.Module, loss: Any, split: Split, kind: str, seed: int) -> None:
    trained = [p for p in model.parameters() if p.requires_grad]
    generator = torch.Generator().manual_seed(seed)
    options: dict[str, Any] = {"epochs": EPOCHS[kind], "lr": RATES[kind], "batch": BATCH, "label": kind}
    descend(trained, loss, split.x_train, split.y_train, generator=generator, **options)
    model.zero_grad(set_to_none=True)


if __name__ == "__main__":
    main("flat_lora_text", __doc__, one_seed)

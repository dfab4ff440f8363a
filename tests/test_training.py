"""The training loop and the metrics: reproducible, its own generator, refusals."""

import math
from itertools import pairwise

import pytest
import torch

from geolessons.metrics import accuracy, loss_and_accuracy
from geolessons.training import descend


def problem() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(50, 3, generator=draw, dtype=torch.float64)
    return x, x @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


def fit(seed: int = 0, **options):
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
    w, history = fit(optimiser=optimiser, lr=0.2)
    assert len(history) == 20
    assert history[-1] < 0.05 * history[0]
    assert w.tolist() == pytest.approx([1, -2, 0.5], abs=0.1)


def test_same_seed_same_weights_bit_for_bit():
    before = torch.get_rng_state()
    (first, losses), (again, losses_again), (other, _) = (fit(seed) for seed in (0, 0, 1))
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
        fit(**options)


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

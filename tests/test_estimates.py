"""Estimates: their arithmetic, losses as functions of the point, and noise on the weights."""

import math

import pytest
import torch
from torch import nn

from geolessons.estimates import Estimate, estimate, expected_loss, loss_of, sharpness
from geolessons.models import mlp
from geolessons.trees import params_of


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


X = torch.randn(7, 4, generator=draw(5), dtype=torch.float64)


@pytest.fixture
def model():
    return mlp((4, 6, 3), draw(1))


def squared(run):
    return run(X).square().mean()


def test_an_estimate_is_a_mean_with_its_standard_error():
    found = estimate([1.0, 2.0, 4.0, 5.0])
    assert found == Estimate(3.0, pytest.approx(math.sqrt(10 / 3) / 2), 4)
    one = estimate([2.5])
    assert (one.value, one.n) == (2.5, 1)
    assert math.isnan(one.stderr)
    with pytest.raises(ValueError, match="draws is empty"):
        estimate([])


def test_loss_of_is_the_models_loss_and_leaves_it_alone(model):
    loss, W = loss_of(model, squared), params_of(model)
    torch.testing.assert_close(loss(W), model(X).square().mean().detach(), rtol=0, atol=0)
    moved = {"fc1.weight": (2 * W["fc1.weight"]).requires_grad_()}
    loss(moved).backward()
    assert moved["fc1.weight"].grad.any()
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(p, W[k]) for k, p in model.named_parameters())
    twin = mlp((4, 6, 3), draw(1))
    twin.load_state_dict(W | {k: v.detach() for k, v in moved.items()})
    torch.testing.assert_close(loss(moved).detach(), twin(X).square().mean().detach())


def test_batch_norm_in_training_mode_keeps_its_statistics():
    model = nn.Sequential(nn.Linear(4, 3, dtype=torch.float64), nn.BatchNorm1d(3, dtype=torch.float64))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert float(loss_of(model, squared)(params_of(model))) == pytest.approx(1, rel=1e-3)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_loss_of_refusals(model):
    with pytest.raises(ValueError, match=r"W names fc9\.weight, which the model does not have"):
        loss_of(model, squared)({"fc9.weight": X})
    with pytest.raises(ValueError, match="shape"):
        loss_of(model, squared)({"fc1.weight": X})
    with pytest.raises(ValueError, match=r"metric must give a 0-d tensor, not shape \(7, 3\)"):
        loss_of(model, lambda run: run(X))(params_of(model))
    with pytest.raises(ValueError, match="metric must give a 0-d tensor, not a float"):
        loss_of(model, lambda run: 0.5)(params_of(model))


@pytest.mark.parametrize(
    "layer", [nn.Dropout(0.5), nn.MultiheadAttention(4, 2, dropout=0.1), nn.LSTM(4, 4, 2, dropout=0.1)]
)
def test_active_dropout_is_refused_also_when_switched_on_later(layer):
    model = nn.ModuleDict({"drop": layer, "fc": nn.Linear(4, 3)})
    with pytest.raises(ValueError, match="drops at random at drop"):
        loss_of(model.train(), squared)
    loss = loss_of(model.eval(), lambda run: torch.zeros(()))
    assert loss({"fc.weight": torch.zeros(3, 4)}) == 0
    model.train()
    with pytest.raises(ValueError, match="drops at random"):
        loss({"fc.weight": torch.zeros(3, 4)})
    loss_of(nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.0)).train(), squared)


def quadratic(P):
    """Its mean under noise is known: σ² times the squared length, for each tensor that moves."""
    return sum(w.double().square().sum() for w in P.values())


def test_smoothed_quadratic_is_what_it_must_be():
    W = {"w": torch.randn(3, 5, generator=draw()), "c": torch.randn(2, 3, 2, 2, generator=draw()), "b": X[0]}
    exact = 0.09 * float(W["w"].square().sum() + W["c"].square().sum())
    found = sharpness(quadratic, W, 0.3, count=1500, generator=draw(3))
    assert abs(found.value - exact) < 4 * found.stderr
    assert found.stderr < 0.04 * exact
    mean = expected_loss(quadratic, W, 0.3, count=1500, generator=draw(3))
    assert mean.value - float(quadratic(W)) == pytest.approx(found.value)
    assert mean.stderr == pytest.approx(found.stderr)
    assert mean.n == 1500


def test_rows_get_noise_by_their_length_and_biases_none():
    W, seen = {"w": torch.tensor([[3.0] * 50, [0.0] * 50, [1e-3] * 50]), "b": torch.ones(3)}, []
    expected_loss(lambda P: seen.append(P) or torch.zeros(()), W, 0.1, count=200, generator=draw())
    moves = torch.stack([P["w"] - W["w"] for P in seen])
    assert moves.std((0, 2)).tolist() == pytest.approx([0.3, 0, 1e-4], rel=0.05)
    assert all(torch.equal(P["b"], W["b"]) for P in seen)


def test_one_seed_gives_two_points_the_same_relative_noise():
    """Scaling a row changes its noise alike, so a loss that does not see the scale agrees draw by draw."""
    W = {"w": torch.randn(3, 5, generator=draw(), dtype=torch.float64)}
    scaled = {"w": W["w"] * torch.tensor([[2.0], [0.5], [8.0]])}

    def angle(P):
        rows = P["w"] / P["w"].norm(dim=1, keepdim=True)
        return rows.sum()

    first, second = (sharpness(angle, P, 0.5, count=5, generator=draw(7)) for P in (W, scaled))
    assert first.value == pytest.approx(second.value, rel=1e-12)
    other = sharpness(angle, W, 0.5, count=5, generator=draw(8))
    assert other.value != pytest.approx(first.value)


def test_no_noise_is_no_change_and_the_point_is_not_touched():
    W = {"w": torch.ones(2, 3)}
    assert sharpness(quadratic, W, 0.0, count=2, generator=draw()) == Estimate(0.0, 0.0, 2)
    state = torch.get_rng_state()
    sharpness(quadratic, W, 1.0, count=2, generator=draw())
    assert torch.equal(W["w"], torch.ones(2, 3))
    assert torch.equal(state, torch.get_rng_state())


def test_noise_refusals():
    W = {"w": torch.ones(2, 3)}
    for call in (expected_loss, sharpness):
        with pytest.raises(ValueError, match="sigma=-1"):
            call(quadratic, W, -1, generator=draw())
        with pytest.raises(ValueError, match="count=0"):
            call(quadratic, W, 1.0, count=0, generator=draw())
        with pytest.raises(ValueError, match="loss is nan here"):
            call(lambda P: torch.tensor(math.nan), W, 1.0, generator=draw())
        with pytest.raises(ValueError, match="W has NaN or infinite entries in 'w'"):
            call(quadratic, {"w": torch.full((2, 2), math.inf)}, 1.0, generator=draw())

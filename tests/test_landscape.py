"""Slices of the landscape: filter normalisation, the grid, and reproducible draws."""

import math

import pytest
import torch
from torch import nn

from geolessons.landscape import filter_normalised, line, random_direction
from geolessons.trees import params_of


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(3, 2), nn.Dropout(0.5)).train()


X = torch.linspace(-1, 1, 18).reshape(1, 2, 3, 3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_rows_get_the_length_of_the_weights_rows(model, dtype):
    W = {k: x.to(dtype) for k, x in params_of(model).items()}
    W["0.weight"][0] *= 1000
    W["0.weight"][1] = 0
    d = random_direction(W, torch.Generator().manual_seed(0))
    assert list(d) == list(W)
    for name, w in W.items():
        assert d[name].dtype == dtype
        assert d[name].shape == w.shape
        if w.dim() < 2:
            assert not d[name].any()
            continue
        found, wanted = (x.double().flatten(1).norm(dim=1) for x in (d[name], w))
        torch.testing.assert_close(found, wanted, rtol=2 * torch.finfo(dtype).eps, atol=0)


def test_rows_keep_their_direction():
    W = {"w": torch.tensor([[3.0, 4.0], [0.0, 1.0]]), "b": torch.ones(2), "s": torch.tensor(2.0)}
    d = {"w": torch.tensor([[0.0, 2.0], [3.0, 3.0]]), "b": torch.ones(2), "s": torch.tensor(1.0)}
    found = filter_normalised(d, W)
    assert found["w"].tolist()[0] == [0, 5]
    assert found["w"].tolist()[1] == pytest.approx([math.sqrt(0.5)] * 2)
    assert found["b"].tolist() == [0, 0]
    assert float(found["s"]) == 0


def test_half_precision_rows_do_not_overflow():
    W = {"w": torch.full((2, 64), 1e4, dtype=torch.float16)}
    d = random_direction(W, torch.Generator().manual_seed(0))["w"].double()
    assert d.norm(dim=1).tolist() == pytest.approx([1e4 * 8] * 2, rel=1e-2)


def test_empty_tensors_pass():
    W = {"w": torch.empty(0, 5), "v": torch.empty(5, 0)}
    found = random_direction(W, torch.Generator())
    assert {k: x.shape for k, x in found.items()} == {k: x.shape for k, x in W.items()}


def test_draws_come_from_the_generator_alone(model):
    W = params_of(model)
    before = torch.get_rng_state()
    first, again, other = (random_direction(W, torch.Generator().manual_seed(s)) for s in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[k], again[k]) for k in W)
    assert not torch.equal(first["0.weight"], other["0.weight"])


def test_direction_refusals():
    with pytest.raises(ValueError, match="W has NaN or infinite entries in 'w'"):
        random_direction({"w": torch.full((2, 2), math.nan)}, torch.Generator())
    with pytest.raises(TypeError, match="W must be dense and floating-point, but is not: 'w' is int64"):
        random_direction({"w": torch.ones(2, 2, dtype=torch.int64)}, torch.Generator())
    with pytest.raises(ValueError, match="not points of the same space"):
        filter_normalised({"w": torch.ones(2, 2)}, {"w": torch.ones(2, 3)})
    with pytest.raises(ValueError, match="direction has a zero row where W has none"):
        filter_normalised({"w": torch.tensor([[0.0, 0.0], [1.0, 1.0]])}, {"w": torch.ones(2, 2)})


def test_line_is_exactly_on_its_grid_and_leaves_the_model_alone(model):
    W = params_of(model)
    d = random_direction(W, torch.Generator().manual_seed(1))
    alphas = [-1.0, -0.25, 0.0, 0.5, 2.0]
    curve = line(model, W, d, lambda run: run(X), alphas)
    assert curve.ts == alphas
    plain = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(3, 2))
    for alpha, found in zip(alphas, curve.values, strict=True):
        plain.load_state_dict({k: W[k] + alpha * d[k] for k in W})
        torch.testing.assert_close(found, plain(X), rtol=1e-5, atol=1e-6)
    assert model.training
    assert all(torch.equal(p, W[k]) for k, p in model.named_parameters())
    plain.load_state_dict(W)
    assert torch.equal(curve.values[2], plain(X))


def test_line_passes_options_on_and_refuses_as_evaluate_does(model):
    W = params_of(model)
    d = random_direction(W, torch.Generator())
    with pytest.raises(ValueError, match="ts is empty"):
        line(model, W, d, lambda run: run(X), [])
    with pytest.raises(ValueError, match="NaN or infinite"):
        line(model, W, d, lambda run: run(X), [math.inf])
    normed = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    W = params_of(normed)
    d = random_direction(W, torch.Generator())
    with pytest.raises(ValueError, match="batch-norm"):
        line(normed, W, d, lambda run: run(torch.ones(2, 2)), [0.0])
    assert line(normed, W, d, lambda run: run(torch.ones(2, 2)), [0.0], batchnorm="keep").ts == [0.0]

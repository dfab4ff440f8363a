"""Slices of the landscape: filter normalisation, the grid, and reproducible draws."""

import math

import pytest
import torch
from torch import nn

from geolessons.landscape import filter_normalised, line, plane, plane_through, random_direction
from geolessons.trees import axpy, dot, norm, params_of


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


def coordinates(W, frame):
    """Where a point lies in a plane, and how far off it."""
    step = {k: W[k].double() - frame.W[k].double() for k in W}
    x, y = (float(dot({k: v.double() for k, v in d.items()}, step)) for d in (frame.d1, frame.d2))
    off = {k: step[k] - x * frame.d1[k].double() - y * frame.d2[k].double() for k in W}
    return x, y, float(norm(off))


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_three_points_lie_where_the_plane_says(dtype, close):
    g = torch.Generator().manual_seed(0)
    P, Q, R = (
        {"w": torch.randn(4, 3, generator=g, dtype=dtype), "b": torch.randn(4, generator=g, dtype=dtype)}
        for _ in range(3)
    )
    frame = plane_through(P, Q, R)
    for d in (frame.d1, frame.d2):
        assert float(norm(d)) == pytest.approx(1, rel=close)
        assert all(d[k].dtype == dtype for k in P)
    assert float(dot(frame.d1, frame.d2)) == pytest.approx(0, abs=close)
    for point, (x, y) in zip((P, Q, R), frame.points, strict=True):
        assert coordinates(point, frame) == pytest.approx((x, y, 0), abs=10 * close)
    assert frame.points[0] == (0, 0)
    assert frame.points[1][1] == 0
    assert frame.points[1][0] > 0
    assert frame.points[2][1] > 0
    for i, j, a, b in ((0, 1, P, Q), (0, 2, P, R), (1, 2, Q, R)):
        apart = float(norm({k: a[k].double() - b[k].double() for k in a}))
        assert math.dist(frame.points[i], frame.points[j]) == pytest.approx(apart, rel=10 * close)


def test_planes_through_no_plane_are_refused():
    P, Q = {"w": torch.ones(3)}, {"w": torch.tensor([1.0, 2.0, 3.0])}
    with pytest.raises(ValueError, match="P and Q are the same point"):
        plane_through(P, P, Q)
    with pytest.raises(ValueError, match="R is on the line through P and Q"):
        plane_through(P, Q, {"w": 0.3 * P["w"] + 0.7 * Q["w"]})
    with pytest.raises(ValueError, match="R is on the line through P and Q"):
        plane_through(P, Q, P)
    with pytest.raises(ValueError, match="P and R are not points of the same space"):
        plane_through(P, Q, {"v": torch.ones(3)})
    with pytest.raises(ValueError, match="Q has NaN"):
        plane_through(P, {"w": Q["w"] * math.nan}, P)


def test_plane_is_exactly_on_its_grid_and_leaves_the_model_alone(model):
    W = params_of(model)
    d1, d2 = (random_direction(W, torch.Generator().manual_seed(s)) for s in (1, 2))
    alphas, betas = [-1.0, 0.0, 0.3], [0.0, 2.0]
    before = torch.get_rng_state()
    found = plane(model, W, d1, d2, lambda run: run(X), alphas, betas)
    assert torch.equal(before, torch.get_rng_state())
    assert (found.alphas, found.betas) == (alphas, betas)
    plain = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(3, 2))
    for a, row in zip(alphas, found.values, strict=True):
        for b, value in zip(betas, row, strict=True):
            exact = {k: (W[k].double() + a * d1[k].double() + b * d2[k].double()).float() for k in W}
            plain.load_state_dict(exact)
            torch.testing.assert_close(value, plain(X), rtol=1e-6, atol=1e-6)
    assert model.training
    assert all(torch.equal(p, W[k]) for k, p in model.named_parameters())
    curve = line(model, W, d1, lambda run: run(X), alphas)
    for value, row in zip(curve.values, found.values, strict=True):
        torch.testing.assert_close(row[0], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_points_of_a_plane_are_off_by_their_rounding_alone(dtype):
    """However many steps away: nothing piles up, and what a row's own rounding leaves out is not lost."""
    layer = nn.Linear(40, 30, bias=False).to(dtype)
    W = params_of(layer)
    g = torch.Generator().manual_seed(0)
    W["weight"].normal_(generator=g)
    d1, d2 = ({k: torch.randn(w.shape, generator=g).to(dtype) for k, w in W.items()} for _ in range(2))
    alphas, betas = ([i / 10 for i in range(-20, 21)] for _ in range(2))
    found = plane(layer, W, d1, d2, lambda run: run(torch.eye(40, dtype=dtype)).T, alphas, betas)
    w, d, e = (P["weight"].double() for P in (W, d1, d2))
    half_a_unit = torch.finfo(dtype).eps / 2
    for a, row in zip(alphas, found.values, strict=True):
        for b, value in zip(betas, row, strict=True):
            exact = w + a * d + b * e
            allowed = half_a_unit * (exact.abs() + 2 * (b * e).abs()) + torch.finfo(dtype).smallest_normal
            # the reference is rounded too
            allowed += 2 * torch.finfo(torch.float64).eps * (w.abs() + (a * d).abs() + (b * e).abs())
            assert bool(((value.double() - exact).abs() <= allowed).all()), (a, b)


def test_a_plane_through_three_models_has_their_losses(model):
    W = params_of(model)
    Q, R = (axpy(1, random_direction(W, torch.Generator().manual_seed(s)), W) for s in (1, 2))
    frame = plane_through(W, Q, R)
    for point, (x, y) in zip((W, Q, R), frame.points, strict=True):
        here = plane(model, frame.W, frame.d1, frame.d2, lambda run: run(X), [x], [y]).values[0][0]
        alone = line(model, point, frame.d1, lambda run: run(X), [0.0]).values[0]
        torch.testing.assert_close(here, alone, rtol=1e-4, atol=1e-4)


def test_plane_passes_options_on_and_refuses_as_evaluate_does(model):
    W = params_of(model)
    d = random_direction(W, torch.Generator())
    for alphas, betas, which in (([], [0.0], "alphas"), ([0.0], [], "betas")):
        with pytest.raises(ValueError, match=f"{which} is empty"):
            plane(model, W, d, d, lambda run: run(X), alphas, betas)
    with pytest.raises(ValueError, match="W and d2 are not points of the same space"):
        plane(model, W, d, {"v": X}, lambda run: run(X), [0.0], [0.0])
    for alphas, betas in (([math.nan], [0.0]), ([0.0], [math.nan])):
        with pytest.raises(ValueError, match="NaN or infinite"):
            plane(model, W, d, d, lambda run: run(X), alphas, betas)
    normed = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    W = params_of(normed)
    d = random_direction(W, torch.Generator())
    with pytest.raises(ValueError, match="batch-norm"):
        plane(normed, W, d, d, lambda run: run(torch.ones(2, 2)), [0.0], [0.0])
    found = plane(normed, W, d, d, lambda run: run(torch.ones(2, 2)), [0.0], [0.0], batchnorm="keep")
    assert found.alphas == [0.0]

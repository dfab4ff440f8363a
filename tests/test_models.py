"""The multilayer perceptron: names, start, function, refusals."""

import math

import pytest
import torch

from geolessons.models import mlp


def test_layers_are_named_and_of_the_right_size():
    model = mlp((64, 128, 128, 10), torch.Generator().manual_seed(0))
    shapes = {k: tuple(p.shape) for k, p in model.named_parameters()}
    assert shapes == {
        "fc1.weight": (128, 64),
        "fc1.bias": (128,),
        "fc2.weight": (128, 128),
        "fc2.bias": (128,),
        "fc3.weight": (10, 128),
        "fc3.bias": (10,),
    }
    assert [name for name, _ in model.named_children()] == ["fc1", "relu1", "fc2", "relu2", "fc3"]
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert all(p.requires_grad for p in model.parameters())


def test_it_is_a_relu_network():
    model = mlp((3, 5, 2), torch.Generator().manual_seed(0))
    x = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)
    p = dict(model.named_parameters())
    by_hand = (x @ p["fc1.weight"].T + p["fc1.bias"]).clamp(min=0) @ p["fc2.weight"].T + p["fc2.bias"]
    torch.testing.assert_close(model(x), by_hand)
    assert len(list(mlp((3, 2), torch.Generator()).children())) == 1


def test_draws_are_uniform_and_from_the_generator_alone():
    before = torch.get_rng_state()
    models = [mlp((400, 100, 5), torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert torch.equal(before, torch.get_rng_state())
    first, again, other = (dict(m.named_parameters()) for m in models)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["fc1.weight"], other["fc1.weight"])
    for name, k in (("fc1.weight", 400), ("fc2.weight", 100)):
        w = first[name].detach()
        assert float(w.abs().max()) <= 1 / math.sqrt(k)
        assert float(w.std()) == pytest.approx(1 / math.sqrt(3 * k), rel=0.1)
        assert abs(float(w.mean())) < 0.1 / math.sqrt(k)
    assert first["fc1.bias"].any()


def test_dtype_is_as_asked():
    assert mlp((2, 2), torch.Generator(), dtype=torch.float32).fc1.weight.dtype == torch.float32


@pytest.mark.parametrize("sizes", [(), (3,), (3, 0, 2), (3, -1)])
def test_refuses_sizes(sizes):
    with pytest.raises(ValueError, match=r"sizes=\(.*\) needs at least two positive numbers|empty"):
        mlp(sizes, torch.Generator())

"""The running example: its sizes, its counts, and that adapting leaves the model alone."""

import pytest
import torch

from geolessons import running_example
from geolessons.adapters import LoRA
from geolessons.data import digits
from geolessons.metrics import accuracy
from geolessons.models import mlp
from geolessons.running_example import SIZES, adapt, finetune, pretrain
from geolessons.trees import params_of


@pytest.fixture(scope="module")
def data():
    return digits("upright")


@pytest.fixture(scope="module")
def model(data):
    return pretrain(data, 0, epochs=3)


def test_counts_of_the_network_and_its_adapters():
    W = params_of(mlp(SIZES, torch.Generator()))
    assert sum(w.numel() for w in W.values()) == 26_122
    matrices = [w for w in W.values() if w.dim() == 2]
    assert sum(w.numel() for w in matrices) == 25_856
    for rank, wanted in ((8, 4_688), (2, 1_172)):
        adapters = [LoRA(tuple(w.shape), rank, generator=torch.Generator()) for w in matrices]
        assert sum(p.numel() for a in adapters for p in a.parameters()) == wanted


def test_pretrain_learns_is_frozen_and_reproducible(data, model):
    before = torch.get_rng_state()
    again, other = pretrain(data, 0, epochs=3), pretrain(data, 1, epochs=1)
    assert torch.equal(before, torch.get_rng_state())
    assert accuracy(model(data.x_test), data.y_test) > 0.85
    W, V = params_of(model), params_of(again)
    assert all(torch.equal(W[k], V[k]) for k in W)
    assert not torch.equal(W["fc1.weight"], params_of(other)["fc1.weight"])
    assert not any(p.requires_grad for p in model.parameters())
    assert W["fc1.weight"].dtype == torch.float64


def test_adapt_moves_the_matrices_by_low_rank_and_leaves_the_model(model):
    W0, lying = params_of(model), digits("lying")
    gradients = [p.grad if p.grad is None else p.grad.clone() for p in model.parameters()]
    before = torch.get_rng_state()
    W1 = adapt(model, lying, 0, epochs=3)
    again = adapt(model, lying, 0, epochs=3)
    assert torch.equal(before, torch.get_rng_state())
    assert list(W1) == list(W0)
    for name, w in params_of(model).items():
        assert torch.equal(w, W0[name])
        assert torch.equal(W1[name], again[name])
        assert W1[name].shape == w.shape
        assert not W1[name].requires_grad
        if w.dim() < 2:
            assert torch.equal(W1[name], w)
        else:
            assert int(torch.linalg.matrix_rank(W1[name] - w, rtol=1e-10)) == 8
    for p, gradient in zip(model.parameters(), gradients, strict=True):
        assert p.grad is None if gradient is None else torch.equal(p.grad, gradient)
    start, end = (
        accuracy(torch.func.functional_call(model, W, (lying.x_test,)), lying.y_test) for W in (W0, W1)
    )
    assert end > start + 0.2


def test_adapt_takes_the_rank_and_the_scale_two(model, monkeypatch):
    made = []

    class Watched(LoRA):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            made.append(self)

    monkeypatch.setattr(running_example, "LoRA", Watched)
    adapt(model, digits("tilted"), 0, rank=2, epochs=1)
    assert [tuple(a.A.shape) for a in made] == [(2, 64), (2, 128), (2, 128)]
    assert [a.scale for a in made] == [2.0] * 3
    made.clear()
    adapt(model, digits("tilted"), 0, rank=100, epochs=1)
    assert [len(a.A) for a in made] == [64, 100, 10]
    assert [a.scale for a in made] == [2.0] * 3


def test_adapt_takes_the_names_to_match(model):
    W0, W1 = params_of(model), adapt(model, digits("tilted"), 0, epochs=1, match=["fc1.weight", "fc3.*ght"])
    assert {k for k in W0 if not torch.equal(W0[k], W1[k])} == {"fc1.weight", "fc3.weight"}
    with pytest.raises(ValueError, match=r"match='conv\*' fits none of the model's parameters"):
        adapt(model, digits("tilted"), 0, epochs=1, match="conv*")


@pytest.mark.parametrize("batch", [64, 300])
def test_options_reach_the_training_loop(data, model, monkeypatch, batch):
    seen = []

    def watched(parameters, loss, x, y, **options):
        seen.append(options)
        return []

    monkeypatch.setattr(running_example, "descend", watched)
    pretrain(data, 0, epochs=7, lr=0.5, batch=batch)
    adapt(model, data, 0, epochs=7, lr=0.5, batch=batch)
    for options in seen:
        assert (options["epochs"], options["lr"], options["batch"]) == (7, 0.5, batch)
    assert len(seen) == 2


def test_finetune_moves_every_number_and_leaves_the_model_alone(data, model):
    W0, grads = params_of(model), [p.requires_grad for p in model.parameters()]
    first, again = (finetune(model, digits("lying"), 0, epochs=2) for _ in range(2))
    assert all(torch.equal(first[k], again[k]) for k in W0)
    assert all(torch.equal(W0[k], W) for k, W in params_of(model).items())
    assert [p.requires_grad for p in model.parameters()] == grads
    assert all(float((first[k] != W0[k]).double().mean()) > 0.5 for k in W0)

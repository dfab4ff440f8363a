"""The GLRA study: its arms, its measures, and one seed of what it shipped, computed anew."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from geolessons.adapters import LoRA
from geolessons.data.digits import Split
from geolessons.models import mlp
from geolessons.studies import glra
from geolessons.studies.record import read
from geolessons.trees import params_of

RESULTS = Path(__file__).parents[1] / "book" / "results"


@pytest.fixture
def small() -> tuple[nn.Module, Split]:
    """An untrained 12-10-9-4 network, and 96 + 40 examples of nothing in particular."""
    g = torch.Generator().manual_seed(0)
    model = mlp((12, 10, 9, 4), g).requires_grad_(False)
    x, y = torch.randn(136, 12, generator=g, dtype=torch.float64), torch.randint(0, 4, (136,), generator=g)
    return model, Split(x[:96], y[:96], x[96:], y[96:])


def test_arms_train_what_the_paper_counts() -> None:
    model = mlp((784, 128, 64, 10), torch.Generator().manual_seed(0), dtype=torch.float32)
    before = params_of(model)
    numbers = {
        kind: sum(p.numel() for p in glra.arm(model.requires_grad_(False), kind, 0)[1]) for kind in glra.ARMS
    }
    assert numbers == {"lora": 8832, "ramped": 8832, "glra": 8832, "full": 109386, "bitfit": 202}
    assert all(torch.equal(W, before[name]) for name, W in model.named_parameters())


@pytest.mark.parametrize("kind", glra.ARMS)
def test_a_run_moves_what_it_may_and_ends_at_its_end(kind: glra.Arm, small: tuple[nn.Module, Split]) -> None:
    model, split = small
    W0 = params_of(model)
    run = glra.train(model, split, kind, "sgd", 0.1, 0, epochs=10, batch=32)
    moved = {name for name, W in run.W.items() if not torch.equal(W, W0[name])}
    biases = {"fc1.bias", "fc2.bias", "fc3.bias"}
    matrices = {"fc1.weight", "fc2.weight"}
    assert moved == {"full": set(W0), "bitfit": biases}.get(kind, matrices)
    assert len(run.walked) == glra.STAGES
    assert all(torch.equal(W, run.W[name]) for name, W in run.walked[-1].items())
    curves = {name: len(values) for name, values in run.by_stage.items() if name != "gradient steadiness"}
    assert set(curves.values()) == {glra.STAGES}
    assert run.by_stage["distance"][-1] == pytest.approx(glra.distance(W0, run.W))
    same = glra.train(model, split, kind, "sgd", 0.1, 0, epochs=10, batch=32)
    assert all(torch.equal(W, same.W[name]) for name, W in run.W.items())


def test_t_is_raised_by_a_tenth_in_each_stage(small: tuple[nn.Module, Split], monkeypatch) -> None:
    seen = []
    move = glra.set_t
    monkeypatch.setattr(glra, "set_t", lambda model, t: (seen.append(t), move(model, t)))
    glra.train(
        *small, "ramped", "sgd", 0.1, 0, epochs=10, batch=96
    )  # one step an epoch, then a look at t = 1
    assert seen == [v for j in range(1, 11) for v in (j / 10, 1.0)]


def test_gap_and_distance() -> None:
    W0, a, b = (
        {"W": torch.tensor([float(x), 0.0]), "b": torch.tensor([float(y)])}
        for x, y in ((0, 0), (3, 4), (3, 1))
    )
    assert glra.gap(W0, a, b) == pytest.approx(3 / 5)
    assert glra.distance(W0, a) == pytest.approx(7)


def test_sharpness_of_a_flat_and_of_a_linear_place(small: tuple[nn.Module, Split]) -> None:
    model, split = small
    W = params_of(model)
    assert glra.sharpness(model, W, split, sigma=0.0) == pytest.approx(0, abs=1e-12)
    assert glra.sharpness(model, W, split, sigma=0.5) > glra.sharpness(model, W, split, sigma=0.1) > 0
    flat = {name: torch.zeros_like(V) if name.startswith("fc3") else V for name, V in W.items()}
    assert glra.sharpness(model, flat, split, sigma=0.5) == pytest.approx(0, abs=1e-12)


def test_costs_count_what_an_arm_keeps() -> None:
    found = glra.costs("digits", steps=6)
    assert found["lora"]["trained"] == 8 * (64 + 128) + 8 * (128 + 128)
    assert found["glra"]["trained"] == found["ramped"]["trained"] == found["lora"]["trained"]
    assert found["full"]["optimiser bytes"] == 2 * 8 * 26122
    assert all(row["step ms"] > 0 and row["kept bytes"] > 0 for row in found.values())


@pytest.mark.parametrize("data", ["digits", "mnist", "fashion"])
def test_rates_lie_on_either_side_of_half_a_radian(data: glra.Data) -> None:
    values = read(RESULTS / f"glra{'' if data == 'digits' else '_' + data}.json")
    for optimiser, (small, large) in glra.RATES[data].items():
        gentle, strong = (values[f"{optimiser}.{lr:g}.glra.largest omega"] for lr in (small, large))
        assert gentle["n"] == strong["n"] >= 5
        assert max(gentle["each"]) < 0.5 < min(strong["each"])


def test_one_seed_of_the_shipped_result_recomputes() -> None:
    values = read(RESULTS / "glra.json")
    model, split = glra.task("digits", 0)
    sizes = {"epochs": glra.EPOCHS["digits"], "batch": glra.BATCH["digits"]}
    for kind in ("lora", "glra"):
        run = glra.train(model, split, kind, "sgd", 0.005, 0, **sizes)
        for name in ("test loss", "test accuracy", "distance", "omega"):
            shipped = values[f"sgd.0.005.{kind}.{name}"]["each"][0]
            assert run.by_stage[name][-1] == pytest.approx(shipped, rel=2e-3), (kind, name)


def test_ramped_walks_the_straight_road(small: tuple[nn.Module, Split]) -> None:
    """In one stage at t the weight is W0 + t·s·B·A, with the A that a LoRA of the same seed starts from."""
    model, _ = small
    ready, trained = glra.arm(model, "ramped", 3)
    plain, _ = glra.arm(model, "lora", 3)
    assert torch.equal(ready.fc1.adapter.A, plain.fc1.adapter.A)
    nn.init.ones_(ready.fc1.adapter.B)
    glra.set_t(ready, 0.25)
    adapter: LoRA = ready.fc1.adapter
    expected = model.fc1.weight + 0.25 * 2 * adapter.B @ adapter.A
    torch.testing.assert_close(ready.fc1.weight, expected)
    assert len(trained) == 4

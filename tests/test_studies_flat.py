"""The Flat-LoRA study: its arms, its measures, and one seed of what it shipped, computed anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from geolessons.data.digits import Split
from geolessons.models import mlp
from geolessons.noise import FlatNoise
from geolessons.sam import sam_gradients
from geolessons.schedules import cosine
from geolessons.studies import flat_arms, glra
from geolessons.studies import flat_lora_digits as study
from geolessons.studies.record import read
from geolessons.trees import params_of

RESULTS = Path(__file__).parents[1] / "book" / "results"
KINDS = ("r2.0", "r2.0.5", "pissa.0", "dora.0.5", "ga.0", "full", "sam full", "sam factors")


@pytest.fixture
def small() -> tuple[nn.Module, Split]:
    """An untrained 24-20-18-4 network, and 300 + 40 examples of nothing in particular."""
    g = torch.Generator().manual_seed(0)
    model = mlp((24, 20, 18, 4), g).requires_grad_(False)
    x, y = torch.randn(340, 24, generator=g, dtype=torch.float64), torch.randint(0, 4, (340,), generator=g)
    return model, Split(x[:300], y[:300], x[300:], y[300:])


def test_names_say_what_an_arm_is() -> None:
    assert flat_arms.arm("r16.0.15") == ("lora", 16, 0.15)
    assert flat_arms.arm("r8.1") == ("lora", 8, 1.0)
    assert flat_arms.arm("dora.0") == ("dora", 8, 0.0)
    assert flat_arms.arm("sam full") == ("sam full", 8, 0.0)
    assert len(set(study.ARMS)) == len(study.ARMS)
    assert all(flat_arms.arm(name) for name in study.ARMS)
    for wrong in ("lora.0", "r8x.0", "rank"):
        with pytest.raises(ValueError, match="is no arm"):
            flat_arms.arm(wrong)


def test_arms_are_compared_with_themselves_without_noise() -> None:
    pairs = study.PAIRS
    assert pairs["r8.0.05"] == pairs["r8.1"] == pairs["full"] == pairs["sam full"] == "r8.0"
    assert (pairs["r64.0.15"], pairs["pissa.0.15"]) == ("r64.0", "pissa.0")
    assert not {"r8.0", "r1.0", "ga.0"} & set(pairs)
    assert set(pairs.values()) <= set(study.ARMS)


@pytest.mark.parametrize("name", KINDS)
def test_an_arm_starts_at_the_model_moves_two_matrices_and_repeats(
    name: str, small: tuple[nn.Module, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, split = small
    monkeypatch.setitem(study.EPOCHS, "digits", 2)
    W0, state = params_of(model), torch.get_rng_state()
    start = flat_arms.matrices(flat_arms.ready(model, split, name, 0).model)
    assert set(start) == {"fc1.weight", "fc2.weight"}
    for key, W in start.items():
        torch.testing.assert_close(W, W0[key], rtol=0, atol=1e-6)
    W = study.train(model, split, name, 0, "digits")
    again = study.train(model, split, name, 0, "digits")
    assert all(torch.equal(V, again[key]) for key, V in W.items())
    assert all(float((V - W0[key]).norm()) > 1e-3 for key, V in W.items())
    assert all(torch.equal(V, W0[key]) for key, V in params_of(model).items())
    assert torch.equal(torch.get_rng_state(), state)
    other = study.train(model, split, name, 1, "digits")
    assert not any(torch.equal(V, other[key]) for key, V in W.items())


def test_noise_grows_along_half_a_cosine(small: tuple[nn.Module, Split]) -> None:
    model, split = small
    x, y = split.x_train, split.y_train
    made = flat_arms.ready(model, split, "r2.0.5", 3)
    clean = cross_entropy(made.model(x), y).detach()
    assert torch.equal(made.loss(x, y, 0, 10), clean)
    for i in (1, 5, 9):
        with FlatNoise(made.model, 0.5 * cosine(i, 10), seed=3, step=i):
            expected = cross_entropy(made.model(x), y).detach()
        assert torch.equal(made.loss(x, y, i, 10), expected)
        assert abs(float(expected - clean)) > 1e-6


def test_steps_are_counted_to_the_last(
    small: tuple[nn.Module, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real = flat_arms.cosine
    monkeypatch.setattr(flat_arms, "cosine", lambda i, N: (seen.append((i, N)), real(i, N))[1])
    monkeypatch.setitem(study.EPOCHS, "digits", 2)
    study.train(*small, "r2.0.5", 0, "digits")
    assert seen == [(i, 10) for i in range(10)]  # 300 examples in batches of 64, twice


@pytest.mark.parametrize(("name", "space"), [("sam full", "full"), ("sam factors", "factors")])
def test_sam_arms_take_sams_gradients(name: str, space: str, small: tuple[nn.Module, Split]) -> None:
    model, split = small
    x, y = split.x_train, split.y_train
    made, other = (flat_arms.ready(model, split, name, 0) for _ in range(2))
    for one in (made, other):
        for p in one.trained:
            p.data += 0.1  # away from B = 0
    made.loss(x, y, 1, 2).backward()
    sam_gradients(other.model, lambda: cross_entropy(other.model(x), y), flat_arms.RHO, space)  # type: ignore
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(made.trained, other.trained, strict=True))
    for p in other.trained:
        p.grad = None
    cross_entropy(other.model(x), y).backward()
    assert not all(torch.equal(p.grad, q.grad) for p, q in zip(made.trained, other.trained, strict=True))


def test_measures_agree_with_the_other_study(small: tuple[nn.Module, Split]) -> None:
    """Both S(0.3) take the same draws from the same formula; the GLRA study has its own code for it."""
    model, split = small
    W = {name: V for name, V in params_of(model).items() if name in ("fc1.weight", "fc2.weight")}
    found = study.measured(model, split, W)
    assert set(found) == {"test loss", "test accuracy", "train loss", "sharpness", "top eigenvalue"}
    theirs = glra.sharpness(model, params_of(model), split)
    assert found["sharpness"] == pytest.approx(theirs, rel=1e-6)
    assert found["train loss"] == pytest.approx(float(cross_entropy(model(split.x_train), split.y_train)))
    assert found["test accuracy"] == float((model(split.x_test).argmax(1) == split.y_test).double().mean())


def test_costs_count_what_an_arm_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "ARMS", ("r8.0", "r8.0.15", "sam full", "full"))
    found = study.costs("digits", steps=10)
    assert found["r8.0"]["trained"] == 8 * (64 + 128) + 8 * (128 + 128)
    assert found["full"]["trained"] == 128 * (64 + 128)
    rows = 8 * (128 + 128)  # the deviations of the rows, in float64
    assert rows / 2 <= found["r8.0.15"]["kept bytes"] - found["r8.0"]["kept bytes"] <= rows + 64
    assert found["sam full"]["kept bytes"] > found["r8.0"]["kept bytes"] > 64 * 128 * 8
    assert all(row["step ms"] > 0 for row in found.values())


@pytest.mark.parametrize("data", ["digits", "mnist", "fashion"])
def test_what_is_shipped_is_whole(data: str) -> None:
    file = RESULTS / f"flat_lora_{data}.json"
    values, whole = read(file), json.loads(file.read_text(encoding="utf8"))
    assert whole["settings"] == {"data": data}
    assert set(whole["costs"]) == set(study.ARMS)
    for name in study.ARMS:
        assert values[f"{name}.sharpness"]["n"] >= 5
    for name, other in study.PAIRS.items():
        for key in ("test loss", "sharpness", "top eigenvalue"):
            paired = zip(values[f"{name}.{key}"]["each"], values[f"{other}.{key}"]["each"], strict=True)
            assert values[f"{name}.minus {other}.{key}"]["each"] == pytest.approx([a - b for a, b in paired])


def test_one_seed_of_the_shipped_result_recomputes() -> None:
    values = read(RESULTS / "flat_lora_digits.json")
    model, split = glra.task("digits", 0)
    for name in ("ga.0", "sam factors"):
        found = study.measured(model, split, study.train(model, split, name, 0, "digits"))
        for key, value in found.items():
            shipped = values[f"{name}.{key}"]["each"][0]
            assert value == pytest.approx(shipped, rel=1e-2 if key == "top eigenvalue" else 2e-3), (name, key)

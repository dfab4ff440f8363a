"""The study of drift: rounding by hand, what its measure sees, and its shipped result."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from geolessons.draws import row_std, seed_of, seeded_noise
from geolessons.schedules import cosine
from geolessons.studies import drift
from geolessons.studies.record import read
from geolessons.trees import Params

RESULT = Path(__file__).parents[1] / "book" / "results" / "drift.json"


def _rounded(x: np.ndarray, name: str) -> np.ndarray:
    """Numbers of float64 in a format and back; sums of two narrower numbers are exact there, or nearly."""
    if name == "bfloat16":
        return torch.from_numpy(x).to(torch.bfloat16).double().numpy()
    return x.astype(name).astype(np.float64)


@pytest.mark.parametrize("noise", drift.NOISES)
def test_each_step_rounds_twice_and_no_more(noise: str) -> None:
    W0 = drift.start(3, (4, 32))
    kept = {name: W.clone() for name, W in W0.items()}
    stops = (1, 2, 40)
    found = dict(drift.subtracted(W0, noise, 7, stops))
    assert tuple(found) == stops
    for name, W in W0.items():
        assert torch.equal(W, kept[name])
        w = W.double().numpy()
        for i in range(stops[-1]):
            sigma = 0.05 if noise == "constant" else 0.15 * cosine(i, 10_000)
            now = torch.from_numpy(w).to(W.dtype)
            eps = seeded_noise(row_std(now, sigma), 32, torch.tensor(seed_of((7, i), name)))
            eps = eps.to(W.dtype).double().numpy()
            w = _rounded(_rounded(w + eps, name) - eps, name)
            if i + 1 in stops:
                assert np.array_equal(found[i + 1][name].double().numpy(), w), (name, i + 1)
    moved = drift.drifts(W0, found[40])
    if noise == "constant":
        assert 0 < moved["float32"][0] < moved["float16"][0] < moved["bfloat16"][0]
    else:  # the first step of the cosine has no noise
        assert set(drift.drifts(W0, found[1]).values()) == {(0.0, 0.0)}


def test_a_drift_is_a_share_of_the_length_and_every_bit_counts() -> None:
    W0 = {"w": torch.tensor([[3.0, 4.0], [0.0, 12.0]]), "h": torch.ones(2, 2, dtype=torch.bfloat16)}
    W = {"w": torch.tensor([[3.0, 4.0], [-0.0, 12.13]]), "h": W0["h"].clone()}
    away, changed = drift.drifts(W0, W)["w"]
    assert away == pytest.approx(0.01, rel=1e-5)  # 0.13 of 13
    assert changed == 0.5  # −0 has another bit than 0
    assert drift.drifts(W0, W)["h"] == (0.0, 0.0)


def test_noise_that_is_never_stored_leaves_each_bit_and_other_noise_would_be_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    W0 = drift.start(0, (4, 32))
    state = torch.get_rng_state()
    for noise in drift.NOISES:
        for _, W in drift.functional(W0, noise, 0, (1, 5)):
            assert set(drift.drifts(W0, W).values()) == {(0.0, 0.0)}
    assert torch.equal(torch.get_rng_state(), state)

    seen = []

    @contextlib.contextmanager
    def in_place(model: nn.Module, sigma: float, *, seed: int, step: int) -> Iterator[None]:
        seen.append((sigma, seed, step))
        for layer in model:  # type: ignore[attr-defined]
            layer.base_weight.data.mul_(1 + sigma)
        yield

    monkeypatch.setattr(drift, "FlatNoise", in_place)
    ((_, W),) = drift.functional(W0, "constant", 9, (2,))
    assert seen == [(0.05, 9, 0), (0.05, 9, 1)]
    for away, changed in drift.drifts(W0, W).values():
        assert away == pytest.approx(0.1025, abs=5e-3)
        assert changed > 0.9


def test_the_passes_are_noisy_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the line at 0 would be worth nothing."""
    entered = []

    class Spy(drift.FlatNoise):
        def __exit__(self, *args) -> None:
            entered.append({name: float(self.draw(name).norm()) for name in self.layers})
            super().__exit__(*args)

    monkeypatch.setattr(drift, "FlatNoise", Spy)
    W0: Params = drift.start(0, (4, 32))
    list(drift.functional(W0, "constant", 0, (3,)))
    assert len(entered) == 3
    for sizes in entered:
        assert list(sizes) == ["0", "1", "2"]
        for size, W in zip(sizes.values(), W0.values(), strict=True):
            assert size == pytest.approx(0.05 * float(W.double().norm()), rel=0.25)


def test_the_shipped_result() -> None:
    result = json.loads(RESULT.read_text(encoding="utf8"))
    values = read(RESULT)
    assert result["study"] == "drift"
    assert len(result["provenance"]["seeds"]) >= 5
    ways = (("subtracted", "constant"), ("subtracted", "cosine"), ("functional", "constant"))
    keys = {
        f"{way}.{noise}.{name}.{N}.{what}"
        for way, noise in ways
        for name in drift.FORMATS
        for N in drift.STOPS
        for what in ("drift", "changed")
    }
    assert values.keys() == keys
    for key, value in values.items():
        if key.startswith("functional"):
            assert set(value["each"]) == {0.0}, key

    def mean(key: str) -> float:
        return values[f"subtracted.{key}"]["mean"]

    # an error of half a spacing or so at each of N steps, in no direction: it grows as √N or slower
    for name, (low, high) in {"float32": (1e-7, 4e-7), "bfloat16": (8e-3, 2e-2)}.items():
        assert low < mean(f"constant.{name}.1000.drift") < high
    for noise in drift.NOISES:
        for name in drift.FORMATS:
            line = [mean(f"{noise}.{name}.{N}.drift") for N in drift.STOPS]
            assert line == sorted(line)
    assert 0.6 < mean("constant.float32.1000.changed") < 0.75


def test_a_seed_of_the_shipped_result_comes_out_again() -> None:
    values, stops = read(RESULT), (1, 3, 10, 30, 100)
    W0 = drift.start(1)
    for noise in drift.NOISES:
        for N, W in drift.subtracted(W0, noise, 1, stops):
            for name, found in drift.drifts(W0, W).items():
                for what, value in zip(("drift", "changed"), found, strict=True):
                    each = values[f"subtracted.{noise}.{name}.{N}.{what}"]["each"]
                    assert value == pytest.approx(each[1], rel=2e-2, abs=1e-12), (noise, name, N, what)

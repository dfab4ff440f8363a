"""What the cards of chapter 3 say is true: wells that fill, walks in and out, a line."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import texts
from scipy import integrate, optimize

from geolessons.studies import noisy_line as line_study
from geolessons.trees import dot, norm

BOOK = Path(__file__).parents[1] / "book"


@pytest.fixture(autouse=True)
def _cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BOOK))


def results(name: str) -> dict[str, dict]:
    return json.loads((BOOK / "results" / f"{name}.json").read_text(encoding="utf8"))["values"]


@pytest.mark.parametrize("sigma", [0.05, 0.15, 0.6])
def test_the_averaged_land_is_the_average(sigma: float) -> None:
    """The closed form beside quadrature."""
    from cards import wells

    def weighted(e: float, x: float) -> float:
        bell = math.exp(-0.5 * (e / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
        return float(wells.land(np.array(x + e))) * bell

    for x in (-0.8, -0.3, 0.0, 0.9):
        found, _ = integrate.quad(weighted, -8 * sigma, 8 * sigma, args=(x,), limit=200)
        assert float(wells.land(np.array(x), sigma)) == pytest.approx(found, abs=1e-8)


def test_the_wide_valley_wins_where_the_card_says() -> None:
    from cards import wells

    def bottom(low: float, high: float, sigma: float) -> float:
        found = optimize.minimize_scalar(
            lambda x: float(wells.land(np.array(x), sigma)), bounds=(low, high), method="bounded"
        )
        return float(found.fun)

    def lead(sigma: float) -> float:
        return bottom(-1.2, -0.4, sigma) - bottom(0.4, 1.2, sigma)

    crossing = optimize.brentq(lead, 0.01, 0.3)
    assert f"{crossing:.2f}" == "0.13", "the page says so"
    assert [wells.winner(crossing + x) for x in (-1e-3, 1e-3)] == ["narrow", "wide"]
    assert [wells.winner(s) for s in (0.0, 0.1, 0.15, 0.6)] == ["narrow", "narrow", "wide", "wide"]
    for sigma in wells.SIGMAS:
        downhill = (np.diff(wells.land(np.linspace(-2, 0.5, 4001), sigma)) < 0).all()
        assert downhill == ("narrow" not in wells.lowest(sigma)) == (sigma >= 0.5), (
            "from 0.5 on, says the page"
        )


def test_the_nudged_copies_average_to_the_mauve_line() -> None:
    from cards import wells

    for sigma in (0.0, 0.1, 0.3, 0.6):
        for t in (0.0, 0.5, 1.0):
            places, mean, error = wells.nudged(sigma, t)
            assert len(places) == wells.NUDGES
            assert abs(mean - float(wells.land(np.array(wells.point(t)), sigma))) <= 4 * error + 1e-12


def test_walks_are_as_long_as_the_weights_and_on_their_side() -> None:
    from cards import insides

    W, walks = insides.walks("tilted.2")
    for V in walks.values():
        assert float(norm(V)) == pytest.approx(float(norm(W)), rel=1e-9)
    assert float(dot(walks["inside"], walks["outside"])) == pytest.approx(0, abs=1e-9 * float(norm(W)) ** 2)
    # anywhere is the sum of both sides, and rank 2 has few directions inside
    cosines = [
        float(dot(walks[side], walks["anywhere"])) / float(norm(W)) ** 2 for side in ("inside", "outside")
    ]
    assert np.hypot(*cosines) == pytest.approx(1, abs=1e-9)
    assert cosines[0] < 0.3
    card = insides.Insides(results("insides"))
    tiles = card.mosaic(0.1, "tilted.2", "outside")
    moved = W["fc1.weight"] + 0.1 * walks["outside"]["fc1.weight"]
    for i, corner in enumerate(((0, 0), (0, 9), (9, 0), (9, 9))):
        tile = tiles[corner[0] : corner[0] + 8, corner[1] : corner[1] + 8]
        np.testing.assert_allclose(tile, moved[insides.NEURONS[i]].reshape(8, 8).numpy(), atol=1e-12)


def test_inside_is_steeper_at_all_stops_and_lengths() -> None:
    """What the fold of page 3A says."""
    from cards import insides
    from geolessons.studies.insides import SHARES

    card = insides.Insides(results("insides"))
    for setting in insides.SETTINGS.values():
        for rho in SHARES:
            inside, outside = (card.rise(rho, setting, side) for side in ("inside", "outside"))
            assert inside["low"] > outside["high"], (setting, rho)
        assert card.rise(0, setting, "inside")["mean"] == 0
    assert "not moved" in card.alt(0.0, "tilted.8")
    inside, outside = (card.rise(0.1, "lying.2", side)["mean"] for side in ("inside", "outside"))
    assert f"by {inside:.4f} inside LoRA's directions and by {outside:.4f} outside" in card.alt(
        0.1, "lying.2"
    )


def test_the_lowest_point_of_the_line_is_found_and_shown() -> None:
    from cards.noisy_line import NoisyLine

    values = results("noisy_line")
    card = NoisyLine(values)
    for sigma in line_study.SIGMAS:
        curve = card.curve(sigma)
        fine = np.polyval(np.polyfit(line_study.PLACES, curve, 6), np.linspace(-1, 2, 3001))
        assert card.lowest(sigma) == pytest.approx(-1 + 3 * fine.argmin() / 3000, abs=0.12)
        assert f"t = {card.lowest(sigma):.2f}" in card.alt(sigma, 1.0)
    trained = [x for s in line_study.SIGMAS if s <= line_study.TRAINED for x in [card.seeds(s)]]
    assert (np.diff(np.array(trained), axis=0) > 0).all(), "towards Flat-LoRA in each seed"
    shown = {text.get_text() for text, _ in texts(card.draw(0.5, 1.0))}
    assert {"LoRA", "Flat-LoRA", "lowest test loss"} <= shown


def test_the_vertex_of_a_parabola_and_of_an_end() -> None:
    ts = [i / 4 - 1 for i in range(13)]
    generator = torch.Generator().manual_seed(0)
    for vertex in (torch.rand(20, generator=generator, dtype=torch.float64) * 2.4 - 0.8).tolist():
        losses = [3 + 0.7 * (t - vertex) ** 2 for t in ts]
        assert line_study.lowest(ts, losses) == pytest.approx(vertex, abs=1e-9)
    assert line_study.lowest(ts, [-t for t in ts]) == 2
    assert line_study.lowest(ts, [t for t in ts]) == -1
    assert line_study.lowest(ts, [1.0] * 13) == -1


def test_marks_of_the_ruler_are_what_was_measured() -> None:
    from cards.marks import ANGLES, marks

    by_name = {mark.text: mark for mark in marks(new=list(ANGLES)[:3], known=list(ANGLES)[3:])}
    assert len(by_name) == len(ANGLES)
    assert [mark.new for mark in by_name.values()] == [True] * 3 + [False] * (len(ANGLES) - 3)
    assert by_name["another seed"].angle == results("roads")["seeds.angle"]["mean"]
    assert by_name["bfloat16, 1,000 noisy steps"].angle == pytest.approx(0.0127, abs=2e-4)
    assert math.tan(by_name["Flat-LoRA's noise, σ = 0.15"].angle) == pytest.approx(0.15)
    with pytest.raises(KeyError):
        marks(new=["no mark"])

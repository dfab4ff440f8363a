"""What the cards of page 3B on noise say is true, and their drawings hold it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import check, texts
from matplotlib.colors import to_hex

from geolessons import plots
from geolessons.draws import row_noise
from geolessons.studies.drift import STOPS
from geolessons.studies.record import read

BOOK = Path(__file__).parents[1] / "book"


@pytest.fixture(autouse=True)
def _cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BOOK))


@pytest.fixture(scope="module")
def values() -> dict[str, dict]:
    return read(BOOK / "results" / "drift.json")


def coloured(ax) -> dict[str, list]:
    """The lines of an axes that are not ink, by colour."""
    found: dict[str, list] = {}
    for line in ax.lines:
        if to_hex(line.get_color()) != plots.INK:
            found.setdefault(to_hex(line.get_color()), []).append(line)
    return found


# ---------------------------------------------------------------- shares


@pytest.mark.parametrize(("k", "sigma"), [(16, 0.8), (256, 0.15), (4096, 0.05)])
def test_shares_are_those_of_an_independent_sample(k: int, sigma: float) -> None:
    from cards import shares

    g = np.random.default_rng(k)
    W, X = g.normal(size=(40, k)), g.normal(size=(300, k))
    scales = {"scaled": sigma * np.sqrt((W**2).mean(1)), "plain": sigma * np.linalg.norm(W, axis=1)}
    for way, std in scales.items():
        added = [X @ (std[:, None] * g.normal(size=W.shape)).T for _ in range(6)]
        found = np.concatenate(added).var(0) / (X @ W.T).var(0)
        assert shares.share(k, sigma, way) == pytest.approx(found.mean(), rel=0.1)
        assert shares.share(k, sigma, way) == pytest.approx(shares.law(k, sigma, way), rel=0.06)


def test_with_the_root_the_share_is_flat_and_without_it_it_grows_with_the_width() -> None:
    from cards import shares

    flat = [shares.share(k, 0.15, "scaled") for k in shares.WIDTHS]
    assert max(flat) < 1.1 * min(flat)
    steep = [shares.share(k, 0.15, "plain") for k in shares.WIDTHS]
    slope = np.polyfit(np.log(shares.WIDTHS), np.log(steep), 1)[0]
    assert slope == pytest.approx(1, abs=0.02)
    assert steep[-1] == pytest.approx(92, rel=0.05)
    assert len(shares.WIDTHS) * len(shares.SIGMAS) == 35


def test_nudges_are_sigma_times_the_weights_size_or_that_times_the_root_of_k() -> None:
    from cards import shares

    for k, sigma in ((16, 0.05), (640, 0.5)):
        for way, size in (("scaled", sigma), ("plain", sigma * k**0.5)):
            w, copies = shares.nudges(k, sigma, way)
            assert (w.shape, copies.shape) == ((12,), (6, 12))
            assert (copies - w).std() == pytest.approx(size, rel=0.25)
            ratio = (copies - w) / (shares.nudges(k, sigma, "scaled")[1] - w)
            assert ratio == pytest.approx(size / sigma, rel=1e-3)


@pytest.mark.parametrize(("k", "sigma"), [(16, 0.05), (256, 0.15), (4096, 0.8)])
def test_the_card_of_shares_draws_what_was_sampled(k: int, sigma: float) -> None:
    from cards import shares

    fig = shares.draw(k, sigma)
    check(fig, {plots.START, plots.NOISE, plots.CONTROL})
    above, meter = fig.axes
    walked = [width for width in shares.WIDTHS if width <= k]
    for colour, way in ((plots.NOISE, "scaled"), (plots.CONTROL, "plain")):
        (line,) = coloured(meter)[colour]
        assert list(line.get_xdata()) == walked
        assert list(line.get_ydata()) == [shares.share(width, sigma, way) for width in walked]
    thin = [line for line in meter.lines if to_hex(line.get_color()) == plots.INK]
    closed = [list(line.get_ydata()) for line in thin if list(line.get_xdata()) == walked and len(walked)]
    for wanted in ([sigma**2] * len(walked), [sigma**2 * width for width in walked]):
        assert any(found == pytest.approx(wanted) for found in closed)
    dots = [line for line in coloured(above)[plots.NOISE] if line.get_marker() == "."]
    outside = {
        side: [line for line in coloured(above)[plots.NOISE] if line.get_marker() == side] for side in "^v"
    }
    for i, way in enumerate(("scaled", "plain")):
        _, copies = shares.nudges(k, sigma, way)
        assert len(dots[i].get_xdata()) == (np.abs(copies) <= shares.LIMIT).sum()
        assert len(outside["^"][i].get_xdata()) == (copies.max(0) > shares.LIMIT).sum()
        assert len(outside["v"][i].get_xdata()) == (copies.min(0) < -shares.LIMIT).sum()
    said = shares.alt(k, sigma)
    assert f"{shares.share(k, sigma, 'scaled'):.4f}" in said
    assert f"{shares.share(k, sigma, 'plain'):.2f}" in said


# ---------------------------------------------------------------- drift


def test_the_row_on_the_map_is_rounded_twice_a_step() -> None:
    from cards import drift

    for kind, dtype in (("float32", np.float32), ("float16", np.float16)):
        w0 = drift.start(0, (1, drift.ROW))[kind]
        noise = row_noise(w0.float().expand(STOPS[-1], -1), 0.05, torch.Generator().manual_seed(0))
        w = w0.numpy()[0].copy()
        rms = np.sqrt((w.astype(float) ** 2).mean())
        assert float(noise.double().std()) == pytest.approx(0.05 * rms, rel=0.01)
        row = drift.row(kind)
        assert list(row) == [0, *STOPS]
        for i, eps in enumerate(noise.numpy()[:30].astype(dtype), start=1):
            there = w + eps
            w = there - eps
            assert there.dtype == w.dtype == dtype
            if i in STOPS:
                assert row[i] == pytest.approx(w.astype(float) / rms, rel=1e-12)
        assert (row[30] != row[0]).any()


def test_the_row_on_the_map_drifts_as_the_weights_of_the_study(values) -> None:
    from cards import drift

    card = drift.Drift(values)
    for kind in card.stops:
        row = drift.row(kind)
        for N in (100, 10_000):
            away = np.linalg.norm(row[N] - row[0]) / np.linalg.norm(row[0])
            assert away == pytest.approx(card.at(N, kind, "constant")["mean"], rel=0.4)


@pytest.mark.parametrize(
    ("N", "kind"),
    [(1, "float32"), (30, "float32"), (100, "float16"), (10_000, "bfloat16"), (10_000, "float32")],
)
def test_the_card_of_drift_draws_what_was_measured(values, N: int, kind: str) -> None:
    from cards import drift

    fig = drift.Drift(values).draw(N, kind)
    check(fig, {plots.START, plots.NOISE, plots.ROAD})
    above, meter = fig.axes
    walked = [n for n in STOPS if n <= N]
    lines = {line.get_marker(): line for line in coloured(meter)[plots.NOISE]}
    for mark, noise in (("o", "constant"), ("^", "cosine")):
        means = {n: values[f"subtracted.{noise}.{kind}.{n}.drift"]["mean"] for n in walked}
        moved = {n: mean for n, mean in means.items() if mean}
        assert (mark in lines) == bool(moved)
        if moved:
            assert dict(zip(*lines[mark].get_data(), strict=True)) == pytest.approx(moved)
    (zero,) = coloured(meter)[plots.ROAD]
    never = [values[f"functional.constant.{kind}.{n}.drift"]["high"] for n in walked]
    assert never == [0.0] * len(walked)
    assert list(zero.get_xdata()) == walked
    ticks = dict(
        zip(meter.get_yticks(), (label.get_text() for label in meter.get_yticklabels()), strict=True)
    )
    assert {ticks[y] for y in zero.get_ydata()} == {"0"}
    assert any(text.get_text() == "noise that was never there: 0" for text, _ in texts(fig))
    (dots,) = (line for line in coloured(above)[plots.NOISE] if line.get_marker() == ".")
    row = drift.row(kind)
    assert dots.get_ydata() == pytest.approx(row[N] - row[0], abs=1e-12)
    low, high = above.get_ylim()
    assert low < min(dots.get_ydata()) <= max(dots.get_ydata()) < high


def test_a_line_of_drift_would_not_hide_a_drift_of_the_functional_noise(values) -> None:
    from cards import drift

    other = {**values, "functional.constant.float32.1.drift": {"mean": 1e-4, "low": 0, "high": 2e-4}}
    (line,) = coloured(drift.Drift(other).draw(1, "float32").axes[1])[plots.ROAD]
    assert list(line.get_ydata()) == [2e-4]
    assert drift.Drift(other).alt(1, "float32").endswith("never there by 0.0001.")


def test_the_threshold_is_where_mergekit_goes_straight(values) -> None:
    from cards import drift

    assert np.cos(drift.THRESHOLD) == pytest.approx(0.9995, abs=1e-12)
    meter = drift.Drift(values).draw(1, "float32").axes[1]
    heights = [line.get_ydata()[0] for line in meter.lines if to_hex(line.get_color()) == plots.INK]
    assert drift.THRESHOLD in heights
    assert any(text.get_text().startswith("0.0316") for text in meter.texts)


def test_the_sentences_of_drift_hold_what_was_measured(values) -> None:
    from cards import drift

    card, said = drift.Drift(values), set()
    for kind in card.stops:
        for N in STOPS:
            sentence = card.alt(N, kind)
            numbers = [float(x) for x in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?:e[-+]?\d+)?", sentence)]
            assert N in numbers
            for noise in ("constant", "cosine"):
                mean = values[f"subtracted.{noise}.{kind}.{N}.drift"]["mean"]
                assert any(x == pytest.approx(mean, rel=0.05, abs=1e-15) for x in numbers)
            said.add(sentence)
    assert len(said) == 27

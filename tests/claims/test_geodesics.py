"""The numbered checks on arcs and angles, G1 to G4, G7, G10, and the claims of chapters 0 and 1."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import mpmath
import pytest
import torch
from torch import Tensor

from geolessons.alignment import random_renaming, rename
from geolessons.arcs import coefficients
from geolessons.data import digits
from geolessons.metrics import loss_and_accuracy
from geolessons.paths import Line, Slerp, evaluate, length, speed
from geolessons.running_example import adapt, pretrain
from geolessons.sphere import angle, slerp
from geolessons.studies.record import read
from geolessons.trees import axpy, norm, params_of

RESULTS = Path(__file__).parents[2] / "book" / "results"


def below(value: float) -> str:
    """A rounding-level number as a bound that any processor keeps: the power of ten above three times it.

    No bound is below 1e-13: there processors differ by more than that factor.
    """
    return "0 exactly" if value == 0 else f"below 1e{math.ceil(math.log10(max(3 * value, 1e-13)))}"


def pair_at(
    omega: float, shape: tuple[int, ...] = (128, 64), seed: int = 0, ratio: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Two float64 weights at a planted angle, the second `ratio` times as long."""
    g = torch.Generator().manual_seed(seed)
    u, r = (torch.randn(shape, generator=g, dtype=torch.float64) for _ in range(2))
    r = r - (r * u).sum() / (u * u).sum() * u
    return u, ratio * (math.cos(omega) * u + math.sin(omega) * r * u.norm() / r.norm())


def angle_to_40_digits(u: Tensor, v: Tensor) -> float:
    """The angle of the stored values, in multi-precision, by Kahan's formula."""
    with mpmath.workdps(40):
        a, b = ([mpmath.mpf(x) for x in W.double().flatten().tolist()] for W in (u, v))
        na, nb = (mpmath.sqrt(mpmath.fsum(x * x for x in w)) for w in (a, b))
        apart = mpmath.fsum((x * nb - y * na) ** 2 for x, y in zip(a, b, strict=True))
        together = mpmath.fsum((x * nb + y * na) ** 2 for x, y in zip(a, b, strict=True))
        return float(2 * mpmath.atan2(mpmath.sqrt(apart), mpmath.sqrt(together)))


def lora_pair(relative: float, rank: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    """W0 (96, 64) and W0 + B·A with ‖B·A‖ = relative·‖W0‖, float64."""
    g = torch.Generator().manual_seed(seed)
    W0 = torch.randn(96, 64, generator=g, dtype=torch.float64)
    BA = torch.randn(96, rank, generator=g, dtype=torch.float64) @ torch.randn(
        rank, 64, generator=g, dtype=torch.float64
    )
    return W0, W0 + relative * W0.norm() / BA.norm() * BA


@pytest.mark.claim("G1", paper="GLRA", source="GLRA, Eq. 2", expected="below 1e-6 relative, float32")
def test_the_arc_ends_where_it_should(measured) -> None:
    """SLERP starts at W₀ and ends at the adapted weights W₀ + sBA."""
    worst = 0.0
    for relative in (0.0, 1e-4, 0.1, 1.0):
        W0, W1 = (W.float() for W in lora_pair(relative))
        worst = max(worst, float((slerp(W0, W1, 0.0) - W0).norm() / W0.norm()))
        worst = max(worst, float((slerp(W0, W1, 1.0) - W1).norm() / W1.norm()))
    assert worst < 1e-6
    measured(below(worst))


@pytest.mark.claim(
    "G2",
    paper="GLRA",
    source="GLRA, 3.2",
    expected="equal lengths: constant to 1e-6 and 1e-5; else speed ratio above 1.5",
)
def test_length_and_speed_are_constant_on_a_sphere_only(measured) -> None:
    """On the arc the weights keep their length and move at constant speed."""
    W0, W1 = ({"W": W} for W in pair_at(1.0))
    road = Slerp(W0, W1)
    lengths = torch.stack([norm(road.at(i / 20)) for i in range(21)]) / norm(W0)
    speeds = torch.stack([speed(road, i / 20) for i in range(21)])
    assert float((lengths - 1).abs().max()) < 1e-6
    assert float(speeds.max() / speeds.min() - 1) < 1e-5
    measured(f"equal lengths: length varies by {below(float((lengths - 1).abs().max()))}")

    W0, W1 = ({"W": W} for W in pair_at(1.0, ratio=2.0))
    road = Slerp(W0, W1)
    speeds = torch.stack([speed(road, i / 200) for i in range(201)]) / norm(W0)
    assert float(speeds.max() / speeds.min()) > 1.5
    chord = float(norm(axpy(-1, W0, W1)) / norm(W0))
    measured(
        f"one twice as long, ω = 1: speed {float(speeds.min()):.2f} to {float(speeds.max()):.2f}, "
        f"length {float(length(road) / norm(W0)):.4f} against {chord:.4f} straight",
        verdict="within limits",
        limits="both ends of the same length",
    )


@pytest.mark.claim(
    "G3", paper="ours", source="ours, on GLRA, Eq. 2", expected="within 2 % of ω²/8 for ω up to 0.3"
)
def test_the_two_roads_are_omega_squared_over_eight_apart(measured) -> None:
    """At small angles the arc and the straight line are at most ω²/8 of ‖W₀‖ apart."""
    worst = 0.0
    for omega in (0.01, 0.03, 0.1, 0.3):
        W0, W1 = pair_at(omega)
        gaps = [
            float((slerp(W0, W1, i / 20) - (W0 + i / 20 * (W1 - W0))).norm() / W0.norm()) for i in range(21)
        ]
        worst = max(worst, abs(max(gaps) / (omega**2 / 8) - 1))
    assert worst < 0.02
    measured(f"the largest gap is within {100 * worst:.2f} % of ω²/8, for ω from 0.01 to 0.3")


@pytest.mark.claim("G4", paper="GLRA", source="GLRA, Eq. 2", expected="atan2 below 1e-4, arccos above 0.5")
def test_arccos_cannot_see_a_small_angle(measured) -> None:
    """The angle between two weights is the arccos of their cosine."""
    errors_arccos, errors_angle = [], []
    for seed in range(3):
        u, v = (W.float() for W in pair_at(1e-4, shape=(256, 392), seed=seed))
        true = angle_to_40_digits(u, v)
        cosine = (u * v).sum() / (u.norm() * v.norm())
        errors_arccos.append(abs(float(torch.arccos(cosine.clamp(-1, 1))) - true) / true)
        errors_angle.append(abs(float(angle(u, v)) - true) / true)
    assert max(errors_angle) < 1e-4
    assert min(errors_arccos) > 0.5
    measured(
        f"relative error above 0.5 by arccos, {below(max(errors_angle))} by the library, at 10⁻⁴ rad, "
        "against 40 digits of the stored values",
        verdict="within limits",
        limits="exact arithmetic; in float32, angles well above 3.5·10⁻⁴",
    )


@pytest.mark.claim(
    "G7",
    paper="ours",
    source="ours, on GLRA, Eq. 2",
    expected="radial part within 1 % of ω²t(1−t)/2 for ω up to 0.15; full rank",
)
def test_the_arc_lengthens_the_frozen_weights(measured) -> None:
    """Between its ends the arc also scales W₀, by 1 + ω²t(1−t)/2, so the update has full rank there."""
    worst = 0.0
    for omega in (0.02, 0.1153, 0.15):
        for t in (0.1, 0.4, 0.5, 0.9):
            f, g = coefficients(torch.tensor(omega, dtype=torch.float64), t)
            worst = max(worst, abs(float(f + g - 1) / (omega**2 * t * (1 - t) / 2) - 1))
    assert worst < 0.01
    W0, W1 = lora_pair(0.1)
    ranks = [int(torch.linalg.matrix_rank(slerp(W0, W1, t) - W0, rtol=1e-9)) for t in (0.3, 0.7)]
    assert ranks == [64, 64]
    assert int(torch.linalg.matrix_rank(slerp(W0, W1, 1.0) - W0, rtol=1e-9)) == 8
    measured(f"within {100 * worst:.1f} % for ω up to 0.15; rank 64 of 64 on the way, 8 at the end")


@pytest.mark.claim(
    "G10", paper="GLRA", source="GLRA, 3.2 and 3.4", expected="arc longer by ω²/24, within 5 %"
)
def test_the_straight_road_is_shorter(measured) -> None:
    """The arc is the shortest curve between two weights."""
    worst, excess = 0.0, 0.0
    for omega in (0.1, 0.3, 0.6):
        W0, W1 = ({"W": W} for W in pair_at(omega))
        excess = float(length(Slerp(W0, W1)) / norm(axpy(-1, W0, W1))) - 1
        assert excess > 0
        worst = max(worst, abs(excess / (omega**2 / 24) - 1))
    assert worst < 0.05
    measured(
        f"with the length of GLRA's Eq. 1 the arc is longer than the straight segment, by ω²/24 "
        f"within {100 * worst:.1f} % ({100 * excess:.2f} % at ω = 0.6)",
        verdict="within limits",
        limits="among curves that stay on a sphere",
    )


@pytest.mark.claim("G14", paper="GLRA", source="GLRA, limitations", expected="same answers, far away")
def test_distance_is_not_difference(measured) -> None:
    """Distance between parameters is only a proxy for distance between functions."""
    data = digits()
    model = pretrain(data, 0)
    W0 = params_of(model)
    there = rename(W0, random_renaming(W0, torch.Generator().manual_seed(0)))
    far = float(norm(axpy(-1, W0, there)) / norm(W0))
    logits = evaluate(Line(W0, there), model, lambda run: run(data.x_test), [0.0, 1.0]).values
    apart = float((logits[0] - logits[1]).abs().max())
    assert far > 1
    assert apart < 1e-10
    measured(f"neurons renamed: {far:.2f} of ‖W₀‖ away, answers differ by {below(apart)}")


@pytest.mark.claim("G15", paper="GLRA", source="GLRA, 3.2", expected="a jump would not shrink with the step")
def test_the_straight_road_has_no_jumps(measured) -> None:
    """Linear interpolation brings discontinuities."""
    data = digits("lying")
    model = pretrain(digits(), 0)
    W0 = params_of(model)
    road = Line(W0, adapt(model, data, 0))
    steps, jumps = (64, 512), []
    for n in steps:
        curve = evaluate(
            road, model, loss_and_accuracy(data.x_test, data.y_test), [i / n for i in range(n + 1)]
        )
        losses = [loss for loss, _ in curve.values]
        jumps.append(max(abs(b - a) for a, b in pairwise(losses)))
    ratio = jumps[0] / jumps[1]
    assert ratio == pytest.approx(steps[1] / steps[0], rel=0.15)
    measured(
        f"steps eight times finer make the largest change of the loss {ratio:.1f} times smaller",
        verdict="does not hold here",
    )


@pytest.mark.claim(
    "G16", paper="ours", source="ours, on mergekit's slerp", expected="at most 1.25e-4 of ‖W0‖"
)
def test_a_tool_may_go_straight_below_its_threshold(measured) -> None:
    """At cos ω = 0.9995, below which mergekit goes straight, the two roads are 1.25·10⁻⁴ of ‖W₀‖ apart."""
    omega = math.acos(0.9995)
    W0, W1 = pair_at(omega)
    gap = float((slerp(W0, W1, 0.5) - (W0 + W1) / 2).norm() / W0.norm())
    assert gap <= 1.2501e-4
    measured(f"at its threshold, ω = {omega:.4f}, the skipped correction is {gap:.3g} of ‖W₀‖")


@pytest.mark.claim(
    "V15", paper="DELoRA", source="DELoRA, abstract", expected="depends on learning rate and width"
)
def test_fine_tuning_is_not_always_subtle(measured) -> None:
    """Fine-tuning is a subtle movement of the weights (we say subtle below a tenth of their length)."""
    on_digits, on_mnist = read(RESULTS / "moves.json"), read(RESULTS / "moves_mnist.json")
    for name, values, rates, reads in (
        ("digits", on_digits, ("lying.0.001", "lying.0.01"), ("lying.0.001.read", "lying.0.01.read")),
        ("MNIST", on_mnist, ("0.0001", "0.01"), ("0.0001.after", "0.01.after")),
    ):
        low, high = (values[f"{rate}.share"] for rate in rates)
        assert low["n"] == high["n"] == 5
        assert 0.1 < low["low"] < low["high"] < high["low"], (
            "subtle nowhere, and larger with the learning rate"
        )
        small, large = (f"{r['mean']:.2f} ({r['low']:.2f} to {r['high']:.2f})" for r in (low, high))
        first, last = (rate.removeprefix("lying.") for rate in rates)
        less, more = (100 * values[read]["mean"] for read in reads)
        measured(
            f"{name}: ‖W₁ − W₀‖/‖W₀‖ is {small} at learning rate {first}, where {less:.0f} % are read, and "
            f"{large} at {last}, where {more:.0f} % are; n = 5",
            verdict="does not hold here",
        )

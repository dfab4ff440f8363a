"""The numbered checks on the rulers of four dense answers, M1 to M4."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from geolessons.data.dense import IGNORE, TASKS
from geolessons.multitask_losses import balanced_cross_entropy, normals_l1, pixel_cross_entropy
from geolessons.multitask_metrics import AngleErrors, MeanIoU, NormalAngles, SaliencyIoU

DOUBLE = torch.float64
CLASSES = 7
LOSS = {"saliency": balanced_cross_entropy, "normals": normals_l1}


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def turned(degrees: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Predictions of any length at these angles (n,) from random normals; two of (1, 3, 1, n)."""
    g = draw(seed)
    normal, other = (torch.randn(len(degrees), 3, generator=g, dtype=DOUBLE) for _ in range(2))
    normal = F.normalize(normal, dim=1)
    across = F.normalize(torch.linalg.cross(normal, other, dim=1), dim=1)
    a = degrees.deg2rad()[:, None]
    length = 0.1 + torch.rand(len(degrees), 1, generator=g, dtype=DOUBLE)
    p = length * (a.cos() * normal + a.sin() * across)
    return p.mT.reshape(1, 3, 1, -1), normal.mT.reshape(1, 3, 1, -1)


def errors(prediction: Tensor, label: Tensor) -> AngleErrors:
    meter = NormalAngles()
    meter.update(prediction, label)
    return meter.compute()


def benchmark_rmse(prediction: Tensor, label: Tensor) -> float:
    """Under this name: arccos of the product of unit vectors in degrees, summed, over their number."""
    cosine = (F.normalize(prediction, dim=1) * label).sum(1).clamp(-1, 1)
    return float(cosine.arccos().rad2deg().sum()) / cosine.numel()


def spread(mean: float, std: float, n: int, seed: int) -> Tensor:
    """Angles (n,) with a long tail, whose mean and deviation are exactly these."""
    x = torch.rand(n, generator=draw(seed), dtype=DOUBLE).log().neg().sqrt()  # Rayleigh's law: never below 0
    x = mean + std * (x - x.mean()) / x.std(correction=0)
    assert float(x.min()) >= 0
    assert float(x.max()) <= 180
    return x


@pytest.mark.claim(
    "M1",
    paper="DELoRA",
    source="DELoRA, Table 1, and MTLoRA's evaluation code",
    expected="the mean angle; equal only if all angles are",
)
def test_what_is_called_rmse(measured) -> None:
    """The error of normals that the benchmark calls rmse is the root of the mean squared angle."""
    ratios = []
    for seed in range(20):
        mean = 5 + 2 * seed
        angles = spread(mean, (0.02 + 0.02 * seed) * mean, 2_000, seed)
        pair = turned(angles, seed)
        found = errors(*pair)
        assert benchmark_rmse(*pair) == pytest.approx(found.mean_angle_deg, rel=1e-9)
        assert found.mean_angle_deg == pytest.approx(mean, rel=1e-9)
        assert found.rmse_deg == pytest.approx(math.hypot(mean, float(angles.std(correction=0))), rel=1e-9)
        ratios.append(found.rmse_deg / found.mean_angle_deg)
        one = turned(angles.new_tensor([mean] * 500 + [mean + 1]), seed)
        assert errors(*one).rmse_deg > errors(*one).mean_angle_deg * (1 + 1e-9), "one angle of 501 differs"
    assert min(ratios) > 1.0001
    apart = []
    for degrees in (0.5, 10.0, 17.97, 90.0, 179.0):
        found = errors(*turned(torch.full((500,), degrees, dtype=DOUBLE), seed=1))
        apart.append(found.rmse_deg / found.mean_angle_deg - 1)
    assert max(abs(x) for x in apart) < 1e-9
    rayleigh = torch.rand(200_000, generator=draw(0), dtype=DOUBLE).log().neg().sqrt()
    printed = errors(*turned(19.23 * rayleigh / rayleigh.mean(), seed=2))
    measured(
        "sum of angles over their number, as the code has it, is the mean angle; the root mean square is "
        f"{min(ratios):.4f} to {max(ratios):.2f} times as much in 20 sets whose spread is 2 to 40 % of it; "
        f"the printed {printed.mean_angle_deg:.2f}° would be {printed.rmse_deg:.1f}° under Rayleigh's law",
        verdict="within limits",
        limits="only where all angles are equal",
    )


@pytest.mark.claim(
    "M2",
    paper="ours",
    source="ours, on the benchmark's saliency mIoU",
    expected="1 for a perfect mask, less with a pixel wrong",
)
def test_a_perfect_saliency_mask(measured) -> None:
    """A perfect saliency mask has an mIoU of 1, whatever it covers and however pictures are batched."""
    wrong = []
    for seed in range(10):
        g = draw(seed)
        label = (torch.rand(5, 9, 8, generator=g) < 0.3).long()
        label[0], label[1] = 0, 1  # nothing, and all
        label[2, :3] = IGNORE
        logits = torch.where(label == 1, 3.0, -3.0)[:, None]
        for size in (1, 2, 5):
            meter = SaliencyIoU()
            for p, q in zip(logits.split(size), label.split(size), strict=True):
                meter.update(p, q)
            assert meter.pictures == 5
            assert meter.compute() == 1
            assert bool((meter.curve() == 1).all())
        x, y = int(torch.randint(9, (1,), generator=g)), int(torch.randint(8, (1,), generator=g))
        logits[4, 0, x, y] *= -1
        meter = SaliencyIoU()
        meter.update(logits, label)
        wrong.append(meter.compute())
    assert max(wrong) < 1
    between = SaliencyIoU()  # the order is right, but no threshold looks between 0.26 and 0.29
    label = torch.tensor([[[1, 0, 0, 0]]])
    between.update(torch.tensor([0.29, 0.26, 0.26, 0.26]).logit().reshape(1, 1, 1, 4), label)
    assert between.compute() < 1
    measured(
        "1 exactly, at all 15 thresholds, with empty, full and partly unknown pictures, alone or in batches; "
        f"one of 336 known pixels wrong: {min(wrong):.3f} to {max(wrong):.3f}; the right order between two "
        f"thresholds (0.29 on one pixel, 0.26 on three) earns {between.compute():.2f}"
    )


def example(task: str, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Prediction, label, and where the label says something."""
    g = draw(seed)
    known = torch.rand(3, 8, 9, generator=g) < 0.6
    if task == "normals":
        p, label = (torch.randn(3, 3, 8, 9, generator=g, dtype=DOUBLE) for _ in range(2))
        return p, F.normalize(label, dim=1).where(known[:, None], 0), known
    classes, channels = (2, 1) if task == "saliency" else (CLASSES, CLASSES)
    label = torch.randint(classes, (3, 8, 9), generator=g).where(known, IGNORE)
    return torch.randn(3, channels, 8, 9, generator=g, dtype=DOUBLE), label, known


def graded(task: str, prediction: Tensor, label: Tensor) -> tuple[float, ...]:
    meter = {"saliency": SaliencyIoU, "normals": NormalAngles}.get(task, lambda: MeanIoU(CLASSES))()
    meter.update(prediction, label)
    if task == "normals":
        return tuple(meter.compute())
    if task == "saliency":
        return (meter.compute(), *meter.curve().tolist())
    return (meter.compute(), meter.compute(absent="left out"), *meter.per_class().tolist())


def gradient(task: str, prediction: Tensor, label: Tensor) -> Tensor:
    p = prediction.clone().requires_grad_()
    LOSS.get(task, pixel_cross_entropy)(p, label).backward()
    assert p.grad is not None
    return p.grad


@pytest.mark.claim(
    "M3", paper="ours", source="ours, on the benchmark's losses and metrics", expected="no change at all"
)
def test_unknown_pixels_have_no_say(measured) -> None:
    """Pixels without a known label change no metric of the four tasks, and no gradient."""
    tried, off = 0, 0.0
    for task in TASKS:
        for seed in range(10):
            p, label, known = example(task, seed)
            grades, slope = graded(task, p, label), gradient(task, p, label)
            assert not bool(slope.where(~known[:, None], 0).any())
            assert bool(slope.where(known[:, None], 0).any())
            noise = 5 * torch.randn(p.shape, generator=draw(100 + seed), dtype=DOUBLE)
            for other in (noise, torch.full_like(p, 1e6), torch.full_like(p, math.nan)):
                moved = p.where(known[:, None], other)
                assert graded(task, moved, label) == grades
                off = max(off, float((gradient(task, moved, label) - slope).abs().max()))
                tried += 1
            assert graded(task, p.where(~known[:, None], noise), label) != grades, "known ones do have"
            # a picture of which nothing is known, and the unknown pixels cut off
            nothing = torch.full_like(label[:1], 0 if task == "normals" else IGNORE)
            more = torch.cat([p, noise[:1]]), torch.cat([label, nothing])
            assert graded(task, *more) == pytest.approx(grades, rel=1e-12)
            off = max(off, float((gradient(task, *more)[:3] - slope).abs().max()))
            if task != "saliency":
                row, answers = (x.movedim(1, -1)[known] if x.dim() == 4 else x[known] for x in (p, label))
                answers = answers.mT.reshape(1, 3, 1, -1) if task == "normals" else answers.reshape(1, 1, -1)
                cut = row.mT.reshape(1, p.shape[1], 1, -1)
                assert graded(task, cut, answers) == pytest.approx(grades, rel=1e-12)
    assert off < 1e-14
    measured(
        f"{tried} changes of what is predicted there, NaN among them, and pictures without a known pixel "
        "added: every metric the same, gradients there exactly 0 and elsewhere the same to 1e-14"
    )


@pytest.mark.claim(
    "M4",
    paper="ours",
    source="ours, on DELoRA, Table 1",
    expected="one order by the mean, the other by the root mean square",
)
def test_one_name_and_two_orders(measured) -> None:
    """Mean angle and root mean square angle, two metrics under one name, can rank two models differently."""
    n = 1_000
    even = errors(*turned(torch.full((n,), 20.0, dtype=DOUBLE), seed=0))
    tail = errors(*turned(torch.tensor([10.0] * (n * 9 // 10) + [100.0] * (n // 10), dtype=DOUBLE), seed=1))
    assert tail.mean_angle_deg < even.mean_angle_deg
    assert tail.rmse_deg > even.rmse_deg
    # the two lowest rows of the printed column: what spread turns their order?
    first, second, std = 18.96, 19.23, 8.0
    turning = math.sqrt(second**2 - first**2 + std**2)
    orders = []
    for more in (-0.05, 0.05):
        a, b = (
            errors(*turned(spread(mean, deviation, 20_000, seed), seed))
            for mean, deviation, seed in ((first, turning + more, 2), (second, std, 3))
        )
        assert a.mean_angle_deg < b.mean_angle_deg
        orders.append(a.rmse_deg < b.rmse_deg)
    assert orders == [True, False]
    measured(
        f"all angles 20°: mean {even.mean_angle_deg:.1f}, root mean square {even.rmse_deg:.1f}; nine tenths "
        f"at 10° and one at 100°: {tail.mean_angle_deg:.1f} and {tail.rmse_deg:.1f}; the printed {first} and "
        f"{second} change places once their spreads are {math.ceil(100 * turning) / 100:.2f}° and {std:.2f}°"
    )

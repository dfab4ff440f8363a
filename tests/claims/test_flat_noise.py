"""Claims on Flat-LoRA's noise: its size, what it does to outputs, that it can be undone; and its tables."""

from __future__ import annotations

import itertools
import math
from statistics import fmean

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geolessons.adapters import LoRA
from geolessons.attaching import attach
from geolessons.draws import row_noise, row_std
from geolessons.inplace import in_place_noise
from geolessons.noise import FlatNoise
from geolessons.schedules import cosine

DOUBLE = torch.float64
SIGMA = 0.15


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=draw(seed), dtype=DOUBLE)


def joint_share(W: Tensor, X: Tensor, draws: int, seed: int) -> Tensor:
    """Variance that noise adds to each output beside that without noise, inputs and noise varying; (d,)."""
    g, clean = draw(seed), X @ W.mT
    with_noise = torch.stack([X @ (W + row_noise(W, SIGMA, g)).mT for _ in range(draws)])  # (draws, n, d)
    return with_noise.flatten(0, 1).var(0) / clean.var(0) - 1


def noise_share(W: Tensor, X: Tensor, draws: int, seed: int) -> Tensor:
    """The same by parts: the mean square of ε·x beside the variance of W·x; they are uncorrelated; (d,)."""
    g = draw(seed)
    added = torch.stack([(X @ row_noise(W, SIGMA, g).mT).square().mean(0) for _ in range(draws)])
    return added.mean(0) / (X @ W.mT).var(0)


@pytest.mark.claim(
    "F1", paper="Flat-LoRA", source="Flat-LoRA, Eq. 5 and 3.2", expected="the variance, not the size"
)
def test_the_size_of_the_noise(measured) -> None:
    """The noise's magnitude is scaled by 1/k, for rows of k inputs."""
    W = normal(4, 50, seed=0) * torch.tensor([0.1, 1.0, 10.0, 100.0], dtype=DOUBLE)[:, None]
    g = draw(1)
    eps = torch.stack([row_noise(W, SIGMA, g) for _ in range(4_000)])  # 200,000 numbers a row
    found = eps.permute(1, 0, 2).flatten(1).std(1) / (SIGMA * W.norm(dim=1) / math.sqrt(50))
    off = float((found - 1).abs().max())
    assert off < 0.02
    correlation = torch.corrcoef(eps[:, :, :12].flatten(1).mT) - torch.eye(48, dtype=DOUBLE)
    assert correlation.abs().mean() < 0.02
    sizes = []
    for k in (64, 1024):  # rows of length 1: k times the deviation, and √k times it
        W = F.normalize(normal(200, k, seed=2), dim=1)
        sizes.append((k, float(row_noise(W, SIGMA, draw(3)).std())))
    fall = math.log(sizes[0][1] / sizes[1][1]) / math.log(1024 / 64)
    assert abs(fall - 0.5) < 0.01
    measured(
        f"deviations of rows of very different length are within {100 * off:.1f} "
        f"% of σ‖row‖/√k (Eq. 5); between k = 64 and 1,024 the deviation falls as k to the −{fall:.2f}",
        verdict="within limits",
        limits="the variance scales with 1/k, as in Eq. 5; the deviation with 1/√k",
    )


@pytest.mark.claim(
    "F2", paper="Flat-LoRA", source="Flat-LoRA, Eq. 6 and 7", expected="1 + σ² where inputs are centred"
)
def test_the_variance_law(measured) -> None:
    """With the noise the variance of each output is 1 + σ² times what it was."""
    k, d = 64, 64
    W = normal(d, k, seed=0)
    X = normal(4_000, k, seed=1)
    centred = float(joint_share(W, X, 40, 2).mean())
    assert abs(centred - SIGMA**2) < 0.002
    R = normal(4_000, k, seed=3).relu()
    joint = float(joint_share(W, R, 40, 4).mean())
    wanted = SIGMA**2 * float(R.square().mean() / R.var())
    assert abs(joint / wanted - 1) < 0.05
    fixed = []
    for seed in range(40):
        noisy = R @ (W + row_noise(W, SIGMA, draw(100 + seed))).mT
        fixed.append(float((noisy.var(0) / (R @ W.mT).var(0)).mean() - 1))
    assert abs(fmean(fixed) - SIGMA**2) < 0.005
    thin = normal(4_000, 8, seed=5) @ normal(8, k, seed=6)  # inputs of rank 8
    shares = noise_share(W, thin, 100, 7)
    low, high = float(shares.min()), float(shares.max())
    assert low < SIGMA**2 / 1.5
    assert high > SIGMA**2 * 1.5
    measured(
        f"σ = {SIGMA}, so σ² = {SIGMA**2:.4f}: {centred:.4f} for centred inputs; {joint:.4f} after a ReLU "
        f"where inputs and noise vary, {fmean(fixed):.4f} there at fixed noise; from {low:.3f} "
        f"to {high:.3f} by output for inputs of rank 8",
        verdict="within limits",
        limits="uncorrelated inputs, and centred ones where the noise varies too",
    )


@pytest.mark.claim("F3", paper="Flat-LoRA", source="Flat-LoRA, 3.2", expected="the same at all widths")
def test_the_share_does_not_depend_on_the_width(measured) -> None:
    """The noise's share in the outputs' variance is the same at any width k."""
    shares, raw = {}, {}
    for k in (64, 4096):
        W, X = normal(32, k, seed=k), normal(500, k, seed=k + 1)
        shares[k] = float(noise_share(W, X, 40, 2).mean())
        plain = W.norm(dim=1, keepdim=True) * SIGMA  # without the 1/√k
        noise = torch.stack(
            [(X @ (plain * torch.randn(W.shape, generator=g, dtype=DOUBLE)).mT) for g in map(draw, range(5))]
        )
        raw[k] = float(noise.flatten(0, 1).var(0).mean() / (X @ W.mT).var(0).mean())
    assert abs(shares[64] / shares[4096] - 1) < 0.1
    assert raw[4096] > 30 * raw[64]
    measured(
        f"share {shares[64]:.4f} at k = 64 and {shares[4096]:.4f} at k = 4,096; without the 1/√k it is "
        f"{raw[64]:.2f} and {raw[4096]:.0f}"
    )


@pytest.mark.claim("F4", paper="Flat-LoRA", source="Flat-LoRA, 3.3, and its code", expected="holds")
def test_the_schedule_of_sigma(measured) -> None:
    """The noise grows along a cosine, from none at the first step to σ."""
    N = 200
    factors = [cosine(i, N) for i in range(N + 1)]
    assert factors[0] == 0
    assert factors[-1] == 1
    assert factors[N // 2] == 0.5
    assert all(a < b for a, b in itertools.pairwise(factors))
    assert all(
        math.isclose(f, (1 - math.cos(math.pi * i / N)) / 2, abs_tol=1e-15) for i, f in enumerate(factors)
    )
    measured(f"0 at the start, {factors[N // 4]:.3f} after a quarter, 0.5 half-way, 1 at the end")


@pytest.mark.claim(
    "F5", paper="Flat-LoRA", source="Flat-LoRA, 3.4", expected="nearly in float32, not in bfloat16"
)
def test_subtracting_the_noise_again(measured) -> None:
    """A stored seed is enough to take the noise off the weights again."""
    W = normal(64, 256, seed=0)
    drifts = {}
    for dtype in (torch.float32, torch.bfloat16):
        start = W.to(dtype)
        for restore in ("copy", "seed"):
            held = {"W": start.clone()}
            for step in range(1_000):
                with in_place_noise(held, 0.05, seed=0, step=step, restore=restore):  # type: ignore[arg-type]
                    pass
            drifts[dtype, restore] = float(
                (held["W"].double() - start.double()).norm() / start.double().norm()
            )
        model = nn.Sequential(nn.Linear(256, 64, dtype=dtype))
        attach(model, "0", lambda name, W: LoRA(W.shape, 2, generator=draw(0), dtype=W.dtype))
        model[0].base_weight.data.copy_(start)
        for step in range(1_000):
            with FlatNoise(model, 0.05, step=step):
                pass
        assert torch.equal(model[0].base_weight, start)
    assert drifts[torch.float32, "copy"] == drifts[torch.bfloat16, "copy"] == 0
    single, half = drifts[torch.float32, "seed"], drifts[torch.bfloat16, "seed"]
    assert 0 < single < 1e-5
    assert half > 1e-3
    measured(
        f"after 1,000 steps at σ = 0.05 the weights are off by {single:.0e} of their length in float32 and "
        f"{100 * half:.1f} % in bfloat16; a copy, and noise that is never stored in them, give each bit back",
        verdict="within limits",
        limits="float32, and there nearly",
    )


@pytest.mark.claim("F7", paper="ours", source="ours, on Flat-LoRA, 3.4", expected="bit for bit")
def test_the_same_noise_is_drawn_again(measured) -> None:
    """The noise of a step can be drawn again bit for bit, and no global generator is touched."""
    g = draw(0)
    model = nn.Sequential(*(nn.Linear(16, 16, bias=False) for _ in range(3)))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=g))
    attach(model, "*", lambda name, W: LoRA(W.shape, 2, generator=g))
    before = torch.get_rng_state()
    x = torch.eye(16)
    with FlatNoise(model, SIGMA, seed=1, step=5) as noise:
        for name in noise.layers:
            layer = model.get_submodule(name)
            assert torch.equal(layer(x).mT, layer.base_weight + noise.draw(name))
            assert torch.equal(noise.draw(name), noise.draw(name))
        model(x).sum().backward()
    assert torch.equal(before, torch.get_rng_state())
    measured(
        "three layers: the noise drawn again is that in the outputs, bit for bit; global state unchanged"
    )


@pytest.mark.claim(
    "F17", paper="Flat-LoRA", source="Flat-LoRA, 3.2", expected="variance bounded, share compounds"
)
def test_layer_norm_and_growth(measured) -> None:
    """Layer norm prevents that the noise grows exponentially through the layers."""
    k, depth, count = 256, 8, 8
    shares: dict[bool, list[float]] = {True: [], False: []}
    sizes = []
    for seed in range(count):
        layers = [normal(k, k, seed=100 * seed + i) / math.sqrt(k) for i in range(depth)]
        x = normal(100, k, seed=seed + 5_000)
        for normed in (True, False):
            clean, noisy, g = x, x, draw(seed)
            for W in layers:
                if normed:
                    clean, noisy = (F.layer_norm(y, (k,)) for y in (clean, noisy))
                clean, noisy = clean @ W.mT, noisy @ (W + row_noise(W, SIGMA, g)).mT
            if normed:
                shares[True].append(float(1 - F.cosine_similarity(clean, noisy).square().mean()))
                sizes.append(float(noisy.var()))
            else:
                shares[False].append(float(noisy.var() / clean.var() - 1))
    bounded, compound = fmean(shares[True]), 1 - (1 + SIGMA**2) ** -depth
    assert abs(bounded - compound) < 0.02
    size = fmean(sizes)
    assert abs(size - (1 + SIGMA**2)) < 0.1
    assert abs(fmean(shares[False]) - ((1 + SIGMA**2) ** depth - 1)) < 0.1
    measured(
        f"eight layers at σ = {SIGMA}: with layer norm the variance of the outputs stays at {size:.2f}, and "
        f"the noise's share is {bounded:.3f}, where compounding predicts {compound:.3f}; without it the "
        f"variance grows by {fmean(shares[False]):.2f}, predicted {(1 + SIGMA**2) ** depth - 1:.2f}",
        verdict="within limits",
        limits="the variance is bounded; the share of the noise compounds all the same",
    )


T5 = {  # Flat-LoRA, Table 1: MNLI, SST2, CoLA, QNLI, MRPC, and the printed mean
    "Full FT": ([86.19, 94.15, 82.84, 93.10, 89.22], 89.10),
    "LoRA r8": ([86.24, 94.55, 82.20, 93.06, 88.97], 89.00),
    "Flat-LoRA r8": ([86.20, 94.75, 83.19, 93.16, 89.59], 89.38),
    "LoRA r16": ([86.49, 94.52, 82.89, 92.97, 88.89], 89.15),
    "Flat-LoRA r16": ([86.51, 94.84, 84.08, 93.28, 89.83], 89.71),
}
CLIP = {  # Table 2: CIFAR-10, CIFAR-100, Cars, SVHN, DTD, and the printed mean
    "Full FT": ([97.99, 89.06, 73.30, 97.44, 76.80], 86.92),
    "LoRA r8": ([97.90, 87.74, 73.22, 97.49, 76.86], 86.64),
    "Flat-LoRA r8": ([98.09, 88.64, 74.17, 97.59, 77.51], 87.20),
    "LoRA r16": ([97.99, 88.12, 73.80, 97.56, 77.34], 86.92),
    "Flat-LoRA r16": ([98.21, 89.27, 74.89, 97.71, 78.24], 87.66),
}
GAINS = {  # Tables 1 and 2: LoRA and Flat-LoRA, each with its deviation over 3 runs
    "CoLA r8": (82.20, 0.22, 83.19, 0.38),
    "CoLA r16": (82.89, 0.44, 84.08, 0.31),
    "CIFAR-100 r8": (87.74, 0.13, 88.64, 0.23),
    "MRPC r8": (88.97, 0.42, 89.59, 0.37),
    "MRPC r16": (88.89, 0.64, 89.83, 0.64),
    "Cars r8": (73.22, 0.53, 74.17, 0.71),
    "DTD r8": (76.86, 0.34, 77.51, 0.28),
    "MNLI r8": (86.24, 0.02, 86.20, 0.04),
}


@pytest.mark.claim("F13", paper="Flat-LoRA", source="Flat-LoRA, Tables 1 and 2", expected="all but one mean")
def test_the_means_of_the_printed_tables(measured) -> None:
    """The printed means are the means of the printed rows."""
    off = [
        (name, fmean(row), printed)
        for table in (T5, CLIP)
        for name, (row, printed) in table.items()
        if abs(fmean(row) - printed) > 0.0051
    ]
    assert [name for name, *_ in off] == ["LoRA r16"]
    ((name, mean, printed),) = off
    gain, lead = fmean(CLIP["Flat-LoRA r16"][0]) - mean, fmean(CLIP["Flat-LoRA r8"][0]) - mean
    measured(
        f"nine of ten; {name} on images is {mean:.2f}, printed {printed:.2f}: the gain quoted as 0.74 is "
        f"{gain:.2f}, and the lead of rank 8 over LoRA of rank 16 quoted as 0.28 is {lead:.2f}",
        verdict="within limits",
        limits="all means but one",
    )


@pytest.mark.claim("F20", paper="Flat-LoRA", source="Flat-LoRA, 4.4 and Table 3", expected="0.03 and 0.13")
def test_the_gain_over_earlier_methods(measured) -> None:
    """Flat-LoRA outperforms earlier methods by 0.53."""
    earlier = {"LoRA": (82.20, 88.03), "PiSSA": (82.44, 88.96), "LoRA-GA": (81.83, 87.58)}
    earlier |= {"DoRA": (83.16, 89.46), "LoRA+": (81.65, 89.30)}
    gains = [83.19 - max(row[0] for row in earlier.values()), 89.59 - max(row[1] for row in earlier.values())]
    assert max(gains) < 0.53
    measured(
        f"against the best earlier row of its own table, DoRA, it gains {gains[0]:.2f} on CoLA and "
        f"{gains[1]:.2f} on MRPC; 0.53 cannot be derived from the table",
        verdict="does not hold here",
    )


@pytest.mark.claim(
    "F21", paper="ours", source="ours, on Flat-LoRA, Tables 1 and 2", expected="some above chance"
)
def test_gains_beside_chance(measured) -> None:
    """With three runs each, the single gains of the printed tables can be told from chance."""
    from scipy.stats import t as student

    told = {}
    for name, (a, sa, b, sb) in GAINS.items():
        va, vb = sa**2 / 3, sb**2 / 3
        welch, freedom = (b - a) / math.sqrt(va + vb), (va + vb) ** 2 / (va**2 / 2 + vb**2 / 2)
        told[name] = (welch, abs(welch) > student.ppf(0.975, freedom))
    yes = [f"{name} (t = {t:.1f})" for name, (t, clear) in told.items() if clear]
    no = [f"{name} ({t:.1f})" for name, (t, clear) in told.items() if not clear]
    assert yes
    assert no
    measured(
        f"Welch's t at 5 %: {', '.join(yes)}; not {', '.join(no)}",
        verdict="within limits",
        limits=f"{len(yes)} of the {len(told)} gains looked at",
    )


def test_deviations_scale_with_the_merged_rows() -> None:
    """What the claims above rest on: row_std is σ‖row‖/√k."""
    W = normal(3, 7, seed=0)
    assert torch.allclose(row_std(W, 0.2), 0.2 * W.square().mean(1).sqrt())

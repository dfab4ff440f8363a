"""Normal numbers from a table: each number's law, that of a pair, of sums, and that bits alone decide."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from geolessons import pairs
from geolessons.pairs import normal_pairs

DOUBLE = torch.float64


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def points() -> Tensor:
    """All points of the table, as likely as each other: (65,536, 2)."""
    return torch.view_as_real(pairs._points(DOUBLE, torch.device("cpu")))


@pytest.fixture(scope="module")
def million() -> Tensor:
    return normal_pairs(torch.ones(1000, dtype=DOUBLE), 1000, drawn(3))


def distance(x: Tensor, distribution: Tensor) -> float:
    """Kolmogorov's: the widest gap between the law of equally likely x and a distribution function there."""
    x, at = x.flatten().sort()
    values, counts = torch.unique_consecutive(x, return_counts=True)
    above = counts.cumsum(0) / len(x)
    wanted = distribution.flatten()[at][counts.cumsum(0) - 1]
    assert len(values) == len(wanted)
    return float(torch.maximum((above - wanted).abs(), (above - counts / len(x) - wanted).abs()).max())


def of_normal(x: Tensor) -> float:
    return distance(x, torch.from_numpy(stats.norm.cdf(x.numpy())))


# --- the table


def test_each_number_has_the_moments_of_a_normal_one_and_its_distribution(points):
    assert points.shape == (65536, 2)
    for x in points.T:
        assert len(x.unique()) == 32768
        assert x.unique(return_counts=True)[1].tolist() == [2] * 32768
        for order, wanted, close in (
            (1, 0, 1e-12),
            (2, 1, 1e-12),
            (3, 0, 1e-11),
            (4, 3, 2e-3),
            (6, 15, 0.06),
        ):
            assert float((x**order).mean()) == pytest.approx(wanted, abs=close)
        assert of_normal(x) < 2.1e-5
        assert float(x.max()) == pytest.approx(4.17, abs=0.005)
        assert float(x.max()) == -float(x.min())


def test_the_numbers_of_a_pair_are_nearly_independent(points):
    x, y = points.T
    assert abs(float((x * y).mean())) < 1e-12
    assert abs(float((x * y**3).mean())) < 1e-11
    assert float((x**2 * y**2).mean()) == pytest.approx(1, abs=1e-3)
    assert float((x**4 * y**4).mean()) == pytest.approx(9, rel=1e-2)
    for angle in torch.linspace(0, math.pi, 13, dtype=DOUBLE).tolist():
        assert of_normal(x * math.cos(angle) + y * math.sin(angle)) < 1e-3
    away = x**2 + y**2
    assert distance(away, torch.from_numpy(stats.chi2(2).cdf(away.numpy()))) < 1e-3
    # each of 64 by 64 cells that are as likely as each other has its share of points, up to a few
    cells = (torch.from_numpy(stats.norm.cdf(points.numpy())) * 64).long()
    counts = torch.zeros(64, 64).index_put_(tuple(cells.T), torch.ones(65536), accumulate=True)
    assert float((counts - 16).abs().max()) <= 4


# --- draws


def test_a_million_draws_pass_where_a_normal_generator_does(million):
    n = million.numel()
    assert abs(float(million.mean())) < 4 / n**0.5
    assert abs(float(million.square().mean()) - 1) < 4 * (2 / n) ** 0.5
    assert abs(float((million**4).mean()) - 3) < 4 * (96 / n) ** 0.5
    flat = million.flatten()
    assert stats.kstest(flat[::10].numpy(), "norm").pvalue > 1e-3
    for lag in (1, 2, 3, 4, 8, 1000):
        assert abs(float((flat[lag:] * flat[:-lag]).mean())) < 4.5 / n**0.5
        assert abs(float(((flat[lag:] ** 2 - 1) * (flat[:-lag] ** 2 - 1)).mean())) < 4.5 * 2 / n**0.5
    # all points of the table come, each about as often
    which = torch.unique(million.view(-1, 2), dim=0, return_counts=True)[1]
    expected = n / 2 / 65536
    chi2 = float((which - expected).square().sum() / expected) + expected * (65536 - len(which))
    assert abs(chi2 - 65535) < 5 * (2 * 65535) ** 0.5


def test_what_a_layer_does_with_the_noise_is_normal(million):
    x = torch.rand(1000, generator=drawn(1), dtype=DOUBLE)
    for weights in (x, torch.ones(1000, dtype=DOUBLE), x * (torch.arange(1000) % 2)):
        found = million @ weights / weights.norm()
        assert stats.kstest(found.numpy(), "norm").pvalue > 1e-3
        assert float(found.square().mean()) == pytest.approx(1, abs=4 * (2 / 1000) ** 0.5)


def test_rows_have_the_deviation_asked_for_and_the_weight_is_added():
    std = torch.tensor([0.0, 0.5, 20.0])
    W = torch.randn(3, 401, generator=drawn(1))
    noise = normal_pairs(std, 401, drawn(2))
    assert noise.shape == (3, 401)
    assert not noise[0].any()
    assert torch.allclose(noise.std(1)[1:] / std[1:], torch.ones(2), atol=0.15)
    assert torch.equal(normal_pairs(std, 401, drawn(2), W), W + noise)
    half = normal_pairs(std, 401, drawn(2), W.bfloat16())
    assert half.dtype == torch.float32
    assert torch.equal(half, W.bfloat16() + noise)


# --- bits


@pytest.mark.parametrize(("d", "k"), [(3, 3), (10, 1), (2, 4), (1, 7), (5, 0)])
def test_every_shape_is_drawn_in_one_block_where_memory_is_not_cut(d, k):
    """As on a GPU: the stand-in takes the same branch."""
    there = normal_pairs(torch.ones(d, device="meta"), k, drawn())
    assert (there.shape, there.device.type) == ((d, k), "meta")
    assert normal_pairs(torch.ones(d), k, drawn()).shape == (d, k)


@pytest.mark.parametrize("k", [1, 2, 5, 8, 33, 1024])
@pytest.mark.parametrize("at_once", [1, 100, 4000])
def test_the_cut_into_blocks_does_not_show(monkeypatch, k, at_once):
    std = torch.rand(37, generator=drawn(0))
    whole = normal_pairs(std, k, drawn(5))
    monkeypatch.setattr(pairs, "AT_ONCE", at_once)
    assert torch.equal(whole, normal_pairs(std, k, drawn(5)))


def test_a_word_is_four_points_the_lowest_bits_first(points):
    d, k = 3, 7  # 21 numbers are 3 words, with 3 numbers to spare
    words = torch.empty(3, dtype=torch.int64).random_(-(1 << 63), None, generator=drawn(9)).tolist()
    which = [word >> shift & 0xFFFF for word in words for shift in (0, 16, 32, 48)]
    assert torch.equal(
        normal_pairs(torch.ones(d, dtype=DOUBLE), k, drawn(9)), points[which].flatten()[:21].view(d, k)
    )


def test_seeds_decide_and_the_global_generator_is_left_alone():
    before, std = torch.get_rng_state(), torch.ones(4)
    first, again, other = (normal_pairs(std, 9, drawn(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.isclose(first, other).any()
    assert torch.equal(before, torch.get_rng_state())


def test_numbers_are_the_same_in_both_precisions():
    narrow, broad = (normal_pairs(torch.ones(5, dtype=t), 11, drawn(1)) for t in (torch.float32, DOUBLE))
    assert torch.equal(narrow, broad.float())


def test_a_stand_in_without_numbers_is_not_kept(monkeypatch):
    from torch._subclasses.fake_tensor import FakeTensorMode

    monkeypatch.setattr(pairs, "_POINTS", {})
    with FakeTensorMode():
        assert normal_pairs(torch.ones(3), 5, drawn()).shape == (3, 5)
    assert normal_pairs(torch.ones(3), 5, drawn()).isfinite().all()

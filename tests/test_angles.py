"""Angles to the last digits, against 60-digit arithmetic on the stored values."""

import math
import operator

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geolessons import angles, trees
from geolessons.angles import measure, measure_for_slerp, measure_held, sinc
from geolessons.sphere import angle

ANGLES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 1.5, math.pi / 2, 2.0, 3.0, math.pi - 1e-2, math.pi - 1e-3)
BOUND = {torch.float64: 1e-10, torch.float32: 1e-6, torch.bfloat16: 1e-6, torch.float16: 1e-6}


def true_angle(u: torch.Tensor, v: torch.Tensor) -> float:
    """The angle of the stored values: exact sums of integers, then 60 digits."""
    a, b = integers(u), integers(v)
    aa, ab, bb = (sum(map(operator.mul, x, y)) for x, y in ((a, a), (a, b), (b, b)))
    with mpmath.workdps(60):
        return float(mpmath.atan2(mpmath.sqrt(mpmath.mpf(aa * bb - ab * ab)), mpmath.mpf(ab)))


def integers(x: torch.Tensor) -> list[int]:
    """A vector's entries times one power of two, as whole numbers, exactly."""
    parts = [math.frexp(value) for value in x.double().flatten().tolist()]
    least = min(exponent for _, exponent in parts)
    return [int(m * 2.0**53) << (exponent - least) for m, exponent in parts]


def pair(n: int, omega: float, seed: int, ratio: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two float64 vectors at about this angle; the second is `ratio` times as long."""
    draw = torch.Generator().manual_seed(seed)
    u, w = torch.randn(2, n, generator=draw, dtype=torch.float64)
    w = w - (w @ u) / (u @ u) * u
    w = w * (u.norm() / w.norm())
    return u, ratio * (math.cos(omega) * u + math.sin(omega) * w)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("ratio", [1.0, 3.7, 1e-3])
@pytest.mark.parametrize("n", [2, 3, 50, 1000])
def test_angle_of_the_stored_values(n, ratio, dtype):
    for i, omega in enumerate(ANGLES):
        u, v = (x.to(dtype) for x in pair(n, omega, seed=i, ratio=ratio))
        expected = true_angle(u, v)
        if expected > 1e-6 / 2:  # float32 cannot store every pair 1e-6 apart
            assert float(angle(u, v)) == pytest.approx(expected, rel=BOUND[dtype], abs=0), omega


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("omega", [1e-6, 1e-4, 0.3, math.pi - 1e-3])
def test_angle_of_long_vectors(omega, dtype):
    u, v = (x.to(dtype) for x in pair(100_000, omega, seed=5, ratio=1.7))
    assert float(angle(u, v)) == pytest.approx(true_angle(u, v), rel=BOUND[dtype], abs=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_angle_of_half_precision_is_that_of_the_stored_values(dtype):
    for i, omega in enumerate((0.02, 0.3, 1.5, 3.0)):
        u, v = (x.to(dtype) for x in pair(40, omega, seed=i))
        assert float(angle(u, v)) == pytest.approx(true_angle(u, v), rel=1e-6, abs=0)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    n=st.integers(2, 30),
    log_omega=st.floats(-6, 0.49),
    log_ratio=st.floats(-4, 4),
    seed=st.integers(0, 10_000),
)
def test_angle_for_any_length_ratio(n, log_omega, log_ratio, seed):
    u, v = pair(n, 10**log_omega, seed, 10**log_ratio)
    assert float(angle(u, v)) == pytest.approx(true_angle(u, v), rel=1e-10, abs=0)
    assert float(angle(v, u)) == pytest.approx(true_angle(u, v), rel=1e-10, abs=0)


@pytest.mark.parametrize(("omega", "bound"), [(1e-6, 1e-13), (1e-8, 1e-13), (1e-10, 1e-9)])
def test_float64_angles_need_the_exact_product(omega, bound):
    for seed in range(10):
        u, v = pair(3, omega, seed, ratio=1.37)
        assert float(angle(u, v)) == pytest.approx(true_angle(u, v), rel=bound, abs=0)


def test_no_digits_are_lost_between_entries_of_very_different_size():
    u = torch.tensor([1.0, 1e-3, 1e3, 1e-7], dtype=torch.float64)
    v = 1.1 * u + torch.tensor([0.0, 1e-6, 0.0, 3e-4], dtype=torch.float64)
    assert float(angle(u, v)) == pytest.approx(true_angle(u, v), rel=1e-10, abs=0)


@pytest.mark.parametrize("s", [1e-300, 1e-200, 1e-40, 1e40, 1e200, 1e300])
def test_angle_at_any_scale_of_float64(s):
    u, v = pair(9, 1e-5, seed=1)
    assert float(angle(s * u, v)) == pytest.approx(true_angle(s * u, v), rel=1e-9, abs=0)
    assert float(angle(u, s * v)) == pytest.approx(true_angle(u, s * v), rel=1e-9, abs=0)
    both = angle(torch.stack([s * u, u / s]), torch.stack([v, v]), scope="row")
    assert both.tolist() == pytest.approx([true_angle(u, v)] * 2, rel=1e-9, abs=0)


@pytest.mark.parametrize("s", [1e-37, 1e-20, 1e20, 1e37])
def test_angle_at_any_scale_of_float32(s):
    u, v = (x.float() for x in pair(9, 0.1, seed=1))
    assert float(angle(s * u, v)) == pytest.approx(true_angle(s * u, v), rel=1e-6, abs=0)


def test_angle_of_subnormal_float32():
    u = torch.tensor([3e-45, 1e-44, 0.0])
    v = torch.tensor([1e-44, 3e-45, 0.0])
    assert float(angle(u, v)) == pytest.approx(true_angle(u, v), rel=1e-6)


def test_arccos_would_not_do():
    """The check that the bounds above mean something (G4): float32, 100,352 entries, ω = 1e-4."""
    u, v = (x.float() for x in pair(100_352, 1e-4, seed=0))
    wanted = true_angle(u, v)
    assert abs(float(angle(u, v)) / wanted - 1) < 1e-6
    cosine = (u / u.norm()) @ (v / v.norm())
    assert abs(float(cosine.clamp(-1, 1).arccos()) / wanted - 1) > 0.5


def test_exactly_parallel_and_opposite():
    u = torch.randn(7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float(angle(u, u)) == 0
    assert float(angle(u, 4 * u)) == 0
    assert float(angle(u, -u)) == math.pi
    assert float(angle(u, 3 * u)) < 1e-15


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_one_element_has_only_a_sign(dtype):
    draw = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 200, 1, generator=draw, dtype=dtype) + 0.01
    assert angle(a, b, scope="row").count_nonzero() == 0
    assert angle(a, -b, scope="row").tolist() == [math.pi] * 200
    assert float(angle(a[0], b[0])) == 0
    assert float(angle(a[0, 0], -b[0, 0])) == math.pi


@pytest.mark.parametrize("block", [1, 5, 15, 64])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_blocks_do_not_change_the_result(dtype, block, monkeypatch):
    u, v = (x.reshape(5, 7).to(dtype) for x in pair(35, 1e-3, seed=2))
    whole = measure(u, v)
    monkeypatch.setattr(trees, "BLOCK", block)
    cut = measure(u, v)
    for name in ("omega", "n0", "n1"):
        torch.testing.assert_close(getattr(cut, name), getattr(whole, name), rtol=1e-11, atol=0)


@pytest.mark.parametrize("block", [1, 7, 64, 1 << 15])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_measuring_many_for_slerp_is_measuring_each(dtype, block, monkeypatch):
    pairs = []
    for i, (rows, n, omega) in enumerate(
        [(1, 50, 1e-3), (4, 9, 2.0), (1, 1, 0.0), (3, 1, 0.0), (1, 30, 3.1)]
    ):
        rowwise = [pair(max(n, 2), omega, seed=9 * i + j, ratio=1 + j) for j in range(rows)]
        pairs.append(tuple(torch.stack(x)[:, :n].to(dtype) for x in zip(*rowwise, strict=True)))
    zero = torch.zeros(1, 6, dtype=dtype)
    pairs += [(zero, zero + 1), (zero + 1, zero), (zero, zero), (zero + 1, zero + 1)]
    each = [measure(u, v) for u, v in pairs]
    monkeypatch.setattr(trees, "BLOCK", block)
    found = measure_for_slerp(pairs)
    for name in ("n0", "n1"):
        wanted = torch.cat([getattr(m, name) for m in each])
        torch.testing.assert_close(getattr(found, name), wanted, rtol=1e-14, atol=0)
    for name in ("zero0", "zero1"):
        assert torch.equal(getattr(found, name), torch.cat([getattr(m, name) for m in each]))
    omega = torch.cat([m.omega for m in each])
    assert found.omega.shape == omega.shape == (14,)
    torch.testing.assert_close(found.omega.square(), omega.square(), rtol=1e-12, atol=4e-15)


@pytest.mark.parametrize("together", [1, 1 << 12, 1 << 21])
@pytest.mark.parametrize("block", [7, 64, 1 << 15])
def test_measuring_held_tensors_is_measuring_each(block, together, monkeypatch):
    """Float32 sums, and what is done where they fail: far apart, zero, tiny, huge, a single entry."""
    u, v = (x.float()[None] for x in pair(500, 0.3, seed=3))
    far, tiny, huge = pair(60, 2.9, seed=4), 1e-30, 1e25
    zero = torch.zeros(1, 6)
    pairs = [(u, v), (u, u), (u, 3 * u), (u, -v), tuple(x.float()[None] for x in far)]
    pairs += [(tiny * u, tiny * v), (u, tiny * v), (huge * u, huge * v), (zero, zero + 1), (zero + 1, zero)]
    pairs += [(zero, zero), (zero[:, :1] + 2, zero[:, :1] + 3), (zero[:, :1] + 2, zero[:, :1] - 3)]
    monkeypatch.setattr(trees, "BLOCK", block)
    monkeypatch.setattr(angles, "TOGETHER", together)
    each, found = measure_for_slerp(pairs), measure_held(pairs)
    for name in ("n0", "n1"):
        torch.testing.assert_close(getattr(found, name), getattr(each, name), rtol=2e-7, atol=0)
    for name in ("zero0", "zero1"):
        assert torch.equal(getattr(found, name), getattr(each, name))
    torch.testing.assert_close(found.omega.square(), each.omega.square(), rtol=0, atol=1e-6)
    assert torch.equal(found.omega[[3, 4, 5, 6, 7]], each.omega[[3, 4, 5, 6, 7]])


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_measuring_held_tensors_shows_what_is_not_finite(broken):
    u = torch.ones(1, 9)
    v = u.clone()
    v[0, 4] = broken
    m = measure_held([(u, v), (u, u)])
    assert torch.isfinite(m.n0 + m.n1).tolist() == [False, True]


@pytest.mark.parametrize("entry", [0.1, 0.7, 1 / 3])
def test_long_float32_vectors_of_one_size_are_measured_well_enough(entry):
    """The worst case for float32 sums: their rounding errors all point one way."""
    u = torch.full((1, 1 << 18), entry)
    v = u + 0.3 * entry * torch.randn(u.shape, generator=torch.Generator().manual_seed(0))
    found, wanted = measure_held([(u, v)]), measure(u, v)
    assert abs(float(found.omega.square() - wanted.omega.square())) < 8e-6  # of which an eighth counts


@pytest.mark.parametrize("leaf", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("block", [5, 64])
def test_gradients_reach_all_blocks(block, leaf, monkeypatch):
    u, v = (x.float() for x in pair(23, 0.7, seed=4, ratio=1.5))
    wanted = []
    for block_size in (1 << 15, block):
        monkeypatch.setattr(trees, "BLOCK", block_size)
        a, b = (x.clone().requires_grad_(need) for x, need in zip((u, v), leaf, strict=True))
        m = measure_for_slerp([(a[None], b[None])])
        total = m.omega.sum() + m.n0.sum() * m.n1.sum() + angle(a, b)
        wanted.append(torch.autograd.grad(total, [x for x in (a, b) if x.requires_grad]))
    for whole, cut in zip(*wanted, strict=True):
        assert float(whole.norm()) > 0.1
        torch.testing.assert_close(cut, whole, rtol=1e-6, atol=1e-7)


def test_measuring_leaves_float64_tensors_alone(monkeypatch):
    monkeypatch.setattr(trees, "BLOCK", 4)
    u, v = pair(23, 0.7, seed=4)
    before = u.clone(), v.clone()
    assert float(trees.dot({"a": u}, {"a": v})) == pytest.approx(float(u @ v), rel=1e-14)
    angle(u, v)
    assert torch.equal(u, before[0])
    assert torch.equal(v, before[1])


def test_measure_gives_lengths_and_marks_zero_vectors():
    u = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    v = torch.tensor([[0.0, 2.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    m = measure(u, v)
    assert m.zero0.tolist() == [False, True, False, True]
    assert m.zero1.tolist() == [False, False, True, True]
    assert m.omega[1:].tolist() == [0, 0, 0]
    assert float(m.n0[0]) == 5
    assert float(m.n1[0]) == 2
    assert float(m.omega[0]) == pytest.approx(math.atan2(3, 4))
    assert m.omega.dtype == torch.float64


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_lengths_at_any_scale(scale):
    u = scale * torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    m = measure(u, 2 * u)
    assert float(m.n0) == pytest.approx(5 * scale, rel=1e-15)
    assert float(m.n1) == pytest.approx(10 * scale, rel=1e-15)


def test_gradient_of_the_angle_off_zero():
    for omega in (1e-2, 0.5, 2.0, 3.0):
        u, v = (x.requires_grad_() for x in pair(6, omega, seed=3, ratio=1.5))
        assert torch.autograd.gradcheck(angle, (u, v))


def test_gradient_of_a_small_angle_against_the_formula():
    u, v = (x.requires_grad_() for x in pair(6, 1e-5, seed=3))
    (found,) = torch.autograd.grad(angle(u, v), v)
    a, b = u.detach() / u.detach().norm(), v.detach() / v.detach().norm()
    across = b - (a @ b) * a
    expected = ((across / across.norm()) - (across / across.norm() @ b) * b) / v.detach().norm()
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("k", [1.0, 2.0, -1.0])
def test_gradient_of_the_angle_at_its_kink_is_zero(k):
    u = torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64, requires_grad=True)
    v = (k * u.detach()).requires_grad_()
    found = torch.autograd.grad(angle(u, v), (u, v))
    assert torch.equal(found[0], torch.zeros(3, dtype=torch.float64))
    assert torch.equal(found[1], torch.zeros(3, dtype=torch.float64))


def test_sinc_and_its_slope():
    x = torch.tensor([0.0, 1e-9, 1e-4, 0.3, 2.0, 3.1], dtype=torch.float64, requires_grad=True)
    y = sinc(x)
    assert y[0].item() == 1
    assert y[1:].tolist() == pytest.approx([math.sin(t) / t for t in x[1:].tolist()], rel=1e-14)
    (slope,) = torch.autograd.grad(y.sum(), x)
    with mpmath.workdps(40):
        wanted = [float(mpmath.diff(mpmath.sinc, mpmath.mpf(t))) for t in x[2:].tolist()]
    assert float(slope[0]) == 0
    assert slope[2:].tolist() == pytest.approx(wanted, rel=1e-6)

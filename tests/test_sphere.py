"""SLERP, log, exp, distance and Fréchet mean: identities, peers, gradients, refusals."""

import math
from itertools import product

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import geometric_slerp

from geolessons.arcs import check_t
from geolessons.paths import Slerp
from geolessons.sphere import angle, coefficients, distance, exp, frechet_mean, log, slerp
from geolessons.trees import flatten

DOUBLE = torch.float64
SCOPES = ("tensor", "row", "model")
MODES = ("raw", "direction_linear", "direction_geometric")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]
examples = settings(max_examples=40, deadline=None, derandomize=True)


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def pair(
    n: int = 6, omega: float = 1.0, ratio: float = 1.0, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Two vectors at this angle, the first of length 1, the second of length `ratio`."""
    u, w = draws(2, n, seed=seed)
    u = u / u.norm()
    w = w - (w @ u) * u
    return u, ratio * (math.cos(omega) * u + math.sin(omega) * w / w.norm())


def rotation(n: int, seed: int = 1) -> torch.Tensor:
    return torch.linalg.qr(draws(n, n, seed=seed))[0]


def points(seed: int = 0, dtype: torch.dtype = DOUBLE, device: str = "cpu") -> dict[str, torch.Tensor]:
    shapes = {"matrix": (4, 5), "kernel": (3, 2, 2, 2), "bias": (4,), "scale": (1,)}
    found = {name: draws(*shape, seed=seed + i) for i, (name, shape) in enumerate(shapes.items())}
    found["scale"] = found["scale"].abs() + 0.1
    return {name: x.to(dtype).to(device) for name, x in found.items()}


def by_hand(W0: torch.Tensor, W1: torch.Tensor, t: float, mode: str) -> torch.Tensor:
    """SLERP of one vector with 40 digits: the printed equation, arccos and all."""
    with mpmath.workdps(40):
        a = [mpmath.mpf(x) for x in W0.double().flatten().tolist()]
        b = [mpmath.mpf(x) for x in W1.double().flatten().tolist()]
        t = mpmath.mpf(t)
        n0, n1 = mpmath.sqrt(mpmath.fdot(a, a)), mpmath.sqrt(mpmath.fdot(b, b))
        omega = mpmath.acos(min(mpmath.fdot(a, b) / (n0 * n1), mpmath.mpf(1)))
        f, g = (1 - t, t) if omega == 0 else (mpmath.sin(x * omega) / mpmath.sin(omega) for x in (1 - t, t))
        if mode != "raw":
            length = (1 - t) * n0 + t * n1 if mode == "direction_linear" else n0 ** (1 - t) * n1**t
            f, g = f * length / n0, g * length / n1
        values = [float(f * x + g * y) for x, y in zip(a, b, strict=True)]
    return torch.tensor(values, dtype=DOUBLE).reshape(W0.shape)


def by_hand_at_scope(W0: dict, W1: dict, t: float, scope: str, mode: str) -> dict[str, torch.Tensor]:
    found = {}
    if scope == "model":
        long = by_hand(flatten(W0), flatten(W1), t, mode)
        for name, W in W0.items():
            found[name], long = long[: W.numel()].reshape(W.shape), long[W.numel() :]
        return found
    for name, W in W0.items():
        if W.numel() == 1:
            found[name] = (1 - t) * W.double() + t * W1[name].double()
        elif scope == "row" and W.dim() > 1:
            found[name] = torch.stack([by_hand(*rows, t, mode) for rows in zip(W, W1[name], strict=True)])
        else:
            found[name] = by_hand(W, W1[name], t, mode)
    return found


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("scope", "mode"), product(SCOPES, MODES))
def test_slerp_of_points_against_40_digits(scope, mode, dtype, device):
    W0, W1 = points(0, dtype, device), points(10, dtype, device)
    found = slerp(W0, W1, 0.3, scope=scope, norm_mode=mode)
    expected = by_hand_at_scope(
        {k: w.cpu() for k, w in W0.items()}, {k: w.cpu() for k, w in W1.items()}, 0.3, scope, mode
    )
    assert list(found) == list(W0)
    for name, W in found.items():
        assert W.dtype == dtype
        assert W.device == W0[name].device
        within_one_rounding(W.cpu(), expected[name], size=float(W0[name].abs().max() + W1[name].abs().max()))


def within_one_rounding(found: torch.Tensor, exact: torch.Tensor, size: float) -> None:
    """Half types: half a unit in the last place (and float32's rounding); wider types: a few roundings."""
    eps = torch.finfo(found.dtype).eps
    if found.dtype in (torch.bfloat16, torch.float16):
        bound = 0.5 * eps * 2.0 ** torch.floor(torch.log2(exact.abs())) + 4e-7 * size
    else:
        bound = torch.full_like(exact, 8 * eps * size)
    assert torch.all((found.double() - exact).abs() <= bound)


@pytest.mark.parametrize(("scope", "mode"), product(SCOPES, MODES))
def test_slerp_of_a_tensor_is_that_of_a_point(scope, mode):
    W0, W1 = points(0), points(10)
    for name in ("matrix", "kernel", "bias"):
        one = slerp(W0[name], W1[name], 0.7, scope=scope, norm_mode=mode)
        many = slerp({"x": W0[name]}, {"x": W1[name]}, 0.7, scope=scope, norm_mode=mode)["x"]
        assert torch.equal(one, many)


@examples
@given(
    n=st.integers(2, 12), omega=st.floats(0.01, math.pi - 0.01), t=st.floats(0, 1), seed=st.integers(0, 999)
)
def test_slerp_agrees_with_scipy(n, omega, t, seed):
    u, v = pair(n, omega, seed=seed)
    v = v / v.norm()
    expected = geometric_slerp(u.numpy(), v.numpy(), t)
    np.testing.assert_allclose(slerp(u, v, t).numpy(), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("omega", [0.0, 1e-12, 1e-8, 1e-4, 0.1, 1.0, 2.0, 3.0, math.pi - 1.01e-3])
@pytest.mark.parametrize("t", [0.0, 1e-3, 0.25, 0.5, 1.0])
def test_coefficients_against_the_printed_ratio(omega, t):
    f, g = coefficients(torch.tensor(omega, dtype=DOUBLE), t)
    with mpmath.workdps(40):
        w, s = mpmath.mpf(omega), mpmath.mpf(t)
        wanted = [float(mpmath.sin(x * w) / mpmath.sin(w)) if omega else float(x) for x in (1 - s, s)]
    assert [float(f), float(g)] == pytest.approx(wanted, rel=1e-11, abs=0)


def test_radial_term_of_a_small_angle():
    """G7: f + g − 1 is ω²t(1−t)/2 to within 1 % for ω up to 0.15."""
    for omega, t in product((0.15, 0.05, 1e-3), (0.1, 0.4, 0.9)):
        f, g = coefficients(torch.tensor(omega, dtype=DOUBLE), t)
        assert float(f + g - 1) == pytest.approx(omega**2 * t * (1 - t) / 2, rel=0.01)


def test_a_narrow_t_is_not_rounded_again():
    u, v = pair(5, 1.0)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        t = torch.tensor(0.001, dtype=dtype)
        for mode in MODES:
            torch.testing.assert_close(
                slerp(u, v, t, norm_mode=mode), slerp(u, v, t.item(), norm_mode=mode), rtol=0, atol=1e-15
            )


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e200])
@pytest.mark.parametrize("mode", MODES)
def test_scale_equivariance_at_extreme_scales(mode, scale):
    u, v = pair(5, 1.0, ratio=2.0)
    plain = slerp(u, v, 0.3, norm_mode=mode)
    torch.testing.assert_close(
        slerp(scale * u, scale * v, 0.3, norm_mode=mode) / scale, plain, rtol=1e-12, atol=1e-13
    )
    torch.testing.assert_close(log(scale * u, v) / scale, log(u, v), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(log(u, scale * v), log(u, v), rtol=1e-12, atol=1e-13)
    V = log(u, v)
    torch.testing.assert_close(exp(scale * u, scale * V) / scale, exp(u, V), rtol=1e-12, atol=1e-13)
    mean = frechet_mean([scale * u, scale * v]) / scale
    torch.testing.assert_close(mean, frechet_mean([u, v]), rtol=1e-12, atol=1e-13)


# ---------------------------------------------------------------- identities


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("scope", "mode"), product(SCOPES, MODES))
def test_end_points_are_exact(scope, mode, dtype):
    for seed in range(5):
        W0, W1 = points(seed, dtype), points(seed + 50, dtype)
        for zero, one in (
            (0, 1),
            (0.0, 1.0),
            (torch.tensor(0.0), torch.tensor(1.0)),
            (torch.tensor(0), torch.tensor(1)),
        ):
            start, end = (slerp(W0, W1, t, scope=scope, norm_mode=mode) for t in (zero, one))
            for name in W0:
                assert torch.equal(start[name], W0[name])
                assert torch.equal(end[name], W1[name])


@examples
@given(
    t=st.floats(0, 1),
    omega=st.floats(0, 3.1),
    ratio=st.floats(0.1, 10),
    scope=st.sampled_from(SCOPES),
    mode=st.sampled_from(MODES),
    seed=st.integers(0, 999),
)
def test_symmetries_of_slerp(t, omega, ratio, scope, mode, seed):
    u, v = pair(8, omega, ratio, seed)
    along = slerp(u, v, t, norm_mode=mode)
    reverse = slerp(v, u, 1 - t, norm_mode=mode)
    R = rotation(8, seed)
    turned = slerp(R @ u, R @ v, t, norm_mode=mode)
    # near π a rounding of the angle is divided by its sine
    bound = 1e-13 * (1 + ratio) / max(math.sin(omega), 0.04) ** 2
    torch.testing.assert_close(along, reverse, rtol=0, atol=bound)
    torch.testing.assert_close(R @ along, turned, rtol=0, atol=bound)
    torch.testing.assert_close(slerp(2 * u, 2 * v, t, norm_mode=mode), 2 * along, rtol=0, atol=bound)
    if mode != "raw":
        wanted = (1 - t) + t * ratio if mode == "direction_linear" else ratio**t
        assert along.norm().item() == pytest.approx(wanted, rel=1e-9)
    matrix0, matrix1 = torch.stack([u, 2 * v]), torch.stack([v, u])
    rows = slerp(matrix0, matrix1, t, scope="row", norm_mode=mode)
    torch.testing.assert_close(rows[0], along, rtol=0, atol=bound)
    torch.testing.assert_close(rows[1], slerp(2 * v, u, t, norm_mode=mode), rtol=0, atol=2 * bound)
    same = slerp({"a": u, "b": v}, {"a": v, "b": u}, t, scope=scope, norm_mode=mode)
    assert same["a"].shape == u.shape


@pytest.mark.parametrize("mode", MODES)
def test_constant_length_and_speed_on_a_sphere(mode):
    """G2, equal lengths."""
    u, v = pair(7, 2.0)
    ts = torch.linspace(0, 1, 21, dtype=DOUBLE)
    road = torch.stack([slerp(u, v, t, norm_mode=mode) for t in ts])
    assert road.norm(dim=1).tolist() == pytest.approx([1.0] * 21, rel=1e-13)
    steps = angle(road[:-1], road[1:], scope="row")
    assert steps.tolist() == pytest.approx([2.0 / 20] * 20, rel=1e-11)


def test_slerp_minus_lerp_of_a_small_angle():
    """G3: at most ω²/8, to within 2 %, for ω up to 0.3."""
    for omega in (0.3, 0.1, 0.01):
        u, v = pair(9, omega)
        gaps = [float((slerp(u, v, t) - ((1 - t) * u + t * v)).norm()) for t in np.linspace(0, 1, 41)]
        assert max(gaps) == pytest.approx(omega**2 / 8, rel=0.02)


def test_scopes_measure_what_they_say():
    W0, W1 = points(0), points(10)
    tensors, rows = angle(W0, W1), angle(W0, W1, scope="row")
    assert {name: x.shape for name, x in tensors.items()} == dict.fromkeys(W0, torch.Size([]))
    assert [tuple(rows[name].shape) for name in W0] == [(4,), (3,), (), ()]
    whole = angle(W0, W1, scope="model")
    a, b = flatten(W0), flatten(W1)
    assert float(whole) == pytest.approx(math.acos(float(a @ b / a.norm() / b.norm())), rel=1e-9)
    one = W0["matrix"][2], W1["matrix"][2]
    assert float(rows["matrix"][2]) == pytest.approx(float(angle(*one)), rel=1e-14)
    assert len({round(float(x), 6) for x in tensors.values()}) == 4


def test_one_element_tensors_take_the_straight_line():
    for scope, mode in product(("tensor", "row"), MODES):
        assert float(slerp(torch.tensor([2.0]), torch.tensor([-4.0]), 0.5, scope=scope, norm_mode=mode)) == -1
        assert float(slerp(torch.tensor(2.0), torch.tensor(8.0), 0.5, scope=scope, norm_mode=mode)) == 5
    column = slerp(torch.ones(3, 1), torch.tensor([[-1.0], [2.0], [3.0]]), 0.5, scope="row")
    assert column.flatten().tolist() == [0, 1.5, 2]
    assert float(frechet_mean([torch.tensor([2.0]), torch.tensor([-4.0])])) == -1


def test_extrapolation_continues_the_great_circle():
    u, v = pair(4, 0.5)
    found = slerp(u, v, 2.0, extrapolate=True)
    assert float(angle(u, found)) == pytest.approx(1.0)
    assert float(found.norm()) == pytest.approx(1.0)
    assert float(angle(slerp(u, v, -1, extrapolate=True), v)) == pytest.approx(1.0)


def test_layouts_do_not_matter_and_nothing_is_changed():
    W0, W1 = draws(6, 4), draws(6, 4, seed=1)
    kept = W0.clone()
    plain = slerp(W0, W1, 0.4, scope="row")
    turned = slerp(W0.T.contiguous().T, W1, 0.4, scope="row")
    assert torch.equal(plain, turned)
    wide = draws(6, 8)
    torch.testing.assert_close(
        slerp(wide[:, ::2], W1, 0.4), slerp(wide[:, ::2].clone(), W1, 0.4), rtol=0, atol=0
    )
    expanded = draws(4).expand(6, 4)
    assert torch.equal(slerp(expanded, W1, 0.4), slerp(expanded.clone(), W1, 0.4))
    assert torch.equal(W0, kept)


# ---------------------------------------------------------------- log, exp, distance


@examples
@given(
    omega=st.one_of(st.just(0.0), st.floats(-12, math.log10(3.1)).map(lambda x: 10**x)),
    ratio=st.floats(0.1, 10),
    n=st.integers(2, 12),
    seed=st.integers(0, 999),
)
def test_exp_undoes_log_up_to_length(omega, ratio, n, seed):
    u, v = pair(n, omega, ratio, seed)
    u, v = 1.7 * u, 1.7 * v
    V = log(u, v)
    assert float(V.norm()) == pytest.approx(1.7 * omega, rel=1e-9, abs=1e-15)
    assert abs(float(V @ u)) < 1e-14
    torch.testing.assert_close(exp(u, V), v / ratio, rtol=0, atol=1e-13 / max(0.04, math.sin(omega)))
    assert float(distance(u, v)) == pytest.approx(1.7 * omega, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scope", SCOPES)
def test_round_trip_of_points_in_every_dtype(scope, dtype):
    W0, W1 = points(0, dtype), points(10, dtype)
    back = exp(W0, log(W0, W1, scope=scope), scope=scope)
    angles = angle(back, W1, scope=scope)
    most = 40 * torch.finfo(dtype).eps
    for found in angles.values() if isinstance(angles, dict) else [angles]:
        assert float(found.max()) < most
    for name in W0:
        assert back[name].dtype == dtype
        assert back[name].shape == W0[name].shape
    if scope == "tensor":
        assert float(back["matrix"].double().norm()) == pytest.approx(
            float(W0["matrix"].double().norm()), rel=most
        )


def test_exp_of_log_times_t_is_slerp_on_a_sphere():
    u, v = pair(5, 2.0)
    for t in (0.1, 0.5, 0.9):
        torch.testing.assert_close(exp(u, t * log(u, v)), slerp(u, v, t), rtol=0, atol=1e-14)


def test_exp_of_nothing_and_of_a_whole_turn():
    u, v = pair(5, math.pi / 2)
    assert torch.equal(exp(u, torch.zeros(5, dtype=DOUBLE)), u)
    torch.testing.assert_close(exp(u, 2 * math.pi * v), u, rtol=0, atol=1e-14)
    torch.testing.assert_close(exp(u, 0.5 * math.pi * v), v, rtol=0, atol=1e-15)


@pytest.mark.parametrize("k", [1.0, 3.0, 0.1, 1 + 1e-9, 7.3])
def test_log_of_a_parallel_vector_is_next_to_nothing_and_tangent_enough(k):
    for seed in range(20):
        u = draws(3, seed=seed)
        V = log(u, k * u)
        assert float(V.norm() / u.norm()) < 1e-14
        torch.testing.assert_close(exp(u, V), u, rtol=1e-14, atol=1e-14)


def test_distance_by_scope_and_its_symmetry():
    W0, W1 = points(0), points(10)
    rows = distance(W0["matrix"], W1["matrix"], scope="row")
    wanted = W0["matrix"].norm(dim=1) * angle(W0["matrix"], W1["matrix"], scope="row")
    assert rows.tolist() == pytest.approx(wanted.tolist())
    assert float(distance(W0, W1, scope="model")) == pytest.approx(
        float(flatten(W0).norm() * angle(W0, W1, scope="model"))
    )
    u, v = pair(4, 0.7)
    assert float(distance(u, v)) == pytest.approx(float(distance(v, u)))
    assert float(distance(u, v)) == pytest.approx(0.7)


# ---------------------------------------------------------------- Fréchet mean


@examples
@given(omega=st.floats(0, 3.0), ratio=st.floats(0.2, 5), w=st.floats(0.05, 0.95), seed=st.integers(0, 999))
def test_mean_of_two_is_slerp(omega, ratio, w, seed):
    u, v = pair(6, omega, ratio, seed)
    half = slerp(u, v, 0.5, norm_mode="direction_linear")
    torch.testing.assert_close(frechet_mean([u, v]), half, rtol=0, atol=1e-10 * (1 + ratio))
    if max(w, 1 - w) * omega < 1.5:
        part = slerp(u, v, w, norm_mode="direction_linear")
        torch.testing.assert_close(
            frechet_mean([u, v], [3 * (1 - w), 3 * w]), part, rtol=0, atol=1e-10 * (1 + ratio)
        )


@examples
@given(seed=st.integers(0, 999), spread=st.floats(0.05, 0.6), count=st.integers(1, 6))
def test_mean_is_stationary_and_invariant(seed, spread, count):
    centre = pair(5, 0.0, seed=seed)[0]
    cloud = [centre + spread * x / x.norm() for x in draws(count, 5, seed=seed + 1)]
    weights = (torch.arange(count) + 1.0).tolist()
    mean = frechet_mean(cloud, weights)
    total = sum(w * log(mean, x) for w, x in zip(weights, cloud, strict=True))
    assert float(total.norm()) < 1e-10 * sum(weights)
    unit = (mean / mean.norm()).requires_grad_()
    energy = sum(w * angle(unit, x) ** 2 for w, x in zip(weights, cloud, strict=True))
    (slope,) = torch.autograd.grad(energy, unit)
    assert float(slope.norm()) < 1e-9 * sum(weights)
    R = rotation(5, seed)
    torch.testing.assert_close(frechet_mean([R @ x for x in cloud], weights), R @ mean, rtol=0, atol=1e-10)
    torch.testing.assert_close(frechet_mean(cloud[::-1], weights[::-1]), mean, rtol=0, atol=1e-10)
    torch.testing.assert_close(frechet_mean([7 * x for x in cloud], weights), 7 * mean, rtol=0, atol=1e-9)
    lengths = sum(w * float(x.norm()) for w, x in zip(weights, cloud, strict=True)) / sum(weights)
    assert float(mean.norm()) == pytest.approx(lengths)


def test_mean_of_three_axes_and_of_one_point():
    axes = list(torch.eye(3, dtype=DOUBLE))
    torch.testing.assert_close(
        frechet_mean(axes), torch.full((3,), 3**-0.5, dtype=DOUBLE), rtol=0, atol=1e-15
    )
    assert frechet_mean([2 * axes[1]]).tolist() == [0, 2, 0]
    torch.testing.assert_close(frechet_mean(axes[:2], [1, 0]), axes[0], rtol=0, atol=0)


@pytest.mark.parametrize("scope", SCOPES)
def test_mean_of_points_by_scope(scope):
    P, Q = points(0), points(10)
    for name in P:  # within π/2 of each other
        Q[name] = P[name] + 0.5 * Q[name]
    mean, half = (
        frechet_mean([P, Q], scope=scope),
        slerp(P, Q, 0.5, scope=scope, norm_mode="direction_linear"),
    )
    for name in P:
        torch.testing.assert_close(mean[name], half[name], rtol=0, atol=1e-11)
    narrow = frechet_mean([{k: x.float() for k, x in R.items()} for R in (P, Q)], scope=scope)
    assert {x.dtype for x in narrow.values()} == {torch.float32}


# ---------------------------------------------------------------- gradients, vmap, compile


@pytest.mark.parametrize(
    "move",
    [
        lambda u: 1.3 * u + 0.4 * draws(4, seed=9),
        lambda u: u.clone(),
        lambda u: 2 * u,
        lambda u: u + 1e-7,
        lambda u: -u + 0.3 * draws(4, seed=9),
    ],
    ids=["apart", "same", "double", "close", "nearly opposite"],
)
@pytest.mark.parametrize("function", ["raw", "direction_linear", "direction_geometric", "log"])
def test_gradients_by_finite_differences(function, move):
    u = draws(4)
    v = move(u).requires_grad_()
    u.requires_grad_()
    t = torch.tensor(0.3, dtype=DOUBLE, requires_grad=True)
    if function == "log":
        assert torch.autograd.gradcheck(log, (u, v))
    else:
        assert torch.autograd.gradcheck(lambda *a: slerp(*a, norm_mode=function), (u, v, t))


@pytest.mark.parametrize("omega", [0.0, 1e-9, 1e-4, 0.02, 1.0, 3.1])
@pytest.mark.parametrize("mode", MODES)
def test_float32_has_the_values_and_gradients_of_float64(omega, mode):
    """Narrow tensors are measured less finely: at no angle may that show."""
    W0, W1 = (x.float() for x in pair(40, omega, ratio=1.3))
    probe, found, bound = draws(40, seed=5), [], 3e-7 if omega < 3 else 6e-6
    for dtype in (torch.float32, DOUBLE):
        leaves = [x.to(dtype).requires_grad_() for x in (W0, W1)]
        W = slerp(*leaves, 0.3, norm_mode=mode)
        assert W.dtype == dtype
        found.append([W.detach(), *torch.autograd.grad((probe.to(dtype) * W).sum(), leaves)])
    for narrow, wide in zip(*found, strict=True):
        scale = float(wide.abs().max())
        torch.testing.assert_close(narrow.double(), wide, rtol=0, atol=bound * scale)


@pytest.mark.parametrize("t", [0.0, 0.3, 0.5, 1.0, -1.5])
@pytest.mark.parametrize("omega", [0.0, 1e-9, 0.02, 0.3, 1.99, 2.01, 3.1])
def test_float32_without_gradients_has_the_values_of_float64(omega, t):
    """Then sums run in float32 where they may, and all tensors are written together."""
    W0, W1 = (x.float() for x in pair(7_000, omega, ratio=1.3))
    found = slerp({"a": W0, "b": W0[:3]}, {"a": W1, "b": W1[:3]}, t, extrapolate=True)
    for name, n in (("a", None), ("b", 3)):
        wanted = slerp(W0[:n].double(), W1[:n].double(), t, extrapolate=True)
        assert found[name].dtype == torch.float32
        if t in (0, 1):
            assert torch.equal(found[name], (W0, W1)[int(t)][:n])
        size = wanted if 0 <= t <= 1 else 5 * W1  # beyond the ends large terms cancel
        atol = 4e-7 * float(size.abs().max()) * (1 if omega < 3 else 100)
        torch.testing.assert_close(found[name].double(), wanted, rtol=0, atol=atol)


def test_a_point_may_mix_dtypes():
    W0, W1 = points(0), points(10)
    for i, dtype in enumerate((DOUBLE, torch.float32, torch.bfloat16)):
        W0[f"w{i}"], W1[f"w{i}"] = W0["matrix"].to(dtype), W1["matrix"].to(dtype)
    found = slerp(W0, W1, 0.3)
    for name, W in found.items():
        assert torch.equal(W, slerp(W0[name], W1[name], 0.3))
        assert W.dtype == W0[name].dtype


@pytest.mark.parametrize("scope", ["row", "model"])
def test_gradients_at_other_scopes_with_parallel_rows(scope):
    W0 = draws(3, 4).requires_grad_()
    W1 = torch.cat([2 * W0.detach()[:1], draws(2, 4, seed=1)]).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: slerp(a, b, 0.3, scope=scope), (W0, W1))


@pytest.mark.parametrize("length", [0.0, 1.0, 4.0])
def test_gradients_of_exp(length):
    u, v = pair(4, math.pi / 2)

    def walk(a, b):
        return exp(a, b - (a @ b) / (a @ a) * a)

    assert torch.autograd.gradcheck(walk, (u.requires_grad_(), (length * v).requires_grad_()))


def test_vmap_over_t():
    W0, W1 = points(0), points(10)
    ts = torch.linspace(0, 1, 5, dtype=DOUBLE)
    for scope, mode in product(SCOPES, MODES):
        many = torch.vmap(lambda t, s=scope, m=mode: slerp(W0, W1, t, scope=s, norm_mode=m))(ts)
        for i, t in enumerate(ts):
            one = slerp(W0, W1, t, scope=scope, norm_mode=mode)
            for name in W0:
                torch.testing.assert_close(many[name][i], one[name], rtol=0, atol=1e-15)


def test_vmap_over_vectors_and_functional_gradients():
    U, V = draws(5, 4), draws(5, 4, seed=1)
    torch.testing.assert_close(torch.vmap(angle)(U, V), angle(U, V, scope="row"), rtol=1e-14, atol=0)
    jacobian = torch.func.jacrev(lambda t: slerp(U[0], V[0], t))(torch.tensor(0.3, dtype=DOUBLE))
    change = (slerp(U[0], V[0], 0.3 + 1e-6) - slerp(U[0], V[0], 0.3 - 1e-6)) / 2e-6
    torch.testing.assert_close(jacobian, change, rtol=1e-8, atol=1e-8)


def test_a_mean_that_cannot_look_at_its_steps_does_not_stop_early():
    axes = torch.eye(3, dtype=DOUBLE)
    with pytest.raises(RuntimeError):
        torch.vmap(lambda x: frechet_mean([x, axes[1] + axes[2], axes[2]], [1, 2, 3]))(axes[:2])


@pytest.mark.filterwarnings("ignore")  # torch's own, while compiling
@pytest.mark.parametrize(
    ("scope", "mode", "t"),
    [
        ("tensor", "raw", 0.3),
        ("row", "direction_geometric", torch.tensor(0.3, dtype=DOUBLE)),
        ("model", "direction_linear", torch.tensor(0.3, dtype=DOUBLE)),
    ],
)
def test_compiles_without_a_break(scope, mode, t):
    W0, W1 = points(0), points(10)
    torch.compiler.reset()
    compiled = torch.compile(
        lambda a, b, t: slerp(a, b, t, scope=scope, norm_mode=mode), fullgraph=True, backend="eager"
    )
    found, plain = compiled(W0, W1, t), slerp(W0, W1, t, scope=scope, norm_mode=mode)
    for name in W0:
        torch.testing.assert_close(found[name], plain[name], rtol=1e-14, atol=1e-15)


@pytest.mark.filterwarnings("ignore")
def test_angle_log_and_exp_compile_without_a_break():
    torch.compiler.reset()
    u, v = pair(5, 0.4, 2.0)

    def all_three(a, b):
        return angle(a, b), exp(a, 0.5 * log(a, b))

    found = torch.compile(all_three, fullgraph=True, backend="eager")(u, v)
    for x, y in zip(found, all_three(u, v), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-14, atol=1e-15)


# ---------------------------------------------------------------- refusals

U, V = draws(3), draws(3, seed=1)
PAIRED = {
    "angle": (lambda a, b, **k: angle(a, b, **k), ("u", "v")),
    "slerp": (lambda a, b, **k: slerp(a, b, 0.5, **k), ("W0", "W1")),
    "log": (lambda a, b, **k: log(a, b, **k), ("W0", "W1")),
    "exp": (lambda a, b, **k: exp(a, b, **k), ("W0", "V")),
    "distance": (lambda a, b, **k: distance(a, b, **k), ("W0", "W1")),
    "frechet_mean": (lambda a, b, **k: frechet_mean([a, b], **k), ("points[0]", "points[1]")),
}


@pytest.fixture(params=list(PAIRED))
def paired(request):
    return PAIRED[request.param]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_refuses_nan_and_infinity(paired, bad):
    function, names = paired
    broken = torch.tensor([1.0, bad, 0.0], dtype=DOUBLE)
    for args, name in (((broken, V), names[0]), ((U, broken), names[1])):
        with pytest.raises(ValueError) as caught:
            function(*args)
        assert str(caught.value) == f"{name} has NaN or infinite entries"
    with pytest.raises(ValueError) as caught:
        function({"fine": U, "w": broken}, {"fine": V, "w": V})
    assert str(caught.value) == f"{names[0]} has NaN or infinite entries in 'w'"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_slerp_refuses_nan_and_infinity_in_every_dtype(dtype, scope, bad):
    W0, W1 = points(0, dtype), points(10, dtype)
    broken = {k: w.clone() for k, w in W1.items()}
    broken["matrix"][2, 3] = broken["scale"][0] = bad
    for make in (lambda *a, **k: slerp(*a, 0.5, **k), Slerp):
        with pytest.raises(ValueError, match=r"^W1 has NaN or infinite entries in 'matrix', 'scale'$"):
            make(W0, broken, scope=scope)
        with pytest.raises(ValueError, match=r"^W0 has NaN or infinite entries in 'matrix', 'scale'$"):
            make(broken, W1, scope=scope)


@pytest.mark.parametrize("size", [1e-37, 1e-20, 1e20, 1e38])
def test_float32_of_any_size_is_turned(size):
    found = slerp(torch.tensor([size, 0.0, 0.0]), torch.tensor([0.0, 0.0, size]), 0.5)
    torch.testing.assert_close(found / size, torch.tensor([1.0, 0.0, 1.0]) / math.sqrt(2))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.tensor([1, 2, 3]), "int64"),
        (torch.tensor([True, False, True]), "bool"),
        (torch.tensor([1j, 0, 0]), "complex64"),
        (torch.empty(3, device="meta"), "on the meta device"),
        (torch.eye(3).to_sparse(), "sparse_coo"),
    ],
)
def test_refuses_tensors_without_real_values(paired, value, said):
    function, names = paired
    for args, name in (((value, V), names[0]), ((U, value), names[1])):
        with pytest.raises(TypeError) as caught:
            function(*args)
        assert (
            str(caught.value)
            == f"{name} must be dense and floating-point, but is not: {caught_kind(said, value)}"
        )


def caught_kind(said: str, value: torch.Tensor) -> str:
    return "on the meta device, without values" if value.is_meta else said


def test_refuses_what_is_neither_tensor_nor_point(paired):
    function, names = paired
    for wrong, kind in (([1.0, 2.0], "list"), (None, "NoneType"), ("w", "str")):
        with pytest.raises(TypeError) as caught:
            function(U, wrong)
        assert str(caught.value) == f"{names[1]} is a {kind}; it must be a tensor or a dict of tensors"
    with pytest.raises(TypeError) as caught:
        function({"w": U}, V)
    assert str(caught.value).startswith(f"{names[0]} and {names[1]} must both be tensors or both be dicts")
    with pytest.raises(TypeError, match="'w' is a float"):
        function({"w": 3.0}, {"w": U})


def test_refuses_points_of_different_spaces_and_lists_all(paired):
    function, names = paired
    with pytest.raises(ValueError, match="not points of the same space") as caught:
        function({"a": U, "b": U, "c": U}, {"a": V.float(), "b": V[:2], "d": V})
    for part in (
        f"'a' is float64 in {names[0]}, float32 in {names[1]}",
        f"'b' has shape (3,) in {names[0]}, (2,) in {names[1]}",
        f"'c' is only in {names[0]}",
        f"'d' is only in {names[1]}",
    ):
        assert part in str(caught.value)
    with pytest.raises(ValueError) as caught:
        function(U, V[:2])
    assert f"the tensor has shape (3,) in {names[0]}, (2,) in {names[1]}" in str(caught.value)
    with pytest.raises(ValueError) as caught:
        function({}, {})
    assert str(caught.value) == f"{names[0]} is empty: a point needs at least one tensor"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_refuses_different_devices(paired):
    function, _ = paired
    with pytest.raises(ValueError, match=r"is on cpu in .*, on cuda:0"):
        function(U, V.cuda())


def test_refuses_zero_vectors(paired):
    function, names = paired
    nothing = torch.zeros(3, dtype=DOUBLE)
    who = "a point" if "points" in names[0] else names[0]
    with pytest.raises(ValueError) as caught:
        function(nothing, V)
    assert str(caught.value) == f"{who} has a zero vector, which has no direction"
    with pytest.raises(ValueError, match="has a zero vector in 'w', which has no direction"):
        function({"w": torch.stack([U, nothing])}, {"w": torch.stack([V, V])}, scope="row")
    with pytest.raises(ValueError, match="has a zero vector"):
        function(torch.empty(0, dtype=DOUBLE), torch.empty(0, dtype=DOUBLE))
    if names[1] in ("v", "W1"):
        with pytest.raises(ValueError) as caught:
            function(U, nothing)
        assert str(caught.value) == f"{names[1]} has a zero vector, which has no direction"


def test_refuses_an_unknown_scope(paired):
    function, _ = paired
    with pytest.raises(ValueError, match="scope='layer' is unknown; it is one of tensor, row, model"):
        function(U, V, scope="layer")


def test_refuses_an_unknown_norm_mode():
    with pytest.raises(ValueError, match="norm_mode='unit' is unknown; it is one of raw, direction_linear"):
        slerp(U, V, 0.5, norm_mode="unit")


@pytest.mark.parametrize("function", [lambda a, b, **k: slerp(a, b, 0.5, **k), log])
def test_refuses_antipodal_vectors(function):
    for off in (0.0, 0.9e-3):
        u, v = pair(4, math.pi - off)
        with pytest.raises(ValueError, match=r"W0 and W1 point in opposite directions \(angle 3\.14"):
            function(u, 2 * v)
        with pytest.raises(ValueError, match=r"W0 and W1 'w' point in opposite.*go through a third point"):
            function({"w": torch.stack([u, u])}, {"w": torch.stack([u, v])}, scope="row")
    u, v = pair(4, math.pi - 1.1e-3)
    function(u, v)
    u = torch.ones(3, requires_grad=True)
    with pytest.raises(ValueError, match="opposite"):
        function(u, -u)


def test_all_antipodal_and_zero_tensors_are_listed():
    with pytest.raises(ValueError) as caught:
        slerp({"a": U, "b": 0 * U, "c": U, "d": U}, {"a": -U, "b": U, "c": -2 * U, "d": V}, 0.5)
    for part in ("'a' point in opposite", "W0 has a zero vector in 'b'", "'c' point in opposite"):
        assert part in str(caught.value)
    assert "'d'" not in str(caught.value)


@pytest.mark.parametrize("t", [-1e-9, 1 + 1e-9, 2, torch.tensor(1.5), torch.tensor(3)])
def test_refuses_t_outside_unless_asked(t):
    with pytest.raises(ValueError, match=r"t=.* is outside \[0, 1\]; pass extrapolate=True"):
        slerp(U, V, t)
    slerp(U, V, t, extrapolate=True)


@pytest.mark.parametrize("extrapolate", [False, True])
@pytest.mark.parametrize("t", [math.nan, math.inf, -math.inf, torch.tensor(math.nan), torch.tensor(math.inf)])
def test_refuses_t_that_is_not_finite(t, extrapolate):
    with pytest.raises(ValueError, match=r"t is NaN or infinite; it must be a number in \[0, 1\]"):
        slerp(U, V, t, extrapolate=extrapolate)


@pytest.mark.parametrize(
    ("t", "said"),
    [
        (True, "t is a bool; it must be a number"),
        ("0.5", "t is a str; it must be a number"),
        (None, "t is a NoneType; it must be a number"),
        (0.5j, "t is a complex; it must be a number"),
        ([0.5], "t is a list; it must be a number"),
        (torch.tensor(True), "t is bool; it must be a real number"),
        (torch.tensor(0.5j), "t is complex64; it must be a real number"),
    ],
)
def test_refuses_t_that_is_no_number(t, said):
    with pytest.raises(TypeError) as caught:
        slerp(U, V, t)
    assert said in str(caught.value)


def test_refuses_many_t_and_takes_numpys_numbers():
    with pytest.raises(ValueError, match=r"t has shape \(2,\); it must be one number \(use torch.vmap"):
        slerp(U, V, torch.tensor([0.1, 0.2]))
    assert torch.equal(slerp(U, V, np.float64(0.25)), slerp(U, V, 0.25))
    assert torch.equal(slerp(U, V, np.float32(0.25)), slerp(U, V, 0.25))
    check_t(torch.tensor(0.5, requires_grad=True), False)
    with pytest.raises(ValueError, match="t=2 is outside"):
        check_t(torch.tensor(2.0, requires_grad=True), False)


def test_exp_refuses_a_radial_step():
    u, v = pair(4, math.pi / 2)
    with pytest.raises(ValueError, match=r"V is not tangent: .*Subtract that part.*or take V from `log`"):
        exp(u, v + 1e-6 * u)
    with pytest.raises(ValueError, match="V 'w' is not tangent"):
        exp({"w": u}, {"w": u})
    exp(u, v + 1e-9 * u)
    exp(u.float(), (v + 1e-5 * u).float())


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([1.0], "weights has 1 entries for 2 points"),
        ([1.0, -1.0], r"weights=\[1.0, -1.0\] must be finite, not negative and not all zero"),
        ([0.0, 0.0], "must be finite, not negative and not all zero"),
        ([1.0, math.nan], "must be finite"),
        ([1.0, math.inf], "must be finite"),
    ],
)
def test_mean_refuses_bad_weights(weights, said):
    with pytest.raises(ValueError, match=said):
        frechet_mean([U, V], weights)


def test_mean_refuses_no_points_and_points_that_have_no_unique_mean():
    with pytest.raises(ValueError, match="points is empty: a mean needs at least one point"):
        frechet_mean([])
    with pytest.raises(ValueError, match="directions cancel out"):
        frechet_mean([U, -U])
    with pytest.raises(ValueError, match="directions 'w' cancel out"):
        frechet_mean([{"w": U}, {"w": -U}])
    away = [torch.tensor([1.0, 0, 0]), torch.tensor([1.0, 0.1, 0]), torch.tensor([-1.0, 0.5, 0])]
    with pytest.raises(ValueError, match="more than π/2 from their mean"):
        frechet_mean(away)


def test_mean_says_when_it_did_not_settle():
    corner = [torch.tensor([math.cos(a), math.sin(a), 0.3]) for a in (0.0, 1.0, 3.5)]
    with pytest.raises(RuntimeError, match=r"did not settle in max_steps=1 \(last step .*raise max_steps"):
        frechet_mean(corner, max_steps=1)

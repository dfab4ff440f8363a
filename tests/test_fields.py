"""Velocity fields, following them, and the roads they make."""

import copy
import math
import pickle
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from torch import nn
from torch.func import functional_call

from geolessons.adapters import LoRA
from geolessons.fields import ConstantField, Flow, SoftmaxField, VelocityField, integrate
from geolessons.paths import evaluate, length, speed
from geolessons.trees import params_of

DOUBLE = torch.float64
METHODS = {"euler": 1, "midpoint": 2, "rk4": 4}
AXES = {"in": 1, "out": 0, "all": (0, 1)}


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def matrix(d: int = 5, k: int = 7, seed: int = 0, std: float = 1.0, dtype: torch.dtype = DOUBLE):
    return (std * torch.randn(d, k, generator=draw(seed), dtype=DOUBLE)).to(dtype)


def softmax_field(shape=(5, 7), rank=3, seed=1, **options) -> SoftmaxField:
    return SoftmaxField(shape, rank, **{"generator": draw(seed), "dtype": DOUBLE} | options)


# ---------------------------------------------------------------- constant fields


def test_constant_field_is_the_scaled_product():
    A, B = matrix(2, 7, 1), matrix(5, 2, 2)
    field = ConstantField(A, B, scale=0.5)
    wanted = 0.5 * torch.tensor(B.numpy() @ A.numpy())
    for W, t in ((matrix(), 0.0), (matrix(seed=3), 2.5)):
        torch.testing.assert_close(field(W, t).detach(), wanted)
    assert field.shape == (5, 7)
    assert {k: v.shape for k, v in field.state_dict().items()} == {"A": (2, 7), "B": (5, 2)}
    assert field(matrix(dtype=torch.float32)).dtype == torch.float32


def test_constant_field_of_a_whole_matrix():
    V = matrix(3, 2)
    field = ConstantField(V, scale=-2.0)
    assert torch.equal(field(torch.zeros(3, 2, dtype=DOUBLE)), -2 * V)
    assert list(field.state_dict()) == ["A"]


def test_constant_field_shares_parameters_and_copies_tensors():
    lora = LoRA((5, 7), 2, 6, generator=draw(), dtype=DOUBLE)
    field = ConstantField(lora.A, lora.B, scale=lora.scale)
    assert field.A is lora.A
    assert field.B is lora.B
    with torch.no_grad():
        lora.B.normal_(generator=draw(1))
    # not bit for bit: some processors round a product differently at another place in memory
    torch.testing.assert_close(integrate(field, matrix()), lora.weight(matrix()), rtol=1e-13, atol=1e-13)
    A, B = matrix(2, 7, 1), matrix(5, 2, 2)
    field = ConstantField(A, B)
    with torch.no_grad():
        field.A.zero_()
        field.B.zero_()
    assert A.all()
    assert B.all()
    assert len(list(field.parameters())) == 2


# ---------------------------------------------------------------- the softmax field


@pytest.mark.parametrize(
    ("axis", "temperature", "reference", "normalise"),
    product(AXES, ["paper", "rank", 0.7, None], [None, "uniform"], [False, True]),
)
def test_softmax_field_is_its_formula(axis, temperature, reference, normalise):
    """Against numpy, entry by entry."""
    field = softmax_field(axis=axis, temperature=temperature, reference=reference, normalise=normalise)
    W, W1, W2 = (x.detach().numpy() for x in (matrix(), field.W1, field.W2))
    d, k, r = 5, 7, 3
    tau = {"paper": math.sqrt(d), "rank": math.sqrt(r), None: math.sqrt(r if normalise else d)}.get(
        temperature, temperature
    )
    hat = W / (np.sqrt((W**2).mean()) * np.sqrt(k)) if normalise else W
    Z = np.einsum("ia,al,lb,bj->ij", hat, W1, W2, hat) / tau
    exponential = np.exp(Z)
    v = exponential / exponential.sum(AXES[axis], keepdims=True)
    if reference:
        v = v - {"in": 1 / k, "out": 1 / d, "all": 1 / (d * k)}[axis]
    torch.testing.assert_close(field.logits(matrix()).detach(), torch.tensor(Z))
    torch.testing.assert_close(field(matrix(), 0.3).detach(), torch.tensor(v))
    sums = field(matrix()).detach().sum(AXES[axis])
    torch.testing.assert_close(sums, torch.full_like(sums, 0.0 if reference else 1.0), rtol=0, atol=1e-14)


def test_left_alone_it_is_the_papers():
    field = softmax_field()
    assert (field.axis, field.temperature, field.reference, field.normalise) == (
        "in",
        math.sqrt(5),
        None,
        False,
    )
    assert softmax_field(normalise=True).temperature == math.sqrt(3)
    assert softmax_field(normalise=True, temperature="paper").temperature == math.sqrt(5)


def test_it_has_as_many_parameters_as_lora():
    """V4."""
    swin = [96] * 2 + [192] * 2 + [384] * 6 + [768] * 2  # channels of Swin-T's blocks
    for d, k, r in ((5, 7, 3), (7, 5, 1), (96, 64, 8)):
        field, lora = SoftmaxField((d, k), r, generator=draw()), LoRA((d, k), r, generator=draw())
        assert {name: p.shape for name, p in field.state_dict().items()} == {"W1": (k, r), "W2": (r, d)}
        counts = [sum(p.numel() for p in m.parameters()) for m in (field, lora)]
        assert counts == [r * (d + k)] * 2
    assert sum(2 * (C + C) for C in swin) == 17_664  # q and v, for each rank
    assert 1_946_624 + 51_258 + 24 * 17_664 == 2_421_818


def test_initial_values_are_kaimings():
    field = SoftmaxField((900, 400), 300, generator=draw())
    for W, bound in ((field.W1, 1 / 20), (field.W2, 1 / 30)):
        assert 0.999 * bound < float(W.detach().abs().max()) <= bound
        assert float(W.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.01)
    field = SoftmaxField((900, 400), 300, normalise=True, generator=draw())
    for W, bound in ((field.W1, 1), (field.W2, 2 / 3)):
        assert 0.999 * bound < float(W.detach().abs().max()) <= bound


@pytest.mark.parametrize("shape", [(96, 96), (64, 256), (256, 64)])
@pytest.mark.parametrize("std", [1e-3, 0.02, 10.0])
def test_normalised_logits_start_with_a_spread_of_a_third(shape, std):
    found = [
        float(softmax_field(shape, 8, s, normalise=True).logits(matrix(*shape, s, std)).detach().std())
        for s in range(8)
    ]
    assert sum(found) / 8 == pytest.approx(1 / 3, rel=0.05)


@given(scale=st.floats(1e-6, 1e6), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_normalised_field_does_not_see_the_size_of_w(scale, seed):
    field, W = softmax_field(seed=seed, normalise=True), matrix(seed=seed)
    torch.testing.assert_close(field(scale * W), field(W), rtol=1e-12, atol=0)


@given(seed=st.integers(0, 999), axis=st.sampled_from(sorted(AXES)), normalise=st.booleans())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_only_the_product_counts(seed, axis, normalise):
    field, W = softmax_field(seed=seed, axis=axis, normalise=normalise), matrix(seed=seed)
    other = copy.deepcopy(field)
    R = matrix(3, 3, seed) + 3 * torch.eye(3, dtype=DOUBLE)
    with torch.no_grad():
        other.W1.copy_(field.W1 @ R)
        other.W2.copy_(torch.linalg.solve(R, field.W2))
    assert not torch.equal(other.W1, field.W1)
    torch.testing.assert_close(other(W), field(W), rtol=1e-9, atol=1e-12)


def test_neither_t_nor_calling_it_changes_the_field():
    field, W = softmax_field(), matrix()
    before = W.clone()
    assert torch.equal(field(W, 0.0), field(W, 3.0))
    assert torch.equal(field(W), field(W, torch.tensor(0.5)))
    assert torch.equal(W, before)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("normalise", [False, True])
def test_centred_with_w2_at_zero_is_exactly_no_motion(axis, dtype, normalise):
    for shape in ((5, 7), (49, 31), (10, 3)):
        field = SoftmaxField(
            shape, 2, axis=axis, reference="uniform", zero_init=True, normalise=normalise, generator=draw()
        )
        W = matrix(*shape, dtype=dtype)
        assert not field(W).any()
        assert torch.equal(integrate(field, W, steps=3, method="rk4"), W)


def test_centred_learns_w2_first_then_w1():
    field, W = softmax_field(reference="uniform", zero_init=True), matrix()
    goal = matrix(seed=5)
    optimiser = torch.optim.SGD(field.parameters(), lr=0.1)
    losses = []
    for step in range(3):
        optimiser.zero_grad()
        loss = ((integrate(field, W) - goal) ** 2).sum()
        loss.backward()
        losses.append(float(loss.detach()))
        assert field.W2.grad.any()
        assert bool(field.W1.grad.any()) == (step > 0)
        optimiser.step()
    assert losses[0] > losses[1] > losses[2]


def test_draws_come_from_the_generator_alone():
    before = torch.get_rng_state()
    field, again, other = softmax_field(seed=4), softmax_field(seed=4), softmax_field(seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(field.W1, again.W1)
    assert torch.equal(field.W2, again.W2)
    assert not torch.equal(field.W1, other.W1)
    zero = softmax_field(seed=4, zero_init=True)
    assert torch.equal(field.W1, zero.W1)
    assert not zero.W2.any()
    generator = draw()
    first, second = (SoftmaxField((5, 7), 3, generator=generator) for _ in range(2))
    assert not torch.equal(first.W1, second.W1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("own", [torch.float32, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype, own):
    """The softmax itself runs in float32; only its result is rounded to the dtype of W."""
    for reference in (None, "uniform"):
        field = SoftmaxField((6, 40), 3, reference=reference, normalise=True, generator=draw(), dtype=own)
        W = matrix(6, 40, dtype=dtype)
        v = field(W).detach()
        assert v.dtype == dtype
        assert field.logits(W).dtype == torch.float32
        exact = copy.deepcopy(field).double()(W.double()).detach()
        half_a_digit = torch.finfo(dtype).eps / 2
        torch.testing.assert_close(v.double(), exact, rtol=1.01 * half_a_digit, atol=1e-7)
        if reference is None:
            assert float((v.double().sum(1) - 1).abs().max()) < half_a_digit
        field(W).sum().backward()
        assert field.W1.grad.dtype == own


def test_the_wider_dtype_is_computed_in():
    field = SoftmaxField((5, 7), 3, generator=draw())  # float32
    W = matrix()
    assert field(W).dtype == DOUBLE
    torch.testing.assert_close(field(W), copy.deepcopy(field).double()(W), rtol=1e-14, atol=0)
    assert softmax_field()(matrix(dtype=torch.float32)).dtype == torch.float32
    assert softmax_field().logits(matrix(dtype=torch.float32)).dtype == DOUBLE
    big = SoftmaxField((5, 7), 3, generator=draw())(300 * matrix(dtype=torch.float16))
    assert torch.isfinite(big).all()


def test_fields_are_modules():
    field = softmax_field(axis="out", reference="uniform")
    for other in (copy.deepcopy(field), pickle.loads(pickle.dumps(field))):
        assert torch.equal(other(matrix()), field(matrix()))
    other = softmax_field(axis="out", reference="uniform", seed=9)
    other.load_state_dict(field.state_dict())
    assert torch.equal(other(matrix()), field(matrix()))
    with pytest.raises(TypeError):
        VelocityField((5, 7))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shape": (5,)}, r"shape=\(5,\) is not a matrix's; a field needs \(outputs, inputs\)"),
        ({"shape": (5, 7, 2)}, "is not a matrix's"),
        ({"rank": 0}, r"rank=0 must be from 1 to min\(5, 7\) = 5"),
        ({"rank": 6}, "rank=6 must be from 1 to"),
        ({"axis": "rows"}, "axis='rows' is unknown; it is one of in, out, all"),
        ({"reference": "zero"}, "reference='zero' is unknown; it is None or \"uniform\""),
        ({"temperature": "hot"}, 'temperature=\'hot\' must be "paper", "rank" or finite and positive'),
        ({"temperature": 0.0}, r"temperature=0\.0 must be"),
        ({"temperature": -1}, "temperature=-1 must be"),
        ({"temperature": math.inf}, "temperature=inf must be"),
        ({"temperature": math.nan}, "temperature=nan must be"),
    ],
)
def test_softmax_field_refuses(options, said):
    with pytest.raises(ValueError, match=said):
        softmax_field(**options)


def test_constant_field_refuses():
    for A, B in ((torch.ones(3), None), (torch.ones(2, 3), torch.ones(4)), (torch.ones(2, 3), torch.ones(2))):
        with pytest.raises(ValueError, match=r"B·A needs B \(d, r\), A \(r, k\); A is \("):
            ConstantField(A, B)
    with pytest.raises(ValueError, match=r"A is \(2, 3\), B \(2, 5\)"):
        ConstantField(torch.ones(2, 3), torch.ones(2, 5))
    with pytest.raises(ValueError, match="scale=nan must be a finite number"):
        ConstantField(torch.ones(2, 3), scale=math.nan)


@pytest.mark.parametrize("field", [softmax_field(), ConstantField(matrix())], ids=["softmax", "constant"])
def test_fields_refuse_what_they_cannot_move(field):
    for W in (matrix(7, 5), matrix(1, 7), matrix()[0], matrix()[None]):
        with pytest.raises(ValueError, match=r"W has shape \(.*\); this field is for \(d, k\) = \(5, 7\)"):
            field(W)
    with pytest.raises(TypeError, match="W is int64; only floating-point weights can move"):
        field(torch.ones(5, 7, dtype=torch.int64))


def test_normalise_refuses_zero():
    with pytest.raises(ValueError, match="W is all zero: it has no size to normalise by"):
        softmax_field(normalise=True)(torch.zeros(5, 7, dtype=DOUBLE))
    assert softmax_field()(torch.zeros(5, 7, dtype=DOUBLE)).detach().numpy() == pytest.approx(1 / 7)


# ---------------------------------------------------------------- integrate


def turning(W: torch.Tensor, t: float | torch.Tensor) -> torch.Tensor:
    """Each row (x, y) circles with angular speed cos t: the angle at t is sin t."""
    J = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=W.dtype)
    return math.cos(t) * (W @ J)


def turned(W: torch.Tensor, angle: float) -> torch.Tensor:
    c, s = math.cos(angle), math.sin(angle)
    return W @ torch.tensor([[c, s], [-s, c]], dtype=W.dtype)


def logistic(W: torch.Tensor, t: float | torch.Tensor) -> torch.Tensor:
    """2t·W(1 − W), whose logit grows by t²."""
    return 2 * t * W * (1 - W)


CURVED = {
    "turning": (turning, lambda W, a, b: turned(W, math.sin(b) - math.sin(a))),
    "logistic": (logistic, lambda W, a, b: torch.sigmoid(torch.logit(W) + b * b - a * a)),
}


@pytest.mark.parametrize(("method", "name"), product(METHODS, CURVED))
def test_measured_orders(method, name):
    """Halving the step divides the error by 2, 4 and 16."""
    field, closed = CURVED[name]
    W0 = torch.rand(4, 2, generator=draw(), dtype=DOUBLE) * 0.8 + 0.1
    for t0, horizon in ((0.0, 1.0), (0.4, 1.5), (0.9, -0.6)):
        exact = closed(W0, t0, t0 + horizon)
        errors = [
            float((integrate(field, W0, horizon=horizon, steps=K, method=method, t0=t0) - exact).norm())
            for K in (32, 64)
        ]
        assert math.log2(errors[0] / errors[1]) == pytest.approx(METHODS[method], abs=0.1)


def test_one_step_of_each_method_by_hand():
    """On dW/dt = W a step of length h multiplies by the first terms of exp(h)."""
    W0, h = torch.ones(1, dtype=DOUBLE), 0.5
    terms = [h**i / math.factorial(i) for i in range(5)]
    for method, order in METHODS.items():
        found = integrate(lambda W, t: W, W0, horizon=h, method=method)
        assert float(found) == pytest.approx(sum(terms[: order + 1]), rel=1e-15)


@pytest.mark.parametrize("method", METHODS)
def test_where_and_how_often_the_field_is_asked(method):
    times = []

    def field(W, t):
        times.append(float(t))
        return torch.zeros_like(W)

    integrate(field, torch.zeros(1), horizon=2.0, steps=2, method=method, t0=10.0)
    inside = {"euler": [0], "midpoint": [0, 0.5], "rk4": [0, 0.5, 0.5, 1]}[method]
    assert times == [10 + start + part for start in (0, 1) for part in inside]


def test_against_scipy():
    field = softmax_field(normalise=True)
    W0 = matrix()

    def flat(t, w):
        return field(torch.tensor(w).reshape(5, 7)).detach().numpy().ravel()

    exact = solve_ivp(flat, (0, 2), W0.numpy().ravel(), method="DOP853", rtol=1e-12, atol=1e-13).y[:, -1]
    found = integrate(field, W0, horizon=2.0, steps=64, method="rk4").detach().numpy().ravel()
    assert np.abs(found - W0.numpy().ravel()).max() > 0.5
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-9)


def test_against_torchdiffeq():
    odeint = pytest.importorskip("torchdiffeq").odeint
    field, W0 = softmax_field(normalise=True), matrix()
    ts = torch.tensor([0.0, 2.0], dtype=DOUBLE)
    for method in ("euler", "midpoint"):  # its "rk4" is the 3/8 rule
        theirs = odeint(lambda t, W: field(W), W0, ts, method=method, options={"step_size": 0.25})[-1]
        ours = integrate(field, W0, horizon=2.0, steps=8, method=method)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)
    exact = odeint(lambda t, W: field(W), W0, ts, method="dopri5", rtol=1e-10, atol=1e-11)[-1]
    ours = integrate(field, W0, horizon=2.0, steps=64, method="rk4")
    torch.testing.assert_close(ours, exact, rtol=0, atol=1e-8)  # it interpolates its last step
    grads = [torch.autograd.grad(W.square().sum(), (field.W1, field.W2)) for W in (ours, exact)]
    for mine, other in zip(*grads, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-7, atol=1e-9)


@given(seed=st.integers(0, 999), method=st.sampled_from(sorted(METHODS)), K=st.integers(1, 4))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_walking_on_is_walking(seed, method, K):
    """K steps and then L more are K + L steps; t0 tells the second walk where it starts."""
    W0 = torch.rand(3, 2, generator=draw(seed), dtype=DOUBLE)
    h, L = 0.1, 3
    half = integrate(logistic, W0, horizon=K * h, steps=K, method=method, t0=0.2)
    there = integrate(logistic, half, horizon=L * h, steps=L, method=method, t0=0.2 + K * h)
    once = integrate(logistic, W0, horizon=(K + L) * h, steps=K + L, method=method, t0=0.2)
    torch.testing.assert_close(there, once, rtol=1e-12, atol=1e-14)


def test_back_and_forth():
    W0 = matrix(3, 2)
    there = integrate(turning, W0, horizon=2.0, steps=200, method="rk4")
    back = integrate(turning, there, horizon=-2.0, steps=200, method="rk4", t0=2.0)
    torch.testing.assert_close(back, W0, rtol=0, atol=1e-9)
    assert torch.equal(integrate(turning, W0, horizon=0.0, steps=3, method="rk4"), W0)


def test_one_euler_step_is_the_default():
    field, W0 = softmax_field(), matrix()
    assert torch.equal(integrate(field, W0), W0 + field(W0))
    assert torch.equal(integrate(field, W0, horizon=0.25), W0 + 0.25 * field(W0))


def test_the_number_of_steps_hardly_matters_at_the_start():
    """Spec 3.5: 64 steps differ from one by 8e-6 of the update."""
    field, W0 = softmax_field((96, 96), 16), matrix(96, 96, std=0.02)
    one, many = (integrate(field, W0, steps=K).detach() for K in (1, 64))
    assert 1e-6 < float((many - one).norm() / (one - W0).norm()) < 2e-5


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("options", [{}, {"normalise": True, "reference": "uniform", "axis": "all"}])
def test_gradients_through_three_steps(method, options):
    field = softmax_field((3, 4), 2, **options)
    horizon = torch.tensor(0.8, dtype=DOUBLE, requires_grad=True)

    def end(W0, W1, W2, horizon):
        def moved(W, t):
            return functional_call(field, {"W1": W1, "W2": W2}, (W, t))

        return integrate(moved, W0, horizon=horizon, steps=3, method=method)

    inputs = [x.detach().clone().requires_grad_() for x in (matrix(3, 4), field.W1, field.W2)]
    assert torch.autograd.gradcheck(end, (*inputs, horizon))


@pytest.mark.parametrize("K", [1, 3])
def test_gradients_reach_all_parameters(K):
    constant = ConstantField(matrix(2, 7, 1), matrix(5, 2, 2))
    for field in (constant, softmax_field()):
        W0 = matrix().requires_grad_()
        (integrate(field, W0, steps=K, method="rk4") * matrix(seed=8)).sum().backward()
        assert all(p.grad.any() for p in (W0, *field.parameters()))
    torch.testing.assert_close(constant.A.grad, constant.B.detach().T @ matrix(seed=8))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_small_steps_are_not_lost_in_half_precision(dtype):
    seen = []

    def field(W, t):
        seen.append(W.dtype)
        return torch.ones_like(W)

    found = integrate(field, torch.full((2,), 8.0, dtype=dtype), steps=1000)
    assert torch.equal(found, torch.full((2,), 9.0, dtype=dtype))
    assert set(seen) == {dtype}


@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 1, 1), (0, 3)])
def test_any_shape_and_dtype_and_w0_is_left_alone(dtype, shape):
    W0 = torch.ones(shape, dtype=dtype)
    for horizon in (1.0, torch.tensor(1.0), torch.tensor(1.0, dtype=DOUBLE)):
        found = integrate(lambda W, t: -W + t, W0, horizon=horizon, steps=4, method="rk4")
        assert found.shape == W0.shape
        assert found.dtype == dtype
        assert torch.equal(W0, torch.ones(shape, dtype=dtype))


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"steps": 0}, ValueError, "steps=0 must be a whole number, 1 or more"),
        ({"steps": -3}, ValueError, "steps=-3 must"),
        ({"steps": 2.0}, ValueError, r"steps=2\.0 must"),
        ({"steps": True}, ValueError, "steps=True must"),
        ({"method": "heun"}, ValueError, "method='heun' is unknown; it is one of euler, midpoint, rk4"),
        ({"horizon": math.nan}, ValueError, "horizon=nan must be one finite number"),
        ({"horizon": torch.tensor(math.inf)}, ValueError, "horizon=inf must be one finite number"),
        ({"horizon": torch.ones(2)}, ValueError, r"horizon=tensor\(\[1., 1.\]\) must be one finite number"),
        ({"horizon": "long"}, TypeError, "horizon is a str; it must be a number"),
        ({"horizon": True}, TypeError, "horizon is a bool; it must be a number"),
        ({"t0": math.inf}, ValueError, "t0=inf must be one finite number"),
    ],
)
def test_integrate_refuses_options(options, kind, said):
    with pytest.raises(kind, match=said):
        integrate(lambda W, t: W, torch.ones(2), **options)


def test_integrate_refuses_weights_and_velocities():
    with pytest.raises(ValueError, match="W0 has NaN or infinite entries"):
        integrate(lambda W, t: W, torch.tensor([1.0, math.nan]))
    with pytest.raises(TypeError, match="W0 must be dense and floating-point"):
        integrate(lambda W, t: W, torch.ones(2, dtype=torch.int64))
    for wrong in (lambda W, t: W.T, lambda W, t: W[0], lambda W, t: W.sum(), lambda W, t: W[None]):
        with pytest.raises(ValueError, match=r"field returned a \(.*\) at a W of \(2, 3\), not its shape"):
            integrate(wrong, torch.ones(2, 3))
    with pytest.raises(ValueError, match="the flow became infinite in steps=20; take more, or a shorter"):
        integrate(lambda W, t: W**3, torch.full((2,), 10.0), horizon=10.0, steps=20)
    with pytest.raises(ValueError, match="became infinite"):
        integrate(lambda W, t: W, torch.full((2,), 40000.0, dtype=torch.float16))
    with pytest.raises(ValueError, match=r"this field is for \(d, k\) = \(5, 7\)"):
        integrate(softmax_field(), matrix(7, 5))


# ---------------------------------------------------------------- flows


def point(dtype: torch.dtype = DOUBLE):
    return {"a": matrix(dtype=dtype), "bias": torch.arange(5.0).to(dtype), "b": matrix(4, 4, 1, dtype=dtype)}


def fields(**options):
    return {"a": softmax_field(normalise=True, **options), "b": softmax_field((4, 4), 2, **options)}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32, torch.bfloat16])
def test_flow_is_integrate_tensor_by_tensor(method, dtype):
    W0, chosen = point(dtype), fields()
    road = Flow(W0, chosen, horizon=2.0, steps=3, method=method)
    for t in (0.0, 0.3, 1.0, torch.tensor(0.3)):
        found = road.at(t)
        assert list(found) == list(W0)
        assert torch.equal(found["bias"], W0["bias"])
        for name, field in chosen.items():
            wanted = integrate(field, W0[name], horizon=float(t) * 2, steps=3, method=method)
            torch.testing.assert_close(found[name], wanted)
            assert found[name].dtype == dtype
    assert all(torch.equal(road.at(0.0)[k], W0[k]) for k in W0)
    assert all(torch.equal(road.at(1.0)[k], road.W1[k]) for k in W0)
    assert not any(W.requires_grad for W in road.W1.values())


def test_flow_velocity_is_the_field_where_the_road_is():
    W0, chosen = point(), fields()
    road = Flow(W0, chosen, horizon=2.0, steps=8, method="rk4")
    for t in (0.0, 0.7, torch.tensor(0.7, dtype=DOUBLE)):
        found, here = road.velocity(t), road.at(t)
        assert list(found) == list(W0)
        assert not found["bias"].any()
        for name, field in chosen.items():
            torch.testing.assert_close(found[name], 2 * field(here[name]))
            assert found[name].dtype == DOUBLE


@pytest.mark.parametrize("method", METHODS)
def test_flow_velocity_is_the_derivative_but_for_the_integrators_error(method):
    """The field that depends on t shows whether velocity asks it at t·horizon."""
    W0 = {"w": torch.rand(3, 2, generator=draw(), dtype=DOUBLE)}
    gaps = []
    for K in (16, 32):
        road = Flow(W0, {"w": logistic}, horizon=1.5, steps=K, method=method)
        t = torch.tensor(0.6, dtype=DOUBLE)
        slope = torch.autograd.functional.jacobian(lambda s, road=road: road.at(s)["w"], t)
        gaps.append(float((slope - road.velocity(t)["w"]).norm()))
    assert math.log2(gaps[0] / gaps[1]) == pytest.approx(METHODS[method], abs=0.15)


def test_flow_of_a_constant_field_is_a_line():
    lora = LoRA((5, 7), 2, generator=draw(), dtype=DOUBLE)
    with torch.no_grad():
        lora.B.normal_(generator=draw(1))
    field = ConstantField(lora.A, lora.B, scale=lora.scale)
    road = Flow({"w": matrix()}, {"w": field}, horizon=2.0)
    BA = (lora.B @ lora.A).detach()
    torch.testing.assert_close(road.at(0.25)["w"], matrix() + 0.5 * BA)
    assert float(length(road).detach()) == pytest.approx(float(2 * BA.norm()), rel=1e-12)
    assert float(speed(road, 0.3).detach()) == pytest.approx(float(2 * BA.norm()), rel=1e-12)


@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("method", METHODS)
def test_vmap_over_t(method, dtype):
    road = Flow(point(dtype), fields(), horizon=2.0, steps=3, method=method)
    ts = torch.linspace(0, 1, 5, dtype=DOUBLE)
    for function in (road.at, road.velocity):
        many = torch.vmap(function)(ts)
        for i, t in enumerate(ts):
            for name, W in function(t).items():
                assert many[name].dtype == dtype
                torch.testing.assert_close(many[name][i], W)


def test_training_the_fields_moves_the_road():
    chosen = fields()
    road = Flow(point(), chosen, steps=2)
    before, end = road.at(1.0), {k: W.clone() for k, W in road.W1.items()}
    sum(W.square().sum() for W in before.values()).backward()
    assert all(p.grad.any() for field in chosen.values() for p in field.parameters())
    with torch.no_grad():
        chosen["a"].W1.mul_(2)
    assert not torch.equal(road.at(1.0)["a"], before["a"])
    assert torch.equal(road.at(1.0)["b"], before["b"])
    assert all(torch.equal(W, end[k]) for k, W in road.W1.items())


def test_evaluate_along_a_flow():
    model = nn.Linear(7, 5).double()
    W0 = params_of(model)
    x = matrix(9, 7, 3)
    road = Flow(W0, {"weight": softmax_field()})
    curve = evaluate(road, model, lambda run: run(x), [0.0, 0.5, 1.0])
    torch.testing.assert_close(curve.values[0], model(x).detach())
    torch.testing.assert_close(curve.values[2], x @ road.W1["weight"].T + W0["bias"])
    assert torch.equal(model.weight, W0["weight"])
    with pytest.raises(ValueError, match="outside"):
        evaluate(road, model, lambda run: run(x), [1.5])
    beyond = Flow(W0, {"weight": softmax_field()}, extrapolate=True)
    assert len(evaluate(beyond, model, lambda run: run(x), [-0.5, 1.5]).values) == 2


@pytest.mark.parametrize(
    ("given", "options", "kind", "said"),
    [
        ({}, {}, ValueError, r"fields names \[\]; it must be a dict with some of W0's names, \['a', 'b', 'b"),
        ({"c": turning}, {}, ValueError, r"fields names \['c'\]; it must be"),
        (turning, {}, ValueError, "fields is a function; it must be a dict"),
        (None, {"steps": 0}, ValueError, "steps=0"),
        (None, {"method": "heun"}, ValueError, "method='heun'"),
        (None, {"horizon": math.nan}, ValueError, "horizon=nan must be one finite number"),
        (None, {"horizon": "long"}, TypeError, "horizon is a str"),
        ({"b": softmax_field()}, {}, ValueError, r"this field is for \(d, k\) = \(5, 7\)"),
        ({"a": lambda W, t: W[0]}, {}, ValueError, r"field returned a \(7,\) at a W of \(5, 7\)"),
        ({"a": lambda W, t: 1e300 * W**3}, {"steps": 5}, ValueError, "the flow became infinite in steps=5"),
    ],
)
def test_flow_refuses(given, options, kind, said):
    with pytest.raises(kind, match=said):
        Flow(point(), fields() if given is None else given, **options)


def test_flow_refusals_name_the_tensor():
    with pytest.raises(ValueError, match="not its shape") as caught:
        Flow(point(), {"b": lambda W, t: W[0]})
    assert caught.value.__notes__ == ["on the road of 'b'"]
    with pytest.raises(ValueError, match="W0 has NaN or infinite entries in 'bias'"):
        Flow(point() | {"bias": torch.tensor([math.nan])}, fields())

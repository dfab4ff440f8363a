"""Adapters: one table of cases, the identities that all keep, and what each one is."""

import copy
import math

import pytest
import torch
from cases import CASES, DOUBLE, GEODESIC, SHAPE, drawn, frozen, moved, of, rows
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from geolessons import geodesics
from geolessons.adapters import Adapter, LoRA, Rows, adapted
from geolessons.attaching import attach, detach, effective_weights
from geolessons.geodesics import GeodesicLoRA, RampedLoRA, set_t
from geolessons.io import load, save
from geolessons.paths import Slerp
from geolessons.sphere import angle, slerp
from geolessons.velocity import VelocityLoRA

every = pytest.mark.parametrize("make", CASES.values(), ids=CASES)


@every
@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_f_linear_with_the_weight(make, bias):
    adapter, W0 = moved(make(SHAPE, drawn(0))).eval(), frozen()
    b = frozen((12,), 2) if bias else None
    for batch in ((), (4,), (2, 3), (0,), (2, 0), (30,), (3, 7)):  # with more entries than W0, and with fewer
        x = frozen((*batch, 5), 3)
        torch.testing.assert_close(adapter.linear(x, W0, b), F.linear(x, adapter.weight(W0), b))


@settings(deadline=None, max_examples=15, derandomize=True)
@given(d=st.integers(3, 9), k=st.integers(1, 9), seed=st.integers(0, 999), size=st.floats(0, 3))
@every
def test_linear_agrees_at_any_shape_and_size(make, d, k, seed, size):
    adapter, W0 = moved(make((d, k), drawn(seed)), seed, size).eval(), frozen((d, k), seed + 1)
    x = frozen((2, k), seed + 2)
    torch.testing.assert_close(
        adapter.linear(x, W0, None), F.linear(x, adapter.weight(W0)), rtol=1e-9, atol=1e-9
    )


@every
def test_a_fresh_adapter_is_the_identity(make):
    W0 = frozen()
    adapter = make(SHAPE, drawn(0))
    if isinstance(adapter, VelocityLoRA) and adapter.field.reference is None:
        gained = (adapter.weight(W0) - W0).sum(1 if adapter.field.axis == "in" else 0)
        torch.testing.assert_close(gained, torch.full_like(gained, adapter.horizon))
        pytest.skip("the paper's field is never zero: it has moved each row (or column) by the horizon")
    assert torch.equal(adapter.weight(W0), W0)
    x, b = frozen((4, 5), 3), frozen((12,), 2)
    torch.testing.assert_close(adapter.linear(x, W0, b), F.linear(x, W0, b), rtol=1e-14, atol=1e-14)


@every
@pytest.mark.parametrize("batch", [(4,), (2, 9)], ids=["few", "many"])
def test_both_routes_have_the_same_gradients(make, batch):
    adapter, W0 = moved(make(SHAPE, drawn(0))).eval(), frozen()
    x, b = frozen((*batch, 5), 3).requires_grad_(), frozen((12,), 2).requires_grad_()
    wanted = (*adapter.parameters(), x, b)
    target = frozen((*batch, 12), 5)
    routes = adapter.linear(x, W0, b), F.linear(x, adapter.weight(W0), b)
    one, other = (torch.autograd.grad((y - target).square().sum(), wanted) for y in routes)
    for g, h in zip(one, other, strict=True):
        torch.testing.assert_close(g, h)


@every
def test_gradients_are_right_unless_the_angle_is_held(make):
    adapter, W0 = moved(make(SHAPE, drawn(0))).eval(), frozen()
    if any(isinstance(m, GeodesicLoRA) and m.detach_angle for m in adapter.modules()):
        pytest.skip("holds f and g constant, on purpose")
    names = [name for name, _ in adapter.named_parameters()]

    def f(*values):
        return torch.func.functional_call(_Weight(adapter), dict(zip(names, values, strict=True)), (W0,))

    values = tuple(p.detach().clone().requires_grad_() for p in adapter.parameters())
    assert torch.autograd.gradcheck(f, values)


def _Weight(adapter):
    """The adapter as a module whose call is `weight`."""
    shell = copy.copy(adapter)
    shell.forward = adapter.__class__.weight.__get__(shell)
    return shell


@every
def test_gradients_with_respect_to_a_weight_that_is_not_frozen(make):
    adapter, W0 = moved(make(SHAPE, drawn(0))).eval(), frozen().requires_grad_()
    x = frozen((20, 5), 3)
    routes = adapter.linear(x, W0), F.linear(x, adapter.weight(W0))
    one, other = (torch.autograd.grad(y.square().sum(), W0)[0] for y in routes)
    torch.testing.assert_close(one, other)


HELD = {"tensor": of(GeodesicLoRA, t=0.4), "row": of(GeodesicLoRA, t=0.4, scope="row")}
held = pytest.mark.parametrize("make", HELD.values(), ids=HELD)


@held
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own, in forward mode
def test_a_held_angle_has_second_and_forward_derivatives(make):
    adapter, W0 = moved(make(SHAPE, drawn(0))), frozen()
    x = frozen((13, 5), 3).requires_grad_()  # more entries than W0
    assert torch.autograd.gradgradcheck(lambda x: adapter.linear(x.tanh(), W0), x)
    _, along = torch.func.jvp(lambda x: adapter.linear(x, W0), (x.detach(),), (frozen((13, 5), 4),))
    torch.testing.assert_close(along, F.linear(frozen((13, 5), 4), adapter.weight(W0)))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x.detach(), frozen((13, 5), 4))
        y = torch.autograd.forward_ad.unpack_dual(adapter.linear(dual, W0))
    torch.testing.assert_close(y.tangent, along)


@held
def test_a_held_angle_in_autocast_has_the_gradients_of_float32(make):
    adapter, W0 = moved(make(SHAPE, drawn(0), torch.float32)), frozen(dtype=torch.float32)
    b = frozen((12,), 2, torch.float32).requires_grad_()
    x = frozen((30, 5), 3, torch.float32).requires_grad_()
    wanted = (*adapter.parameters(), x, b)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = adapter.linear(x, W0, b)
    assert narrow.dtype == torch.bfloat16
    routes = narrow, F.linear(x, adapter.weight(W0), b)
    one, other = (torch.autograd.grad(y.float().square().sum(), wanted) for y in routes)
    for g, h in zip(one, other, strict=True):
        assert g.dtype == torch.float32
        assert float((g - h).norm() / h.norm()) < 0.02


def kept_for_backward(adapter, tokens):
    """Bytes of what autograd keeps of one forward pass besides W0, each storage once."""
    W0, found = frozen((40, 30), dtype=torch.float32), {}
    x = frozen((tokens, 30), 3, torch.float32).requires_grad_()

    def pack(y):
        found[y.untyped_storage().data_ptr()] = y
        return y

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda y: y):
        adapter.linear(x, W0, frozen((40,), 2, torch.float32)).sum()
    found.pop(W0.untyped_storage().data_ptr(), None)
    return sum(y.untyped_storage().nbytes() for y in found.values())


@held
@pytest.mark.parametrize("tokens", [3, 100])
def test_a_held_angle_keeps_no_more_than_lora_and_two_numbers_a_row(make, tokens):
    plain = moved(LoRA((40, 30), 3, generator=drawn(0)))
    adapter = moved(make((40, 30), drawn(0), torch.float32))
    few = 2 * 40 * 8 + 40 * 3 * 4  # f + g and g for each row, and g·B
    assert 0 < kept_for_backward(plain, tokens) <= kept_for_backward(adapter, tokens)
    assert kept_for_backward(adapter, tokens) <= kept_for_backward(plain, tokens) + few


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_weight_has_the_dtype_of_w0_and_autocast_does_not_touch_it(make, dtype):
    adapter, W0 = moved(make(SHAPE, drawn(0), torch.float32)).eval(), frozen(dtype=dtype)
    W = adapter.weight(W0)
    assert W.dtype == dtype
    exact = copy.deepcopy(adapter).double().weight(W0.double())
    torch.testing.assert_close(W.double(), exact, rtol=2 * torch.finfo(dtype).eps, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(adapter.weight(W0), W)
        y = adapter.linear(frozen((4, 5), 3, torch.float32), W0.float(), frozen((12,), 2, torch.float32))
    assert y.dtype == torch.bfloat16
    for tokens in (4, 20):
        x, b = frozen((tokens, 5), 3, dtype), frozen((12,), 2, dtype)
        y = adapter.linear(x, W0, b)
        assert y.dtype == dtype
        true = F.linear(x.double(), exact, b.double())
        torch.testing.assert_close(y.double(), true, rtol=0, atol=100 * torch.finfo(dtype).eps)


@every
def test_it_refuses_a_weight_of_another_shape(make):
    adapter = make(SHAPE, drawn(0))
    for shape in ((5, 12), (12,), (1, 5), (2, 12, 5), (15, 5)):
        for call in (adapter.weight, lambda W: adapter.linear(torch.ones(2, W.shape[-1], dtype=DOUBLE), W)):
            with pytest.raises(ValueError, match=r"W0 has shape .*; this adapter is for \(12, 5\)"):
                call(torch.ones(shape, dtype=DOUBLE))


@every
def test_making_one_leaves_the_global_generator_alone_and_repeats(make):
    before = torch.get_rng_state()
    one, other = (list(make(SHAPE, drawn(7)).parameters()) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(p, q) for p, q in zip(one, other, strict=True))
    assert all(p.requires_grad for p in one)


def test_an_adapter_need_only_say_its_weight():
    class Doubled(Adapter):
        def weight(self, W0):
            return 2 * W0

    x, b = frozen((4, 5), 3), frozen((12,), 2)
    torch.testing.assert_close(Doubled(SHAPE).linear(x, frozen(), b), F.linear(x, 2 * frozen(), b))
    assert repr(Doubled(SHAPE)) == "Doubled(12×5)"
    with pytest.raises(TypeError):
        Adapter(SHAPE)


# LoRA


def test_a_is_uniform_within_one_over_root_k():
    A = LoRA((100, 400), 100, generator=drawn(0)).A.detach()
    assert float(A.abs().max()) <= 1 / 20
    assert float(A.std()) == pytest.approx(1 / 20 / math.sqrt(3), rel=0.02)
    assert abs(float(A.mean())) < 1e-3


@pytest.mark.parametrize(
    ("alpha", "scaling", "scale"),
    [
        (None, "standard", 1.0),
        (8, "standard", 2.0),
        (2, "standard", 0.5),
        (None, "rank_stabilised", 2.0),
        (8, "rank_stabilised", 4.0),
        (16, "paper", 16.0),
        (0, "standard", 0.0),
    ],
)
def test_lora_is_w0_plus_scaled_product(alpha, scaling, scale):
    adapter = moved(LoRA(SHAPE, 4, alpha, scaling=scaling, generator=drawn(0), dtype=DOUBLE))
    W0 = frozen()
    found = adapter.weight(W0)
    torch.testing.assert_close(found, W0 + scale * adapter.B @ adapter.A)
    assert (adapter.rank, adapter.A.shape, adapter.B.shape) == (4, (4, 5), (12, 4))
    gradients = torch.autograd.grad(found.sum(), (adapter.A, adapter.B))
    torch.testing.assert_close(gradients[0], scale * adapter.B.detach().sum(0)[:, None].expand(4, 5))
    torch.testing.assert_close(gradients[1], scale * adapter.A.detach().sum(1).expand(12, 4))


def test_dropout_is_on_the_a_branch_in_training_only():
    adapter, W0 = moved(of(LoRA, dropout=0.5)(SHAPE, drawn(0))), frozen()
    x = torch.ones(20_000, 5, dtype=DOUBLE)
    with torch.random.fork_rng():
        y = adapter.train().linear(x, W0, None)
    branch = (y - x @ W0.T).detach()
    full = (x @ (adapter.weight(W0) - W0).T).detach()
    assert not torch.allclose(branch, full)
    torch.testing.assert_close(branch.mean(0), full.mean(0), rtol=0, atol=0.1)  # kept ones are doubled
    with torch.no_grad():  # each entry of the input is dropped on its own
        options = 2 * torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=DOUBLE)] * 5)
        possible = options @ (adapter.scale * adapter.B @ adapter.A).T
    assert float(torch.cdist(branch[:200], possible).min(1).values.max()) < 1e-6
    assert torch.equal(adapter.eval().linear(x, W0, None), adapter.linear(x, W0, None))


@pytest.mark.parametrize(
    ("shape", "rank", "options", "said"),
    [
        ((4,), 1, {}, r"shape=\(4,\) is not a matrix's; LoRA needs \(outputs, inputs\)"),
        ((4, 3, 2), 1, {}, "is not a matrix's"),
        ((4, 0), 1, {}, "is not a matrix's"),
        ((4, 3), 0, {}, r"rank=0 must be from 1 to min\(4, 3\) = 3"),
        ((4, 3), 4, {}, "rank=4 must be from 1 to"),
        ((4, 3), True, {}, "rank=True must be from 1 to .*, a whole number"),
        ((4, 3), 2.0, {}, r"rank=2.0 must be from 1 to min\(4, 3\) = 3, a whole number"),
        ((4, 3), 2, {"alpha": math.inf}, "alpha=inf must be a finite number"),
        ((4, 3), 2, {"scaling": "rslora"}, "scaling='rslora' is unknown; it is one of standard, rank_stab"),
        ((4, 3), 2, {"dropout": 1.0}, r"dropout=1.0 must be a chance in \[0, 1\)"),
        ((4, 3), 2, {"dropout": -0.1}, "dropout=-0.1 must be"),
    ],
)
def test_lora_refuses(shape, rank, options, said):
    with pytest.raises(ValueError, match=said):
        LoRA(shape, rank, generator=torch.Generator(), **options)


def test_what_print_shows():
    options = {"generator": drawn(0)}
    assert repr(LoRA((4, 3), 2, 4, **options)) == "LoRA(4×3, rank=2, scale=2)"
    assert repr(LoRA((4, 3), 2, dropout=0.1, **options)) == "LoRA(4×3, rank=2, scale=1, dropout=0.1)"
    assert repr(GeodesicLoRA((4, 3), 2, t=0.5, **options)) == "GeodesicLoRA(4×3, rank=2, scale=1, t=0.5)"
    shown = repr(Rows((4, 3), [(slice(2), LoRA((2, 3), 2, **options))]))
    assert shown.splitlines()[0].strip() == "Rows("
    assert "4×3, rows 0:2" in shown


# roads


@pytest.mark.parametrize("options", GEODESIC.values(), ids=GEODESIC)
@pytest.mark.parametrize("size", [1e-7, 1e-3, 0.3, 2.0])
def test_geodesic_is_slerp_to_the_end_of_lora(options, size):
    adapter, W0 = moved(of(GeodesicLoRA, **options)(SHAPE, drawn(0)), size=size), frozen()
    W1 = W0 + 2 * (adapter.B @ adapter.A).detach()
    wanted = {key: options[key] for key in ("scope", "norm_mode")}
    true = slerp(W0, W1, float(torch.tensor(options["t"])), **wanted)
    torch.testing.assert_close(adapter.weight(W0), true, rtol=1e-12, atol=1e-12)
    # q² − p² leaves half the digits of a float64, of the size of Δ
    torch.testing.assert_close(adapter.angle(W0), angle(W0, W1, scope=options["scope"]), rtol=1e-6, atol=0)


@pytest.mark.parametrize("block", [1 << 22, 100, 1])
def test_the_angle_in_float32_keeps_its_digits(block, monkeypatch):
    monkeypatch.setattr(geodesics, "BLOCK", block)
    W0 = frozen((96, 64), dtype=torch.float32)
    for size in (1e-6, 1e-4, 1e-2):
        adapter = moved(of(GeodesicLoRA, t=0.5)((96, 64), drawn(0), torch.float32), size=size)
        W1 = W0.double() + 2 * (adapter.B.double() @ adapter.A.double()).detach()
        assert float(adapter.angle(W0)) == pytest.approx(float(angle(W0.double(), W1)), rel=1e-9)


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("options", [{}, {"scope": "row"}, {"norm_mode": "direction_geometric"}])
def test_where_there_is_no_direction_the_road_is_straight(options, detach):
    options = {"t": 0.25, "detach_angle": detach, **options}
    W0 = frozen()
    made = of(GeodesicLoRA, **options)
    adapter = moved(made(SHAPE, drawn(0)))
    nothing = torch.zeros_like(W0)
    torch.testing.assert_close(adapter.weight(nothing), 0.5 * adapter.B @ adapter.A)
    # one that ends at zero, in numbers without rounding: W0 = −sBA
    back = made((2, 2), drawn(0))
    with torch.no_grad():
        back.A.copy_(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        back.B.copy_(torch.tensor([[-1.0, 0.0], [0.0, 0.0]]))
    there = torch.tensor([[6.0, 8.0], [0.0, 0.0]], dtype=DOUBLE)
    torch.testing.assert_close(back.weight(there), 0.75 * there)
    for m, W in ((adapter, nothing), (back, there), (made(SHAPE, drawn(0)), W0)):
        gradients = torch.autograd.grad(m.weight(W).square().sum(), (m.A, m.B))
        assert all(g.isfinite().all() for g in gradients)
    # one number has a sign only
    number = moved(made((1, 1), drawn(0)))
    W = torch.tensor([[-10.0]], dtype=DOUBLE) * torch.sign(number.B @ number.A).detach()
    torch.testing.assert_close(number.weight(W), W + 0.5 * number.B @ number.A)


def test_opposite_ends_are_refused():
    adapter, W0 = GeodesicLoRA((2, 2), 1, t=0.5, generator=drawn(0), dtype=DOUBLE), torch.zeros(2, 2)
    W0[0, 0] = 1
    with torch.no_grad():
        adapter.A.copy_(torch.tensor([[1.0, 0.0]]))
        adapter.B.copy_(torch.tensor([[-3.0], [0.0]]))
    with pytest.raises(ValueError, match=r"W0 and W1 point in opposite directions \(angle 3.14"):
        adapter.weight(W0.double())


def test_a_held_angle_is_a_constant_of_the_backward_pass():
    W0, x = frozen(), frozen((4, 5), 3)
    held, exact = (moved(of(GeodesicLoRA, t=0.5, detach_angle=d)(SHAPE, drawn(0))) for d in (True, False))
    gradients = [torch.autograd.grad(m.linear(x, W0).square().sum(), (m.A, m.B)) for m in (held, exact)]
    a, b = held.mix(W0)
    W = a * W0 + b * 2 * held.B @ held.A
    true = torch.autograd.grad((x @ W.T).square().sum(), (held.A, held.B))
    for h, e, t in zip(*gradients, true, strict=True):
        torch.testing.assert_close(h, t)
        assert not torch.allclose(h, e)


def test_ramped_is_lora_with_a_scaled_alpha():
    ramped, W0 = moved(of(RampedLoRA, t=0.25)(SHAPE, drawn(0))), frozen()
    torch.testing.assert_close(ramped.weight(W0), W0 + 0.5 * ramped.B @ ramped.A)


def test_t_is_a_buffer_that_set_t_fills():
    model = torch.nn.ModuleDict({"a": of(RampedLoRA, t=0.1)(SHAPE, drawn(0)), "b": of(LoRA)(SHAPE, drawn(0))})
    model["c"] = Rows((5, 5), [(slice(5), of(GeodesicLoRA, t=0.2)((5, 5), drawn(0)))])
    assert [name for name, _ in model.named_buffers()] == ["a.t", "c.adapters.0.t"]
    buffer = model["a"].t
    set_t(model, 0.5)
    assert model["a"].t is buffer
    assert [float(t) for t in model.buffers()] == [0.5, 0.5]
    set_t(model["a"], torch.tensor(1.0))
    assert [float(t) for t in model.buffers()] == [1.0, 0.5]
    for t, error, said in (
        (1.5, ValueError, "t=1.5 is outside"),
        (math.nan, ValueError, "NaN"),
        ("1", TypeError, "t is a str"),
    ):
        with pytest.raises(error, match=said):
            set_t(model, t)
        with pytest.raises(error, match=said):
            RampedLoRA(SHAPE, 2, t=t, generator=drawn(0))
    with pytest.raises(ValueError, match="set_t found no GeodesicLoRA or RampedLoRA"):
        set_t(model["b"], 0.5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scope": "layer"}, "scope='layer' is unknown; it is one of tensor, row, model"),
        ({"scope": "model", "detach_angle": False}, "detach_angle=False must be True with scope"),
        ({"norm_mode": "direction"}, "norm_mode='direction' is unknown; it is one of raw, direction_linear"),
        ({"t": -0.1}, r"t=-0.1 is outside \[0, 1\]"),
    ],
)
def test_geodesic_refuses(options, said):
    with pytest.raises(ValueError, match=said):
        GeodesicLoRA(SHAPE, 2, generator=drawn(0), **({"t": 0.5} | options))


# one angle for the whole model


def whole_model(**options):
    """Two adapted layers, one of them only in its first and last third, and a plain one."""
    torch_layers = {"a": nn.Linear(5, 12), "b": nn.Linear(4, 6, bias=False), "c": nn.Linear(3, 3)}
    model = nn.ModuleDict(torch_layers).double()
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.copy_(frozen(p.shape, 20 + i))
    make = {
        "a": rows(of(GeodesicLoRA, scope="model", **options)),
        "b": of(GeodesicLoRA, scope="model", **options),
    }
    attach(model, ["a", "b"], lambda name, W: make[name](W.shape, drawn(len(name)), W.dtype))
    return moved(model)


def whole_arc(model, **options):
    """The dense one: what is adapted, as one vector."""
    b, r = model["b"], model["a"].adapter
    pieces = [(model["a"].base_weight[i:j], x) for (i, j), x in zip(r.slices, r.adapters, strict=True)]
    pieces = [(W.detach(), x) for W, x in [*pieces, (b.base_weight, b.adapter)]]
    W0 = {str(i): W for i, (W, _) in enumerate(pieces)}
    W1 = {str(i): (W + x.scale * x.B @ x.A).detach() for i, (W, x) in enumerate(pieces)}
    return Slerp(W0, W1, scope="model", **options), angle(W0, W1, scope="model")


@pytest.mark.parametrize("mode", ["raw", "direction_linear", "direction_geometric"])
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_scope_model_is_slerp_of_all_adapted_tensors_as_one_vector(mode, t):
    model = whole_model(t=0.9, norm_mode=mode)
    road, omega = whole_arc(model, norm_mode=mode)
    set_t(model, t)
    wanted, W = road.at(float(torch.tensor(t))), model["a"].weight
    torch.testing.assert_close(W[:4], wanted["0"], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(W[8:], wanted["1"], rtol=1e-12, atol=1e-12)
    assert torch.equal(W[4:8], model["a"].base_weight[4:8])
    torch.testing.assert_close(model["b"].weight, wanted["2"], rtol=1e-12, atol=1e-12)
    found = model["b"].adapter.angle(model["b"].base_weight)
    torch.testing.assert_close(found, omega, rtol=1e-9, atol=0)
    x = frozen((7, 4), 3)
    torch.testing.assert_close(model["b"](x), F.linear(x, model["b"].weight))
    model["b"](x).square().sum().backward()
    assert float(model["b"].adapter.A.grad.norm()) > 0 or t == 0


def test_scope_model_is_measured_by_set_t_only():
    model = whole_model(t=0.5)
    x = frozen((2, 4), 3)
    for use in (lambda: model["b"](x), lambda: model["b"].weight, lambda: effective_weights(model)):
        with pytest.raises(ValueError, match=r"not known yet: call set_t\(model, t\)"):
            use()
    with pytest.raises(ValueError, match='1 adapters with scope="model" are in no adapted layer'):
        set_t(model["b"].adapter, 0.5)
    set_t(model, 0.5)
    before = model["b"].weight.detach()
    moved(model, seed=7, size=2.0)
    held = model["b"].adapter.angle(model["b"].base_weight)
    set_t(model, 0.5)
    assert float(model["b"].adapter.angle(model["b"].base_weight)) > 1.5 * float(held)
    assert not torch.equal(model["b"].weight, before)
    set_t(model["b"], 0.5)  # all that is adapted there is one matrix
    b = model["b"].adapter
    one = angle(model["b"].base_weight.detach(), (model["b"].base_weight + b.scale * b.B @ b.A).detach())
    torch.testing.assert_close(b.angle(model["b"].base_weight), one, rtol=1e-9, atol=0)


@pytest.mark.parametrize("measured", [True, False])
def test_scope_model_comes_back_from_a_file(tmp_path, measured):
    model, again = whole_model(t=0.4), whole_model(t=0.4)
    if measured:
        set_t(model, 0.4)
    save(model, tmp_path / "x")
    detach(again)
    load(again, tmp_path / "x")
    if not measured:
        with pytest.raises(ValueError, match="not known yet"):
            effective_weights(again)
        set_t(model, 0.4)
        set_t(again, 0.4)
    found, wanted = effective_weights(again), effective_weights(model)
    assert all(torch.equal(W, wanted[name]) for name, W in found.items())


@pytest.mark.parametrize("arc", [[4.0, 1.0, 1.0], [0.1, 0.0, 1.0], [math.nan, 1.0, 1.0], [-0.5, 1.0, 1.0]])
def test_scope_model_refuses_a_file_with_an_impossible_arc(tmp_path, arc):
    model = whole_model(t=0.4)
    model["b"].adapter.arc.copy_(torch.tensor(arc))

    def there_and_back():
        save(model, tmp_path / "x")
        detach(model)
        load(model, tmp_path / "x")

    with pytest.raises(ValueError, match=r"must be an angle and two lengths|NaN or infinite"):
        there_and_back()


# rows


def test_rows_touch_their_block_only():
    g = drawn(0)
    q, v = (moved(LoRA((4, 5), 2, generator=g, dtype=DOUBLE), i) for i in range(2))
    W0 = frozen()
    W = Rows(SHAPE, [(slice(8, None), v), (slice(0, 4), q)]).weight(W0)
    assert torch.equal(W[4:8], W0[4:8])
    assert torch.equal(W[:4], q.weight(W0[:4]))
    assert torch.equal(W[8:], v.weight(W0[8:]))
    W = Rows(SHAPE, [(slice(4, 8), q)]).weight(W0)
    assert torch.equal(W[:4], W0[:4])
    assert torch.equal(W[8:], W0[8:])


@pytest.mark.parametrize(
    ("slices", "said"),
    [
        ([], "blocks is empty"),
        ([slice(0, 4), slice(3, 7)], "row 3 is in two blocks"),
        ([slice(0, 8, 2)], "must be a slice start:stop, not empty, of the 12 rows"),
        ([slice(4, 4)], "must be a slice"),
        ([slice(10, 14)], "must be a slice"),
        ([slice(0, 5)], r"the adapter of rows 0:5 is for \(4, 5\), not \(5, 5\)"),
    ],
)
def test_rows_refuse(slices, said):
    with pytest.raises(ValueError, match=said):
        Rows(SHAPE, [(s, LoRA((4, 5), 2, generator=drawn(0))) for s in slices])


# points


def test_adapted_replaces_the_adapted_only():
    adapter = moved(LoRA((4, 3), 2, generator=torch.Generator()))
    W0 = {"bias": torch.ones(4), "weight": torch.ones(4, 3)}
    found = adapted(W0, {"weight": adapter})
    assert list(found) == ["bias", "weight"]
    assert found["bias"] is W0["bias"]
    torch.testing.assert_close(found["weight"], adapter.weight(W0["weight"]))
    assert found["weight"].requires_grad
    assert torch.equal(W0["weight"], torch.ones(4, 3))
    with pytest.raises(ValueError, match=r"adapters names \['wieght'\], which W0 does not have; it has"):
        adapted(W0, {"wieght": adapter})


# ---------------------------------------------------------------- velocity


def test_velocity_adapters_have_as_many_numbers_as_lora():
    velocity, lora = VelocityLoRA(SHAPE, 3, generator=drawn(0)), LoRA(SHAPE, 3, generator=drawn(0))
    assert sum(p.numel() for p in velocity.parameters()) == sum(p.numel() for p in lora.parameters())


def test_one_step_of_length_one_is_the_papers_form():
    adapter, W0 = moved(VelocityLoRA(SHAPE, 3, generator=drawn(0), dtype=DOUBLE)), frozen()
    Z = (W0 @ adapter.field.W1) @ (adapter.field.W2 @ W0) / math.sqrt(SHAPE[0])
    torch.testing.assert_close(adapter.weight(W0), W0 + torch.softmax(Z, 1))


def test_a_centred_start_learns_although_it_is_the_identity():
    adapter, W0 = VelocityLoRA(SHAPE, 3, reference="uniform", generator=drawn(0), dtype=DOUBLE), frozen()
    adapter.weight(W0).square().sum().backward()
    assert float(adapter.field.W2.grad.norm()) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps=0 must be a whole number"),
        ({"steps": True}, "steps=True"),
        ({"horizon": 0.0}, "horizon=0.0 must be a finite number above 0"),
        ({"horizon": math.inf}, "horizon=inf"),
        ({"axis": "rows"}, "axis='rows' is unknown"),
        ({"rank": 6}, "rank=6 must be from 1 to"),
    ],
)
def test_velocity_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        VelocityLoRA(SHAPE, **{"rank": 2, "generator": drawn(0), **options})

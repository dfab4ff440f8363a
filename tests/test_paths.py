"""Roads, their velocity and length, and running a model along them without touching it."""

import copy
import math
import threading
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from torch import nn

from geolessons.paths import Curve, Line, Path, Slerp, evaluate, length, speed
from geolessons.sphere import slerp
from geolessons.trees import Params, axpy, norm, params_of

DOUBLE = torch.float64
SCOPES = ("tensor", "row", "model")
MODES = ("raw", "direction_linear", "direction_geometric")


def points(seed: int = 0, dtype: torch.dtype = DOUBLE) -> Params:
    draw = torch.Generator().manual_seed(seed)
    shapes = {"matrix": (4, 5), "bias": (4,), "scale": (1,), "temperature": ()}
    return {k: (torch.randn(s, generator=draw, dtype=DOUBLE) + 0.2).to(dtype) for k, s in shapes.items()}


def pair(omega: float, ratio: float = 1.0, n: int = 3) -> tuple[Params, Params]:
    u, v = torch.zeros(2, n, dtype=DOUBLE)
    u[0], v[0], v[1] = 1, ratio * math.cos(omega), ratio * math.sin(omega)
    return {"w": u}, {"w": v}


def roads(W0: Params, W1: Params, **options: object) -> list[Path]:
    slerps = [Slerp(W0, W1, scope=s, norm_mode=m, **options) for s, m in product(SCOPES, MODES)]
    return [Line(W0, W1, **options), *slerps]


# ---------------------------------------------------------------- at, velocity, length


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_ends_are_exact_and_dtypes_are_kept(dtype):
    W0, W1 = points(0, dtype), points(1, dtype)
    for road in roads(W0, W1):
        for zero, one in (
            (0, 1),
            (0.0, 1.0),
            (torch.tensor(0.0, dtype=DOUBLE), torch.tensor(1.0, dtype=DOUBLE)),
        ):
            for t, W in ((zero, W0), (one, W1)):
                found = road.at(t)
                assert list(found) == list(W)
                assert all(torch.equal(found[k], W[k]) for k in W)
        for part in (road.at(torch.tensor(0.3, dtype=DOUBLE)), road.velocity(0.3)):
            assert {p.dtype for p in part.values()} == {dtype}
            assert {k: p.shape for k, p in part.items()} == {k: p.shape for k, p in W0.items()}


def test_line_is_straight():
    W0, W1 = points(0), points(1)
    for t in (0.0, 0.3, torch.tensor(0.001)):
        found = Line(W0, W1).at(t)
        for k in W0:
            torch.testing.assert_close(found[k], W0[k] + float(t) * (W1[k] - W0[k]), rtol=0, atol=1e-15)
    assert all(torch.equal(v, W1[k] - W0[k]) for k, v in Line(W0, W1).velocity(0.7).items())


@pytest.mark.parametrize(("scope", "mode"), product(SCOPES, MODES))
def test_slerp_road_is_slerp(scope, mode):
    W0, W1 = points(0), points(0)
    W1 = {k: W1[k] + 0.5 * x for k, x in points(1).items()}
    W1["scale"], W1["temperature"] = W0["scale"] * 2, W0["temperature"] * 3
    road = Slerp(W0, W1, scope=scope, norm_mode=mode)
    for t in (0.2, 0.9):
        wanted = slerp(W0, W1, t, scope=scope, norm_mode=mode)
        assert all(torch.equal(x, wanted[k]) for k, x in road.at(t).items())


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    t=st.floats(0.01, 0.99),
    seed=st.integers(0, 999),
    scope=st.sampled_from(SCOPES),
    mode=st.sampled_from(MODES),
)
def test_velocity_is_the_derivative(t, seed, scope, mode):
    road = Slerp(points(seed), points(seed + 1), scope=scope, norm_mode=mode)
    step = 1e-5
    ahead, behind, found = road.at(t + step), road.at(t - step), road.velocity(t)
    at = torch.tensor(t, dtype=DOUBLE, requires_grad=True)
    for k, x in road.at(at).items():
        probe = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
        (exact,) = torch.autograd.grad((probe * x).sum(), at, retain_graph=True)
        torch.testing.assert_close((probe * found[k]).sum(), exact, rtol=1e-10, atol=1e-12)
    for k, v in found.items():
        torch.testing.assert_close(v, (ahead[k] - behind[k]) / (2 * step), rtol=1e-7, atol=1e-7)


def test_velocity_at_the_ends_and_beyond():
    W0, W1 = points(0), points(1)
    for road, t in product(roads(W0, W1, extrapolate=True), (0.0, 1.0, -0.5, 1.5)):
        ahead, behind, found = road.at(t + 1e-5), road.at(t - 1e-5), road.velocity(t)
        for k, v in found.items():
            torch.testing.assert_close(v, (ahead[k] - behind[k]) / 2e-5, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("omega", [1e-6, 0.1, 1.0, 3.0])
def test_length_and_speed_on_a_sphere(omega, mode):
    """G2 and closed form: speed ω·r at each t, length ω·r."""
    W0, W1 = pair(omega)
    W0, W1 = ({"w": 2.5 * W["w"]} for W in (W0, W1))
    road = Slerp(W0, W1, norm_mode=mode)
    for t in (0.0, 0.3, 1.0):
        assert float(speed(road, t)) == pytest.approx(2.5 * omega, rel=1e-9)
    assert float(length(road)) == pytest.approx(2.5 * omega, rel=1e-9)


def test_length_of_a_line_is_the_distance():
    W0, W1 = points(0), points(1)
    chord = float(norm(axpy(-1, W0, W1)))
    assert float(length(Line(W0, W1), steps=2)) == pytest.approx(chord, rel=1e-14)
    assert float(speed(Line(W0, W1), 0.2)) == pytest.approx(chord, rel=1e-14)


def test_length_with_unequal_norms_against_quadrature():
    """Norm ratio 2, ω = 1: 1.7176 along the arc, 1.6849 straight; speed between 1.19 and 2.10 (E7, G2)."""
    omega, ratio = 1.0, 2.0

    def rate(t):
        a, b = -math.cos((1 - t) * omega), ratio * math.cos(t * omega)
        return omega / math.sin(omega) * math.sqrt(a * a + b * b + 2 * a * b * math.cos(omega))

    road = Slerp(*pair(omega, ratio))
    wanted = quad(rate, 0, 1, epsabs=1e-13)[0]
    assert round(wanted, 4) == 1.7176
    assert float(length(road)) == pytest.approx(wanted, rel=1e-8)
    assert float(length(Line(*pair(omega, ratio)))) == pytest.approx(1.6849, abs=5e-5)
    speeds = [float(speed(road, i / 200)) for i in range(201)]
    assert speeds == pytest.approx([rate(i / 200) for i in range(201)], rel=1e-12)
    assert min(speeds) == pytest.approx(1.19, abs=0.005)
    assert max(speeds) == pytest.approx(2.10, abs=0.005)
    assert max(speeds) / min(speeds) > 1.5


@pytest.mark.parametrize("mode", ["direction_linear", "direction_geometric"])
def test_length_of_spirals_against_quadrature(mode):
    """In polar coordinates the speed is √(r'² + r²ω²)."""
    omega, ratio = 1.3, 3.0
    r, rate = (
        (lambda t: 1 + (ratio - 1) * t, lambda t: ratio - 1)
        if mode == "direction_linear"
        else (lambda t: ratio**t, lambda t: ratio**t * math.log(ratio))
    )
    wanted = quad(lambda t: math.hypot(rate(t), r(t) * omega), 0, 1)[0]
    assert float(length(Slerp(*pair(omega, ratio), norm_mode=mode))) == pytest.approx(wanted, rel=1e-8)


def test_length_counts_all_tensors_together():
    W0, W1 = points(0), points(1)
    road = Slerp(W0, W1, scope="tensor")
    total = quad(lambda t: math.sqrt(sum(float(v.square().sum()) for v in road.velocity(t).values())), 0, 1)[
        0
    ]
    assert float(length(road)) == pytest.approx(total, rel=1e-8)


def test_arc_against_chord():
    """G10: length/chord − 1 is ω²/24 to within 5 %."""
    for omega in (0.05, 0.2, 0.5):
        ends = pair(omega)
        excess = float(length(Slerp(*ends)) / length(Line(*ends))) - 1
        assert excess == pytest.approx(omega**2 / 24, rel=0.05)


def test_simpson_is_of_fourth_order():
    road = Slerp(*pair(1.0, 5.0))
    exact = float(length(road, steps=512))
    errors = [abs(float(length(road, steps=n)) - exact) for n in (8, 16)]
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.3)


@pytest.mark.parametrize("steps", [0, -2, 1, 7])
def test_length_refuses_steps_that_do_not_pair(steps):
    with pytest.raises(ValueError, match=f"steps={steps} must be a positive even number"):
        length(Line(*pair(1.0)), steps=steps)


def test_speed_refuses_t_outside_unless_the_path_extrapolates():
    with pytest.raises(ValueError, match="t=2 is outside"):
        speed(Line(*pair(1.0)), 2)
    with pytest.raises(TypeError, match="t is a str"):
        speed(Line(*pair(1.0)), "0")
    speed(Line(*pair(1.0), extrapolate=True), 2)


def test_at_can_be_mapped_differentiated_and_compiled():
    W0, W1 = points(0), points(1)
    for road in roads(W0, W1):
        ts = torch.linspace(0, 1, 4, dtype=DOUBLE)
        many = torch.vmap(road.at)(ts)
        for i, t in enumerate(ts):
            for k, x in road.at(t).items():
                torch.testing.assert_close(many[k][i], x, rtol=0, atol=1e-15)
    leaf = {k: x.clone().requires_grad_() for k, x in W1.items()}
    (slope,) = torch.autograd.grad(sum(x.sum() for x in Slerp(W0, leaf).at(0.5).values()), leaf["matrix"])
    assert torch.isfinite(slope).all()
    torch.compiler.reset()
    road = Slerp(W0, W1, scope="row", norm_mode="direction_linear")
    found = torch.compile(road.at, fullgraph=True, backend="eager")(torch.tensor(0.4, dtype=DOUBLE))
    for k, x in road.at(0.4).items():
        torch.testing.assert_close(found[k], x, rtol=1e-14, atol=1e-15)


# ---------------------------------------------------------------- straight pieces and refusals


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scope", ["tensor", "row"])
def test_zero_tensors_and_rows_go_straight_and_are_listed(scope, mode):
    W0, W1 = points(0), points(1)
    W0["bias"] = torch.zeros(4, dtype=DOUBLE)
    W0["matrix"][1] = 0
    W1["matrix"][2] = 0
    W0["empty"] = W1["empty"] = torch.empty(0, 3, dtype=DOUBLE)
    road = Slerp(W0, W1, scope=scope, norm_mode=mode)
    row_too = ["matrix"] if scope == "row" else []
    assert road.straight == [*row_too, "bias", "scale", "temperature", "empty"]
    middle = road.at(0.25)
    for name in ("bias", "scale", "temperature"):
        torch.testing.assert_close(middle[name], 0.75 * W0[name] + 0.25 * W1[name], rtol=0, atol=1e-15)
        assert torch.equal(road.velocity(0.25)[name], W1[name] - W0[name])
    if scope == "row":
        torch.testing.assert_close(middle["matrix"][1], 0.25 * W1["matrix"][1], rtol=0, atol=1e-15)
        torch.testing.assert_close(middle["matrix"][2], 0.75 * W0["matrix"][2], rtol=0, atol=1e-15)
        bent = slerp(W0["matrix"][0], W1["matrix"][0], 0.25, norm_mode=mode)
        torch.testing.assert_close(middle["matrix"][0], bent, rtol=0, atol=1e-15)
    assert all(torch.isfinite(x).all() for x in middle.values())


def test_a_model_that_is_zero_goes_straight_as_a_whole():
    W1 = points(1)
    W0 = {k: torch.zeros_like(x) for k, x in W1.items()}
    road = Slerp(W0, W1, scope="model")
    assert road.straight == list(W1)
    assert Slerp(points(0), W1, scope="model").straight == []
    for k, x in road.at(0.5).items():
        assert torch.equal(x, 0.5 * W1[k])


@pytest.mark.parametrize("make", [Line, Slerp])
def test_roads_refuse_what_are_no_points_of_one_space(make):
    W = points(0)
    with pytest.raises(TypeError, match="W0 is a Tensor; it must be a dict of tensors"):
        make(W["matrix"], W["matrix"])
    with pytest.raises(TypeError, match="W1 is a NoneType; it must be a dict of tensors"):
        make(W, None)
    with pytest.raises(ValueError, match="W0 is empty: a point needs at least one tensor"):
        make({}, {})
    with pytest.raises(TypeError, match="W1 must be dense and floating-point, but is not: 'bias' is int64"):
        make(W, W | {"bias": torch.ones(4, dtype=torch.int64)})
    with pytest.raises(ValueError, match="W1 has NaN or infinite entries in 'bias'"):
        make(W, W | {"bias": torch.full((4,), math.nan, dtype=DOUBLE)})
    with pytest.raises(ValueError, match="not points of the same space") as caught:
        make(W, {"matrix": W["matrix"].T, "bias": W["bias"].float(), "more": W["scale"]})
    for part in (
        "'bias' is float64 in W0, float32 in W1",
        "'matrix' has shape (4, 5) in W0, (5, 4) in W1",
        "'scale' is only in W0",
        "'temperature' is only in W0",
        "'more' is only in W1",
    ):
        assert part in str(caught.value)


def test_slerp_road_refuses_antipodal_vectors_and_unknown_options():
    W = points(0)
    with pytest.raises(ValueError) as caught:
        Slerp(W, {k: -x for k, x in W.items()})
    assert "'matrix' point in opposite directions (angle 3.141593" in str(caught.value)
    assert "'bias' point in opposite directions" in str(caught.value)
    assert "'scale'" not in str(caught.value)  # one element: straight
    with pytest.raises(ValueError, match="norm_mode='unit' is unknown; it is one of raw, direction_linear"):
        Slerp(W, W, norm_mode="unit")
    with pytest.raises(ValueError, match="opposite"):
        Slerp(W, W | {"matrix": torch.cat([-W["matrix"][:1], W["matrix"][1:]])}, scope="row")


def test_slerp_road_refuses_an_unknown_scope():
    with pytest.raises(ValueError, match="scope='layer' is unknown; it is one of tensor, row, model"):
        Slerp(points(0), points(1), scope="layer")


# ---------------------------------------------------------------- evaluate


class Noted(nn.Module):
    """A network with buffers, dropout, hooks and a frozen parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.drop = nn.Dropout(0.5)
        self.second = nn.Linear(6, 2)
        self.register_buffer("calls", torch.zeros(()))
        self.first.bias.requires_grad_(False)

    def forward(self, x):
        self.calls += 1
        return self.second(self.drop(torch.relu(self.first(x))))


def state(model: nn.Module) -> list[object]:
    return [
        [(k, p.detach().clone(), p.requires_grad, p.data_ptr()) for k, p in model.named_parameters()],
        [(k, b.clone(), b.data_ptr()) for k, b in model.named_buffers()],
        [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        [(k, m.training, list(m._forward_hooks.values())) for k, m in model.named_modules()],
    ]


def assert_same(before: object, after: object) -> None:
    if isinstance(before, torch.Tensor):
        assert torch.equal(before, after)
    elif isinstance(before, list | tuple):
        assert len(before) == len(after)
        for x, y in zip(before, after, strict=True):
            assert_same(x, y)
    else:
        assert before == after


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = Noted()
    model.first.register_forward_hook(lambda *_: None)
    model.train()
    model.second.eval()
    model(torch.ones(1, 4)).sum().backward()
    return model


X = torch.linspace(-1, 1, 12).reshape(3, 4)


def road_of(model: nn.Module, match: str = "*") -> Line:
    W0 = params_of(model, match)
    return Line(W0, {k: x + 0.5 for k, x in W0.items()})


def output(run):
    return run(X)


def test_evaluate_gives_the_models_outputs_along_the_road(model):
    road = road_of(model)
    curve = evaluate(road, model, output, [0, 0.5, torch.tensor(1.0)])
    assert isinstance(curve, Curve)
    assert curve.ts == [0.0, 0.5, 1.0]
    assert all(type(t) is float for t in curve.ts)
    for t, found in zip(curve.ts, curve.values, strict=True):
        plain = copy.deepcopy(model).eval()
        plain.load_state_dict(road.at(t), strict=False)
        torch.testing.assert_close(found, plain(X), rtol=0, atol=0)
        assert not found.requires_grad


def test_evaluate_leaves_the_model_bit_for_bit(model):
    before = state(model)
    rng = torch.get_rng_state()
    evaluate(road_of(model), model, output, [0, 0.3, 1])
    assert_same(before, state(model))
    assert torch.equal(rng, torch.get_rng_state())


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_evaluate_leaves_the_model_bit_for_bit_after_an_exception(model, error):
    before = state(model)

    def failing(run):
        run(X)
        raise error("stop")

    with pytest.raises(error, match="stop"):
        evaluate(road_of(model), model, failing, [0.3])
    assert_same(before, state(model))
    assert torch.is_grad_enabled()


def test_evaluate_leaves_gradients_alone_even_if_the_metric_goes_backward(model):
    before = state(model)

    def backward(run):
        with torch.enable_grad():
            run(X).sum().backward()

    evaluate(road_of(model, "first.bias"), model, backward, [0.5])
    assert_same(before, state(model))


def test_evaluate_turns_dropout_off(model):
    first, second = (evaluate(road_of(model), model, output, [0.2]).values[0] for _ in range(2))
    assert torch.equal(first, second)
    assert model.drop.training


def test_evaluate_replaces_only_the_names_of_the_path(model):
    road = road_of(model, "second.*")
    found = evaluate(road, model, output, [1.0]).values[0]
    plain = copy.deepcopy(model).eval()
    with torch.no_grad():
        plain.second.weight += 0.5
        plain.second.bias += 0.5
    assert torch.equal(found, plain(X))
    assert not found.requires_grad  # though the first layer is the model's own


def test_evaluate_sees_the_models_current_weights_where_the_path_names_none(model):
    road = road_of(model, "second.*")
    before = evaluate(road, model, output, [0.0]).values[0]
    with torch.no_grad():
        model.first.weight.mul_(2)
    assert not torch.equal(before, evaluate(road, model, output, [0.0]).values[0])


def test_evaluate_passes_arguments_on(model):
    assert evaluate(road_of(model), model, lambda run: run(x=X), [0.0]).values[0].shape == (3, 2)
    assert (
        evaluate(road_of(model), model, lambda run: (id(run), run(X).sum().item()), [0, 1]).values[1][1] != 0
    )


def test_the_run_of_one_t_stays_at_that_t(model):
    runs = evaluate(road_of(model), model, lambda run: run, [0.0, 1.0]).values
    with torch.no_grad():
        late = [run(X) for run in runs]
    prompt = evaluate(road_of(model), model, output, [0.0, 1.0]).values
    assert torch.equal(late[0], prompt[0])
    assert torch.equal(late[1], prompt[1])


def test_evaluate_keeps_tied_weights_tied():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    W = params_of(model)
    road = Line(W, {k: x + 1 for k, x in W.items()})
    x = torch.ones(2, 3)
    found = evaluate(road, model, lambda run: run(x), [1.0]).values[0]
    assert model[1].weight is model[0].weight
    weight = W["0.weight"] + 1
    by_hand = (x @ weight.T + W["0.bias"] + 1) @ weight.T + W["1.bias"] + 1
    torch.testing.assert_close(found, by_hand)
    partial = Line({"0.weight": W["0.weight"]}, {"0.weight": weight})
    other = evaluate(partial, model, lambda run: run(x), [1.0]).values[0]
    torch.testing.assert_close(other, (x @ weight.T + W["0.bias"]) @ weight.T + W["1.bias"])


def test_evaluate_refuses_names_and_shapes_that_are_not_the_models(model):
    W = params_of(model)
    strange = {"first.weight": W["first.weight"].T, "second.bias": W["second.bias"].double(), "third": X}
    with pytest.raises(ValueError, match=r"path.W0 and model are not points of the same space") as caught:
        evaluate(Line(strange, strange), model, output, [0.0])
    for part in (
        "'third' is only in path.W0",
        "'first.weight' has shape (4, 6) in path.W0, (6, 4) in model",
        "'second.bias' is float64 in path.W0, float32 in model",
    ):
        assert part in str(caught.value)
    buffer = {"calls": torch.zeros(())}
    with pytest.raises(ValueError, match=r"'calls' is only in path.W0"):
        evaluate(Line(buffer, buffer), model, output, [0.0])


@pytest.mark.parametrize(
    ("ts", "error", "said"),
    [
        ([], ValueError, "ts is empty: give at least one t"),
        ([0.5, 1.5], ValueError, r"t=1.5 is outside \[0, 1\]; pass extrapolate=True"),
        ([-0.1], ValueError, r"t=-0.1 is outside \[0, 1\]"),
        ([math.nan], ValueError, "t is NaN or infinite"),
        ([torch.zeros(2)], ValueError, r"t has shape \(2,\)"),
        (["0.5"], TypeError, "t is a str; it must be a number"),
        ([None], TypeError, "t is a NoneType; it must be a number"),
        ([True], TypeError, "t is a bool; it must be a number"),
    ],
)
def test_evaluate_refuses_bad_ts_before_it_runs_anything(model, ts, error, said):
    ran = []
    with pytest.raises(error, match=said):
        evaluate(road_of(model), model, ran.append, ts)
    assert not ran


def test_evaluate_beyond_the_ends_when_asked(model):
    W0 = params_of(model)
    road = Line(W0, {k: x + 0.5 for k, x in W0.items()}, extrapolate=True)
    assert evaluate(road, model, output, (t for t in (-1, 2))).ts == [-1.0, 2.0]


# ---------------------------------------------------------------- batch norm


def normed(**options: object) -> nn.Sequential:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, **options), nn.ReLU(), nn.Linear(6, 2))
    model.train()
    model(X)
    return model


def test_batch_norm_is_refused_by_default():
    model = normed()
    for word in ("refuse", "again"):
        with pytest.raises(ValueError, match=r"model has batch-norm layers \(1\).*pass batchnorm=\"keep\""):
            evaluate(road_of(model), model, output, [0.0], batchnorm=word)


def test_batch_norm_without_running_statistics_is_not_refused():
    model = normed(track_running_stats=False)
    assert evaluate(road_of(model), model, output, [0.0]).values[0].shape == (3, 2)


def test_batch_norm_can_be_kept():
    model = normed()
    before = state(model)
    found = evaluate(road_of(model), model, output, [0.0], batchnorm="keep").values[0]
    assert torch.equal(found, copy.deepcopy(model).eval()(X))
    assert_same(before, state(model))


def test_batch_norm_can_be_measured_anew_at_each_t():
    model = normed()
    before = state(model)
    batches = [X, X.flip(0) + 1, 2 * X]
    road = road_of(model)
    curve = evaluate(road, model, output, [0.0, 1.0], batchnorm=batches)
    assert_same(before, state(model))
    for t, found in zip(curve.ts, curve.values, strict=True):
        plain = copy.deepcopy(model)
        plain.load_state_dict(road.at(t), strict=False)
        hidden = [plain[0](b) for b in batches]
        mean = torch.stack([h.mean(0) for h in hidden]).mean(0)
        var = torch.stack([h.var(0) for h in hidden]).mean(0)
        z = (plain[0](X) - mean) / (var + 1e-5).sqrt() * plain[1].weight + plain[1].bias
        torch.testing.assert_close(found, plain[3](torch.relu(z)), rtol=1e-5, atol=1e-5)


def test_batch_norm_takes_batches_that_can_be_read_once_and_refuses_none():
    model = normed()
    road = road_of(model)
    listed = evaluate(road, model, output, [0.0, 1.0], batchnorm=[X, 2 * X])
    once = evaluate(road, model, output, [0.0, 1.0], batchnorm=(k * X for k in (1, 2)))
    assert_same(listed.values, once.values)
    for wrong, said in (([], "an empty one"), (X, "one tensor")):
        with pytest.raises(ValueError, match=f"list of at least one input batch, not {said}"):
            evaluate(road, model, output, [0.0], batchnorm=wrong)


# ---------------------------------------------------------------- devices


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_roads_and_evaluate_on_cuda(model):
    W0 = {k: x.cuda() for k, x in points(0, torch.float32).items()}
    W1 = {k: x.cuda() for k, x in points(1, torch.float32).items()}
    for road in roads(W0, W1):
        for k, x in road.at(0.3).items():
            assert x.device == W0[k].device
        assert float(length(road)) > 0
    model = model.cuda()
    found = evaluate(road_of(model), model, lambda run: run(X.cuda()), [0.5]).values[0]
    assert found.is_cuda


def test_two_threads_do_not_disturb_each_other(model):
    road, found = road_of(model), {}
    wanted = {t: evaluate(road, model, output, [t]).values[0] for t in (0.0, 0.5, 1.0)}

    def work(t):
        found[t] = evaluate(road, model, output, [t] * 5).values

    threads = [threading.Thread(target=work, args=(t,)) for t in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for t, values in found.items():
        assert all(torch.equal(value, wanted[t]) for value in values)


@pytest.mark.parametrize("t", [0.0, 0.3, 0.5])
def test_velocity_of_float32_where_its_two_shares_cancel(t):
    """Half way they add up to exactly 0 for vectors of one length."""
    draw = torch.Generator().manual_seed(0)
    W0, W1 = ({"w": torch.randn(40, generator=draw)} for _ in range(2))
    found = Slerp(W0, W1).velocity(t)["w"].double()
    wanted = Slerp({"w": W0["w"].double()}, {"w": W1["w"].double()}).velocity(t)["w"]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)

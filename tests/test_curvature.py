"""Curvature: products, eigenvalues and traces beside dense Hessians, planted spectra and another library."""

import math
import warnings
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.func import grad, jacrev

from geolessons.curvature import Hessian, eigenvalues, hvp, mean_curvature, tangent_projector, trace
from geolessons.estimates import loss_of
from geolessons.models import mlp
from geolessons.seeding import seeded
from geolessons.trees import dot, flatten, norm, params_of, unflatten

DOUBLE = torch.float64


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


X = torch.randn(20, 4, generator=draw(5), dtype=DOUBLE)
LABELS = torch.arange(20) % 3


def cross_entropy(run):
    return nn.functional.cross_entropy(run(X), LABELS)


def squares(run):
    return run(X).square().mean()


def smooth(seed=1):
    g = draw(seed)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).to(DOUBLE)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(0, 0.7, generator=g)
    return model


CASES = {
    "relu, cross-entropy": (mlp((4, 6, 3), draw(1)), cross_entropy),
    "tanh, cross-entropy": (smooth(), cross_entropy),
    "tanh, squares": (smooth(2), squares),
    "one layer, squares": (mlp((4, 3), draw(1)), squares),
}
every = pytest.mark.parametrize(("model", "metric"), CASES.values(), ids=CASES)


def dense(loss, W):
    H = jacrev(grad(lambda flat: loss(unflatten(flat, W))))(flatten(W))
    return (H + H.T) / 2


def planted(spectrum, seed=0, dtype=DOUBLE):
    """A quadratic loss over two tensors whose Hessian has these eigenvalues."""
    N = len(spectrum)
    Q = torch.linalg.qr(torch.randn(N, N, generator=draw(seed), dtype=DOUBLE))[0]
    H = (Q @ torch.diag(torch.tensor(spectrum, dtype=DOUBLE)) @ Q.T).to(dtype)
    W = {"a": torch.ones(2, 2, dtype=dtype), "b": torch.zeros(N - 4, dtype=dtype)}

    def loss(P):
        w = flatten(P)
        return w @ H @ w / 2

    return loss, W


@every
def test_products_are_those_of_the_dense_hessian(model, metric):
    loss, W = loss_of(model, metric), params_of(model)
    before = {k: p.detach().clone() for k, p in model.named_parameters()}
    exact, H = dense(loss, W), Hessian(loss, W)
    for seed in range(3):
        v = unflatten(torch.randn(len(exact), generator=draw(seed), dtype=DOUBLE), W)
        torch.testing.assert_close(flatten(H @ v), exact @ flatten(v), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(flatten(hvp(loss, W, v)), exact @ flatten(v), rtol=1e-9, atol=1e-12)
    assert H.products == 3
    assert H.value == pytest.approx(float(loss(W)))
    slope = grad(lambda flat: loss(unflatten(flat, W)))(flatten(W))
    torch.testing.assert_close(flatten(H.gradient), slope)
    assert all(torch.equal(p, before[k]) for k, p in model.named_parameters())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@every
@pytest.mark.parametrize("order", ["magnitude", "algebraic"])
def test_eigenvalues_are_those_of_the_dense_hessian(model, metric, order):
    loss, W = loss_of(model, metric), params_of(model)
    true = torch.linalg.eigvalsh(dense(loss, W))
    rank = true.abs() if order == "magnitude" else true
    found = eigenvalues(loss, W, 3, generator=draw(), tolerance=1e-8, order=order)
    wanted = true[rank.argsort(descending=True)]
    # equal ones are seen once: compare with the distinct values
    distinct = [wanted[0], *(b for a, b in pairwise(wanted) if abs(a - b) > 1e-9)]
    assert [e.value for e in found] == pytest.approx([float(x) for x in distinct[:3]], rel=1e-6, abs=1e-9)
    H = Hessian(loss, W)
    for e in found:
        assert float(norm(e.vector)) == pytest.approx(1)
        image = H @ e.vector
        apart = norm({k: image[k] - e.value * e.vector[k] for k in W})
        assert float(apart) == pytest.approx(e.residual, abs=1e-12)
        assert e.products == found[0].products <= sum(w.numel() for w in W.values())


@pytest.mark.parametrize("tolerance", [1e-1, 1e-2, 1e-4])
def test_the_residual_is_what_it_says_also_when_large(tolerance):
    loss, W = planted([2.0 / (i + 1) for i in range(40)])
    found = eigenvalues(loss, W, 2, generator=draw(2), tolerance=tolerance)
    H = Hessian(loss, W)
    for e in found:
        image = H @ e.vector
        apart = float(norm({k: image[k] - e.value * e.vector[k] for k in W}))
        assert apart == pytest.approx(e.residual, rel=1e-6, abs=1e-12)
        assert 0 < e.residual <= tolerance * abs(found[0].value)
        assert min(abs(e.value - 2.0 / (i + 1)) for i in range(40)) <= e.residual
    assert dot(found[0].vector, found[1].vector).abs() < 1e-10


@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32])
def test_planted_spectra(dtype):
    spectrum = [-9.0, 7.0, 5.0, -4.0, *(0.02 * i for i in range(46))]
    loss, W = planted(spectrum, dtype=dtype)
    by_size = eigenvalues(loss, W, 4, generator=draw(), tolerance=1e-5)
    assert [e.value for e in by_size] == pytest.approx([-9, 7, 5, -4], rel=1e-4)
    assert by_size[0].products < 50
    highest = eigenvalues(loss, W, 3, generator=draw(), tolerance=1e-5, order="algebraic")
    assert [e.value for e in highest] == pytest.approx([7, 5, 0.9], rel=1e-3)
    assert all(x.dtype == dtype for x in by_size[0].vector.values())
    found = trace(loss, W, count=1000, generator=draw(1))
    assert abs(found.value - sum(spectrum)) < 4 * found.stderr
    H = dense(loss, W)
    spread = math.sqrt(2 * float(H.square().sum() - H.diagonal().square().sum()) / 1000)
    assert found.stderr == pytest.approx(spread, rel=0.1)


def test_a_spectrum_of_few_values_ends_early():
    loss, W = planted([3.0] * 4 + [0.0] * 26)
    found = eigenvalues(loss, W, 3, generator=draw(), tolerance=1e-6)
    assert found[0].value == pytest.approx(3)
    assert found[0].products < 8
    assert max(e.residual for e in found) < 1e-6
    flat = eigenvalues(lambda P: sum(p.sum() for p in P.values()), W, 2, generator=draw())
    assert [(e.value, e.residual) for e in flat] == [(0, 0), (0, 0)]
    assert trace(lambda P: sum(p.sum() for p in P.values()), W, count=3, generator=draw()) == (0, 0, 3)


def test_too_few_products_are_said():
    loss, W = planted([1 + 0.01 * i for i in range(60)])
    with pytest.warns(UserWarning, match="5 products did not suffice"):
        found = eigenvalues(loss, W, 2, generator=draw(), tolerance=1e-6, max_products=5)
    assert found[0].products == 5
    assert found[0].residual > 1e-6


@every
def test_the_trace_is_within_its_error(model, metric):
    loss, W = loss_of(model, metric), params_of(model)
    found = trace(loss, W, count=300, generator=draw(3))
    assert found.n == 300
    assert abs(found.value - float(dense(loss, W).trace())) < 4 * found.stderr
    assert trace(loss, W, count=4, generator=draw(3)) == trace(loss, W, count=4, generator=draw(3))


def test_another_library_agrees():
    other = pytest.importorskip("curvlinops")
    for model, metric in CASES.values():
        loss, W = loss_of(model, metric), params_of(model)
        data = [(X, torch.zeros(20, 3, dtype=DOUBLE) if metric is squares else LABELS)]
        criterion = nn.MSELoss() if metric is squares else nn.CrossEntropyLoss()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            H = other.HessianLinearOperator(
                model, criterion, list(model.parameters()), data, check_deterministic=False
            )
            v = torch.randn(H.shape[0], generator=draw(), dtype=DOUBLE)
            torch.testing.assert_close(flatten(Hessian(loss, W) @ unflatten(v, W)), H @ v)


@pytest.mark.filterwarnings("ignore")
def test_pyhessian_agrees():
    """Its power iteration and its random signs, on the same networks and data."""
    other = pytest.importorskip("pyhessian")
    for model, metric in CASES.values():
        loss, W = loss_of(model, metric), params_of(model)
        y = torch.zeros(20, 3, dtype=DOUBLE) if metric is squares else LABELS
        criterion = nn.MSELoss() if metric is squares else nn.CrossEntropyLoss()
        with seeded(0):  # it draws from the global generator
            theirs = other.hessian(model, criterion, data=(X, y), cuda=False)
            (top,), _ = theirs.eigenvalues(maxIter=1000, tol=1e-9, top_n=1)
            signs = torch.tensor(theirs.trace(maxIter=400, tol=0.0), dtype=DOUBLE)
        found = eigenvalues(loss, W, generator=draw(), tolerance=1e-8)[0]
        assert found.value == pytest.approx(top, rel=1e-4)
        ours, error = trace(loss, W, count=400, generator=draw(3)), float(signs.std()) / len(signs) ** 0.5
        assert abs(ours.value - float(signs.mean())) < 4 * math.hypot(ours.stderr, error)


# LoRA's tangent directions


@pytest.mark.parametrize(("d", "k", "r"), [(5, 7, 2), (6, 4, 1), (4, 4, 3)])
def test_inside_is_what_the_factors_reach_and_outside_the_rest(d, k, r):
    g = draw(d)
    A, B = torch.randn(r, k, generator=g, dtype=DOUBLE), torch.randn(d, r, generator=g, dtype=DOUBLE)
    tangent = tangent_projector(A, B)
    assert tangent.dimension == r * (d + k - r)
    assert tangent.dimension + tangent.codimension == d * k
    dA, dB = torch.randn(r, k, generator=g, dtype=DOUBLE), torch.randn(d, r, generator=g, dtype=DOUBLE)
    reached = dB @ A + B @ dA
    torch.testing.assert_close(tangent.inside(reached), reached)
    X = torch.randn(d, k, generator=g, dtype=DOUBLE)
    out = tangent.outside(X)
    torch.testing.assert_close(tangent.inside(X) + out, X)
    assert float((out * reached).sum()) == pytest.approx(0, abs=1e-9)
    torch.testing.assert_close(tangent.outside(out), out)
    # the same space, from the Jacobian of (A, B) ↦ B·A
    J = torch.cat([j.reshape(d * k, -1) for j in jacrev(lambda a, b: b @ a, argnums=(0, 1))(A, B)], 1)
    P = J @ torch.linalg.pinv(J, rtol=1e-10)
    torch.testing.assert_close(tangent.inside(X).flatten(), P @ X.flatten())


def test_at_loras_start_only_the_rows_of_A_are_reached():
    A, B = torch.randn(2, 7, generator=draw()), torch.zeros(5, 2)
    tangent = tangent_projector(A, B)
    assert tangent.dimension == 2 * 5
    X = torch.randn(5, 7, generator=draw(1))
    assert not (tangent.outside(X) @ A.T).abs().max() > 1e-5
    assert tangent.inside(X).dtype == torch.float32


@pytest.mark.parametrize(("inside", "outside"), [(1.0, 100.0), (5.0, -2.0)])
def test_planted_curvature_inside_and_outside(inside, outside):
    """A quadratic loss that knows the projector: its mean curvatures are exact in one draw."""
    g = draw(4)
    A, B = torch.randn(2, 6, generator=g, dtype=DOUBLE), torch.randn(5, 2, generator=g, dtype=DOUBLE)
    tangent = tangent_projector(A, B)

    def loss(P):
        X = P["w"]
        return (inside * tangent.inside(X).square().sum() + outside * tangent.outside(X).square().sum()) / 2

    W = {"w": torch.ones(5, 6, dtype=DOUBLE), "b": torch.ones(3, dtype=DOUBLE)}
    for side, wanted in (("inside", inside), ("outside", outside)):
        found = mean_curvature(loss, W, {"w": tangent}, side, count=200, generator=draw(1))
        assert abs(found.value - wanted) < 4 * found.stderr
        assert found.stderr < 0.06 * abs(wanted)
    whole = trace(loss, {"w": W["w"]}, count=200, generator=draw(2))
    exact = inside * tangent.dimension + outside * tangent.codimension
    assert abs(whole.value - exact) < 4 * whole.stderr


def test_mean_curvature_of_a_network_is_that_of_the_dense_hessian():
    model, metric = CASES["tanh, cross-entropy"]
    loss, W = loss_of(model, metric), params_of(model)
    g, tangents = draw(8), {}
    for name in ("0.weight", "2.weight"):
        d, k = W[name].shape
        A, B = torch.randn(1, k, generator=g, dtype=DOUBLE), torch.randn(d, 1, generator=g, dtype=DOUBLE)
        tangents[name] = tangent_projector(A, B)
    H = dense(loss, W)
    for side in ("inside", "outside"):
        size = sum(t.dimension if side == "inside" else t.codimension for t in tangents.values())
        exact = 0.0
        for column in torch.eye(len(H), dtype=DOUBLE):
            v = unflatten(column, W)
            v = {
                k: getattr(tangents[k], side)(x) if k in tangents else torch.zeros_like(x)
                for k, x in v.items()
            }
            exact += float(flatten(v) @ H @ flatten(v)) / size
        found = mean_curvature(loss, W, tangents, side, count=300, generator=draw(1))
        assert abs(found.value - exact) < 4 * found.stderr


# models with attention, memory formats and modes


def transformers_model(kind):
    transformers = pytest.importorskip("transformers")
    small = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    if kind == "bert":
        config = transformers.BertConfig(vocab_size=11, max_position_embeddings=8, **small)
        call = {"input_ids": torch.arange(10).reshape(2, 5)}
        model = transformers.BertModel(config)
    elif kind == "vit":
        config = transformers.ViTConfig(image_size=4, patch_size=2, num_channels=1, **small)
        call = {"pixel_values": torch.randn(2, 1, 4, 4, generator=draw())}
        model = transformers.ViTModel(config)
    else:
        text = dict(vocab_size=11, max_position_embeddings=8, eos_token_id=9, bos_token_id=0, **small)
        vision = dict(image_size=4, patch_size=2, num_channels=1, **small)
        config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=4)
        call = {
            "input_ids": torch.arange(10).reshape(2, 5),
            "pixel_values": torch.randn(2, 1, 4, 4, generator=draw()),
        }
        model = transformers.CLIPModel(config)
    return model.eval(), call


def ends(output):
    """One number from whatever the model gives."""
    if hasattr(output, "logits_per_image"):
        return output.logits_per_image.square().mean()
    return output.last_hidden_state.pow(3).mean()


@pytest.mark.filterwarnings("ignore")  # transformers' own
@pytest.mark.parametrize("kind", ["bert", "vit", "clip"])
def test_attention_has_second_derivatives(kind):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, call = transformers_model(kind)
    model.double()
    call = {k: x.double() if x.is_floating_point() else x for k, x in call.items()}
    W = params_of(model, "*layer*.weight" if kind != "clip" else "vision_model*layers*.weight")
    before = {k: x.clone() for k, x in model.state_dict().items()}
    loss = loss_of(model, lambda run: ends(run(**call)))
    H, g = Hessian(loss, W), draw(1)
    v = {k: torch.randn(w.shape, generator=g, dtype=DOUBLE) for k, w in W.items()}
    found, step = H @ v, 1e-5
    assert float(norm(found)) > 0
    there, back = (
        Hessian(loss, {k: w + s * step * v[k] for k, w in W.items()}).gradient for s in (1.0, -1.0)
    )
    differences = {k: (there[k] - back[k]) / (2 * step) for k in W}
    apart = norm({k: differences[k] - found[k] for k in W}) / norm(found)
    assert float(apart) < 1e-5
    assert all(torch.equal(x, before[k]) for k, x in model.state_dict().items())


def test_attention_of_torch_too():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True).eval()
    x = torch.randn(2, 5, 8, generator=draw())
    found = eigenvalues(
        loss_of(model, lambda run: run(x)[0, 0].square().sum()), params_of(model), generator=draw()
    )
    assert found[0].value > 0


# refusals


def test_refusals():
    loss, W = planted([1.0] * 10)
    g = draw()
    with pytest.raises(ValueError, match="v is zero"):
        hvp(loss, W, {k: torch.zeros_like(w) for k, w in W.items()})
    with pytest.raises(ValueError, match="'b' is only in W"):
        hvp(loss, W, {"a": W["a"]})
    with pytest.raises(ValueError, match="v has NaN"):
        hvp(loss, W, {k: w * math.nan for k, w in W.items()})
    for call in (
        lambda L, P: hvp(L, P, P),
        lambda L, P: eigenvalues(L, P, generator=g),
        lambda L, P: trace(L, P, generator=g),
    ):
        with pytest.raises(ValueError, match="loss is nan here"):
            call(lambda P: flatten(P).sum() * math.nan, W)
        with pytest.raises(ValueError, match="loss does not depend on W"):
            call(lambda P: torch.ones(()), W)
        with pytest.raises(ValueError, match="loss does not depend on W"):
            call(lambda P: torch.ones((), requires_grad=True) * 2, W)
        with pytest.raises(ValueError, match="loss must give a 0-d tensor"):
            call(flatten, W)
        with pytest.raises(ValueError, match="W is empty"):
            call(loss, {})
        with pytest.raises(TypeError, match="int64"):
            call(loss, {"a": torch.ones(2, 2, dtype=torch.int64)})
    for bad in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="count="):
            eigenvalues(loss, W, bad, generator=g)
        with pytest.raises(ValueError, match="count="):
            trace(loss, W, count=bad, generator=g)
    with pytest.raises(ValueError, match="count=11 is more"):
        eigenvalues(loss, W, 11, generator=g)
    with pytest.raises(ValueError, match="order='size' is unknown"):
        eigenvalues(loss, W, order="size", generator=g)
    with pytest.raises(ValueError, match="tolerance=0"):
        eigenvalues(loss, W, tolerance=0, generator=g)
    with pytest.raises(ValueError, match="product with the Hessian is not finite"):
        eigenvalues(lambda P: flatten(P).abs().pow(1.5).sum(), W, generator=g)


def test_refusals_of_tangents():
    loss, W = planted([1.0] * 10)
    A, B = torch.ones(1, 2), torch.ones(2, 1)
    with pytest.raises(ValueError, match=r"A has shape \(1, 2\), B \(2, 2\)"):
        tangent_projector(A, torch.ones(2, 2))
    with pytest.raises(ValueError, match="NaN or infinite entries in 'B'"):
        tangent_projector(A, B * math.nan)
    tangent = tangent_projector(A, B)
    with pytest.raises(ValueError, match="tangents is empty"):
        mean_curvature(loss, W, {}, generator=draw())
    with pytest.raises(ValueError, match="tangents has b"):
        mean_curvature(loss, W, {"b": tangent}, generator=draw())
    with pytest.raises(ValueError, match="side='in' is unknown"):
        mean_curvature(loss, W, {"a": tangent}, "in", generator=draw())
    full = tangent_projector(torch.eye(2), torch.eye(2))
    none = tangent_projector(torch.zeros(1, 2), torch.zeros(2, 1))
    with pytest.raises(ValueError, match="no direction outside"):
        mean_curvature(loss, W, {"a": full}, "outside", generator=draw())
    with pytest.raises(ValueError, match="no direction inside"):
        mean_curvature(loss, W, {"a": none}, "inside", generator=draw())

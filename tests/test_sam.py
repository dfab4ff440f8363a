"""SAM: gradients at the perturbed point, by hand; weights bit for bit as before, whatever happens."""

import math

import pytest
import torch
from torch import nn

from geolessons.adapters import LoRA
from geolessons.attaching import adapted_layers, attach, effective_weights
from geolessons.estimates import loss_of
from geolessons.geodesics import GeodesicLoRA
from geolessons.models import mlp
from geolessons.sam import factor_perturbation, sam_gradients
from geolessons.trees import dot, norm, params_of

DOUBLE = torch.float64


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


X = torch.randn(9, 6, generator=draw(5), dtype=DOUBLE)
LABELS = torch.arange(9) % 4


def adapted_model(start=False, rank=2, dtype=DOUBLE, kind=LoRA, **options):
    g = draw(1)
    model = mlp((6, 8, 4), g, dtype=dtype)
    attach(
        model,
        "fc*",
        lambda name, W: kind(W.shape, rank, alpha=3.0, generator=g, dtype=dtype, **options),
        train="*bias",
    )
    if not start:
        with torch.no_grad():
            for layer in adapted_layers(model).values():
                layer.adapter.B.normal_(0, 0.3, generator=g)
    return model


def loss_on(model, dtype=DOUBLE):
    return lambda: nn.functional.cross_entropy(model(X.to(dtype)), LABELS)


def bits(model):
    """Values, objects, where they are stored, flags and gradients."""
    return [
        (name, id(p), p.data_ptr(), p.requires_grad, p.detach().clone(), p.grad)
        for name, p in model.named_parameters()
    ]


def same(before, now):
    for (n, i, at, flag, value, slope), (m, j, there, flag2, value2, slope2) in zip(before, now, strict=True):
        assert (n, i, at, flag) == (m, j, there, flag2)
        assert torch.equal(value, value2), n
        assert slope is slope2, n
    return True


def trained(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def test_on_the_factors_it_is_two_plain_passes():
    model, rho = adapted_model(), 0.3
    before = bits(model)
    clean = sam_gradients(model, loss_on(model), rho)
    found = {k: p.grad for k, p in trained(model).items()}
    model.zero_grad()
    assert same(before, bits(model))
    assert clean.item() == loss_on(model)().item()
    assert not clean.requires_grad
    loss_on(model)().backward()
    g = {k: p.grad.clone() for k, p in trained(model).items()}
    with torch.no_grad():
        for k, p in trained(model).items():
            p.add_(g[k], alpha=rho / float(norm(g)))
    model.zero_grad()
    loss_on(model)().backward()
    for k, p in trained(model).items():
        torch.testing.assert_close(found[k], p.grad, rtol=1e-10, atol=1e-14)
        assert not torch.allclose(found[k], g[k], rtol=1e-3)


def test_in_the_full_space_the_merged_weights_are_perturbed():
    model, rho = adapted_model(), 0.3
    before = bits(model)
    sam_gradients(model, loss_on(model), rho, "full")
    found = {k: p.grad for k, p in trained(model).items()}
    model.zero_grad()
    assert same(before, bits(model))
    # by hand: the loss as a function of the merged weights
    plain, W = mlp((6, 8, 4), draw(1)), effective_weights(model)
    loss = loss_of(plain, lambda run: nn.functional.cross_entropy(run(X), LABELS))
    names = [k for k in W if k.endswith("weight")]

    def slopes(P):
        P = {k: w.clone().requires_grad_() for k, w in P.items()}
        return dict(zip(P, torch.autograd.grad(loss(P), list(P.values())), strict=True))

    G = slopes(W)
    size = float(norm({k: G[k] for k in names}))
    G = slopes({k: w + rho / size * G[k] if k in names else w for k, w in W.items()})
    for name, layer in adapted_layers(model).items():
        A, B, s = layer.adapter.A.detach(), layer.adapter.B.detach(), layer.adapter.scale
        there = G[f"{name}.weight"]
        torch.testing.assert_close(found[f"{name}.adapter.A"], s * B.T @ there, rtol=1e-9, atol=1e-14)
        torch.testing.assert_close(found[f"{name}.adapter.B"], s * there @ A.T, rtol=1e-9, atol=1e-14)
        torch.testing.assert_close(found[f"{name}.bias"], G[f"{name}.bias"], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("space", ["factors", "full"])
def test_no_radius_is_a_plain_step_and_gradients_add_up(space):
    model = adapted_model()
    loss_on(model)().backward()
    plain = {k: p.grad.clone() for k, p in trained(model).items()}
    sam_gradients(model, loss_on(model), 0, space)
    for k, p in trained(model).items():
        torch.testing.assert_close(p.grad, 2 * plain[k], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("space", ["factors", "full"])
@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32, torch.bfloat16])
def test_the_model_is_as_before_and_learns(space, dtype):
    model = adapted_model(start=True, dtype=dtype)
    optimiser = torch.optim.SGD(trained(model).values(), lr=0.3)
    frozen = {k: p.detach().clone() for k, p in model.named_parameters() if not p.requires_grad}
    first = last = None
    for _ in range(60):
        optimiser.zero_grad()
        last = float(sam_gradients(model, loss_on(model, dtype), 0.05, space))
        optimiser.step()
        first = last if first is None else first
    assert last < 0.9 * first
    assert all(torch.equal(model.get_parameter(k), w) for k, w in frozen.items())


@pytest.mark.parametrize("space", ["factors", "full"])
@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_all_is_put_back_after_an_exception(space, at, error):
    model, calls = adapted_model(), []
    before, clean = bits(model), loss_on(model)

    def loss():
        calls.append(params_of(model))
        if len(calls) == at:
            raise error
        return clean()

    with pytest.raises(error):
        sam_gradients(model, loss, 0.2, space)
    assert same(before, bits(model))
    if at == 2:
        moved = [k for k in calls[0] if not torch.equal(calls[0][k], calls[1][k])]
        assert moved == [k for k in calls[0] if ("base" in k if space == "full" else "base" not in k)]
        apart = norm({k: calls[1][k] - calls[0][k] for k in moved})
        assert float(apart) == pytest.approx(0.2)


def test_an_interruption_while_putting_back_leaves_nothing_perturbed(monkeypatch):
    from geolessons import sam

    model = adapted_model()
    before, plain, seen = bits(model), sam._put_back, []

    class Once(list):
        def __iter__(self):
            for i, pair in enumerate(super().__iter__()):
                if i == 1 and not seen:
                    seen.append(i)
                    raise KeyboardInterrupt
                yield pair

    monkeypatch.setattr(sam, "_put_back", lambda originals: plain(Once(originals)))
    with pytest.raises(KeyboardInterrupt):
        sam_gradients(model, loss_on(model), 0.2)
    assert seen
    assert same(before, bits(model))


@pytest.mark.parametrize("start", [True, False])
def test_what_factor_sam_does_to_the_weights(start):
    model, rho = adapted_model(start), 0.4
    before = bits(model)
    found = factor_perturbation(model, loss_on(model), rho)
    assert same(before, bits(model))
    seen = []

    def loss():
        seen.append(effective_weights(model))
        return loss_on(model)()

    sam_gradients(model, loss, rho)
    assert list(found) == ["fc1.weight", "fc2.weight"]
    for name, e in found.items():
        torch.testing.assert_close(e, seen[1][name] - seen[0][name])
        A = adapted_layers(model)[name.removesuffix(".weight")].adapter.A.detach()
        off = e - e @ torch.linalg.pinv(A) @ A
        assert (float(off.norm()) < 1e-10) == start, "at the start it stays among the rows of A"
        assert int(torch.linalg.matrix_rank(e, rtol=1e-10)) <= (2 if start else 4)


def test_the_perturbation_climbs_and_full_climbs_most():
    """To first order the loss rises by ρ‖g‖, and in the full space no less for the same length there."""
    model, rho = adapted_model(), 1e-4
    losses = []

    def loss():
        value = loss_on(model)()
        losses.append(value.item())
        return value

    sam_gradients(model, loss, rho, "full")
    rise = losses[1] - losses[0]
    e = factor_perturbation(model, loss_on(model), rho)
    W = effective_weights(model)
    plain = loss_of(mlp((6, 8, 4), draw(1)), lambda run: nn.functional.cross_entropy(run(X), LABELS))
    size = float(norm(e))
    there = plain(W | {k: W[k] + rho / size * x for k, x in e.items()})
    assert 0 < float(there) - losses[0] < rise
    G = torch.autograd.grad(plain(P := {k: W[k].clone().requires_grad_() for k in e}), list(P.values()))
    assert rise == pytest.approx(rho * float(norm(dict(zip(P, G, strict=True)))), rel=1e-2)
    assert float(dot(dict(zip(P, G, strict=True)), e)) > 0


def test_where_the_gradient_is_zero_nothing_moves():
    model = adapted_model()
    clean = sam_gradients(model, lambda: 0 * loss_on(model)(), 0.5)
    assert clean == 0
    assert not any(p.grad.any() for p in trained(model).values())


def test_refusals():
    model = adapted_model()
    loss = loss_on(model)
    for bad in (-1, math.inf, math.nan):
        with pytest.raises(ValueError, match="rho="):
            sam_gradients(model, loss, bad)
    with pytest.raises(TypeError, match="rho is a str"):
        sam_gradients(model, loss, "0.1")
    with pytest.raises(ValueError, match="space='weights' is unknown"):
        sam_gradients(model, loss, 0.1, "weights")
    for space in ("factors", "full"):
        with pytest.raises(ValueError, match="loss is nan"):
            sam_gradients(model, lambda: loss() * math.nan, 0.1, space)
        with pytest.raises(ValueError, match="0-d tensor"):
            sam_gradients(model, lambda: model(X), 0.1, space)
        with pytest.raises(ValueError, match="does not depend"):
            sam_gradients(model, lambda: loss().detach(), 0.1, space)
        with pytest.raises(ValueError, match="does not depend"):
            sam_gradients(model, lambda: torch.ones((), requires_grad=True) * 1, 0.1, space)
        with pytest.raises(ValueError, match="gradient has NaN or infinite"):
            sam_gradients(model, lambda: (loss() * 0).sqrt(), 0.1, space)
    plain = mlp((6, 8, 4), draw(1))
    with pytest.raises(ValueError, match="no adapted layer"):
        sam_gradients(plain, loss_on(plain), 0.1, "full")
    with pytest.raises(ValueError, match="no trainable parameter"):
        sam_gradients(plain.requires_grad_(False), loss_on(plain), 0.1)
    other = adapted_model(kind=GeodesicLoRA, t=0.5)
    with pytest.raises(ValueError, match=r"fc1 \(GeodesicLoRA\).*do more than add to the weight"):
        sam_gradients(other, loss_on(other), 0.1, "full")
    sam_gradients(other, loss_on(other), 0.1)

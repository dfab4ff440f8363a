"""The numbered checks on GLRA as an adapter, G5, G6, G8, G11 and G13."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from test_geodesics import below
from torch import Tensor
from torch.func import functional_call, grad
from torch.nn import functional as F
from torch.nn.functional import cross_entropy

from geolessons.adapters import LoRA
from geolessons.attaching import attach, effective_weights
from geolessons.data import digits
from geolessons.geodesics import GeodesicLoRA, set_t
from geolessons.io import load, save
from geolessons.paths import Slerp
from geolessons.running_example import adapt, pretrain
from geolessons.schedules import stages
from geolessons.sphere import angle, slerp
from geolessons.studies.literal import restarted_stages
from geolessons.trees import Params, axpy, params_of

SHAPE, RANK = (96, 64), 8


def tenth(value: float) -> str:
    """`below`, with a floor: some processors are exact where others round."""
    return below(max(value, 3e-8)).removeprefix("below ")


def problem(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """W0 (96, 64), a bias, inputs and targets, float32."""
    g = torch.Generator().manual_seed(seed)
    sizes = SHAPE, (96,), (32, 64), (32, 96)
    W0, bias, x, target = (torch.randn(size, generator=g) for size in sizes)
    return W0 / 8, bias, x, target


def glra(t: float, **options: bool) -> GeodesicLoRA:
    return GeodesicLoRA(SHAPE, RANK, 16, t=t, generator=torch.Generator().manual_seed(1), **options)


@pytest.mark.claim(
    "G5", paper="GLRA", source="GLRA, Eq. 2 and 3", expected="the frozen layer's output; finite gradients"
)
def test_it_starts_at_the_frozen_layer(measured) -> None:
    """With B = 0, where both ends coincide and Eq. 2 is 0/0, GLRA is the frozen layer at every t."""
    W0, bias, x, target = problem()
    base, worst = F.linear(x, W0, bias), 0.0
    for t in (0.0, 0.1, 0.5, 0.9, 1.0):
        for detach in (True, False):
            adapter = glra(t, detach_angle=detach)
            assert torch.equal(adapter.weight(W0), W0)
            y = adapter.linear(x, W0, bias)
            worst = max(worst, float((y.detach() - base).abs().max() / base.abs().max()))
            gradients = torch.autograd.grad((y - target).square().sum(), (adapter.A, adapter.B))
            assert all(g.isfinite().all() for g in gradients)
    assert worst < 1e-6
    measured(f"weight equal bit for bit, output to {tenth(worst)}; gradients finite")


@pytest.mark.claim(
    "G6", paper="GLRA", source="GLRA, Eq. 2 and 3", expected="1e-5 relative; exactly 0 at t = 0"
)
def test_its_first_gradient_is_t_times_loras(measured) -> None:
    """At B = 0 the gradient of B is t times that of LoRA, and exactly zero at t = 0."""
    W0, bias, x, target = problem()
    lora = LoRA(SHAPE, RANK, 16, generator=torch.Generator().manual_seed(1))
    (plain,) = torch.autograd.grad((lora.linear(x, W0, bias) - target).square().sum(), (lora.B,))
    worst = 0.0
    for detach in (True, False):
        for t in (0.0, 0.1, 0.5, 1.0):
            adapter = glra(t, detach_angle=detach)
            loss = (adapter.linear(x, W0, bias) - target).square().sum()
            (found,) = torch.autograd.grad(loss, (adapter.B,))
            if t == 0:
                assert not found.any()
            worst = max(worst, float((found - t * plain).norm() / plain.norm()))
    assert worst < 1e-5
    measured(f"off by below {tenth(worst)} for t = 0.1, 0.5, 1; exactly 0 at t = 0")


def with_share(share: float, relative: float) -> tuple[Tensor, GeodesicLoRA]:
    """W0 and an adapter whose B·A, `relative` as long as W0, has this share of its length across W0."""
    g = torch.Generator().manual_seed(3)
    A, B = (torch.randn(size, generator=g, dtype=torch.float64) for size in ((RANK, 64), (96, RANK)))
    BA, R = B @ A, torch.randn(SHAPE, generator=g, dtype=torch.float64)
    R = R - (R * BA).sum() / (BA * BA).sum() * BA
    # W0 leans from BA towards R, so that BA has `share` of its length across W0
    W0 = (1 - share**2) ** 0.5 * BA / BA.norm() + share * R / R.norm()
    adapter = glra(0.4)
    with torch.no_grad():
        adapter.A.copy_(A)
        adapter.B.copy_(relative / adapter.scale / BA.norm() * B)
    return W0.float(), adapter


@pytest.mark.claim(
    "G8",
    paper="GLRA",
    source="GLRA, limitations (cost of the path)",
    expected="output to 1e-5, angle to 1e-5 where BA is 1 % or more across W0; float32",
)
def test_the_factors_are_enough(measured) -> None:
    """The arc can be walked from A and B alone: neither its second end nor a point on it is formed."""
    x = problem()[2]
    outputs, angles = 0.0, 0.0
    for share in (1.0, 0.1, 0.01, 1e-4):
        for relative in (1.0, 0.1, 1e-3):
            W0, adapter = with_share(share, relative)
            with torch.no_grad():
                exact = W0.double()
                W1 = exact + adapter.scale * adapter.B.double() @ adapter.A.double()
                true = x.double() @ slerp(exact, W1, float(adapter.t)).T
                y = adapter.linear(x, W0)
                outputs = max(outputs, float((y - true).norm() / true.norm()))
                error = abs(float(adapter.angle(W0) / angle(exact, W1)) - 1)
            angles = max(angles, error)
    assert outputs < 1e-5
    assert angles < 1e-5
    measured(
        f"in float32, output off by {below(outputs)}, angle by {below(angles)}, "
        "also where B·A is parallel to W₀ to four digits"
    )


@pytest.mark.claim("G11", paper="GLRA", source="GLRA, Algorithm 1", expected="the same weights, bit for bit")
def test_taken_literally_all_stages_but_the_last_are_lost(measured) -> None:
    """Raising t from 0 to 1 in stages, as Algorithm 1 prints it, guides the training."""
    lying = digits("lying")
    model = pretrain(digits(), 0, epochs=3)
    W0 = params_of(model)
    road = Slerp(W0, adapt(model, lying, 0, epochs=3))
    x, y = lying.x_train[:128], lying.y_train[:128]

    def step(W: Params) -> Params:
        slope = grad(lambda V: cross_entropy(functional_call(model, V, (x,)), y))(W)
        return axpy(-0.5, slope, W)

    ts = [k / 5 for k in range(1, 6)]
    ends = [restarted_stages(road, ts, [*n, 4], step) for n in ((0, 0, 0, 0), (4, 4, 4, 4), (1, 9, 0, 2))]
    assert all(torch.equal(W[name], ends[0][name]) for W in ends for name in W0)
    longer = restarted_stages(road, ts, [4, 4, 4, 4, 5], step)
    assert not all(torch.equal(longer[name], ends[0][name]) for name in W0)
    measured(
        "0, 4 or other numbers of steps in the stages before the last: the same weights, bit for bit",
        verdict="does not hold here",
    )


@pytest.mark.claim("G13", paper="GLRA", source="GLRA, 3.3", expected="outputs differ by less than 1e-5")
def test_at_the_end_it_is_a_lora_file(measured, tmp_path: Path) -> None:
    """Trained along the arc to t = 1, a GLRA adapter is an ordinary LoRA, and its file loads as one."""
    lying = digits("lying", dtype=torch.float32)
    model = pretrain(digits(dtype=torch.float32), 0, epochs=3)
    plain, g = copy.deepcopy(model), torch.Generator().manual_seed(0)
    attach(model, "*", lambda name, W: GeodesicLoRA(W.shape, RANK, 16, t=0.1, generator=g))
    trained = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    for i in range(1, 101):
        set_t(model, stages(i, 100))
        trained.zero_grad()
        cross_entropy(model(lying.x_train), lying.y_train).backward()
        trained.step()
    assert load(plain, _saved(model, tmp_path / "adapter")) == ["fc1", "fc2", "fc3"]
    with torch.no_grad():
        moved = float((effective_weights(model)["fc2.weight"] - model.fc2.base_weight).norm())
        apart = float((plain(lying.x_test) - model(lying.x_test)).abs().max())
    assert all(type(layer.adapter) is LoRA for layer in (plain.fc1, plain.fc2, plain.fc3))
    assert moved > 0.1
    assert apart < 1e-5
    measured(f"outputs equal to {tenth(apart)}")


def _saved(model: torch.nn.Module, folder: Path) -> Path:
    save(model, folder)
    return folder

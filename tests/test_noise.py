"""Flat-LoRA's noise: what it is, that the layer sees it and only that, and that nothing is left of it."""

import copy
import itertools
import signal
import socket
from typing import get_args

import pytest
import torch
from cases import CASES, DOUBLE, SHAPE, drawn, moved
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils.checkpoint import CheckpointError, checkpoint

from geolessons.adapters import LoRA
from geolessons.attaching import AdaptedLinear, attach, detach, effective_weights, merge_
from geolessons.draws import Draw, noisy_linear, plus_noise, seeded_noise, tabled_noise
from geolessons.inplace import in_place_noise
from geolessons.noise import FlatNoise, isotropic_noise, mean_loss, reparameterised_linear, row_noise, row_std
from geolessons.schedules import cosine
from geolessons.training import fit, read_in_batches

DRAWS = get_args(Draw)
X = torch.randn(7, SHAPE[1], generator=drawn(3), dtype=DOUBLE)


def layer(case="lora", dtype=DOUBLE):
    """A model of one adapted layer, off its start."""
    g = drawn(0)
    model = nn.Sequential(nn.Linear(SHAPE[1], SHAPE[0], dtype=dtype))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=g, dtype=DOUBLE))
    attach(model, "0", lambda name, W: CASES[case](W.shape, g, W.dtype))
    return moved(model)


def network(widths=(6, 8, 5), dtype=DOUBLE):
    """A perceptron with LoRA on all layers, off its start."""
    g = drawn(1)
    layers = []
    for k, d in itertools.pairwise(widths):
        layers += [nn.Linear(k, d, dtype=dtype), nn.Tanh()]
    model = nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=g, dtype=DOUBLE))
    attach(model, "*", lambda name, W: LoRA(W.shape, 2, generator=g, dtype=W.dtype))
    return moved(model)


def state(model):
    """All that a user can see of a model's state."""
    held = {name: x.clone() for name, x in model.state_dict().items()}
    return held, {name: (type(m), sorted(m.__dict__)) for name, m in model.named_modules()}


def alike(a, b):
    return torch.allclose(a, b, rtol=1e-12, atol=1e-12)


def same(before, after):
    return before[1] == after[1] and all(torch.equal(x, after[0][name]) for name, x in before[0].items())


# --- the numbers


def test_row_std_is_sigma_times_the_root_mean_square_of_the_row():
    W = torch.tensor([[3.0, 4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert torch.allclose(row_std(W, 0.1), torch.tensor([0.1 * 5 / 2, 0.0]))


@pytest.mark.parametrize("shape", [(3, 40), (3, 10, 2, 2)])
def test_row_noise_has_the_length_sigma_beside_its_row(shape):
    W = torch.randn(shape, generator=drawn(0), dtype=DOUBLE) * torch.logspace(-3, 3, 3).reshape(
        -1, *[1] * (len(shape) - 1)
    )
    lengths = torch.stack([row_noise(W, 0.2, drawn(s)).flatten(1).square().sum(1) for s in range(500)]).mean(
        0
    )
    assert torch.allclose(
        (lengths / W.flatten(1).square().sum(1)).sqrt(), torch.tensor(0.2, dtype=DOUBLE), rtol=0.02
    )


def test_row_noise_keeps_the_dtype_and_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    W = torch.ones(3, 4, dtype=torch.bfloat16)
    assert row_noise(W, 0.1, drawn(0)).dtype == torch.bfloat16
    assert isotropic_noise(W, 0.1, drawn(0)).dtype == torch.bfloat16
    assert torch.equal(before, torch.get_rng_state())


def test_isotropic_noise_does_not_look_at_the_weights():
    a, b = (isotropic_noise(W, 0.3, drawn(0)) for W in (torch.zeros(200, 300), torch.ones(200, 300)))
    assert torch.equal(a, b)
    assert abs(float(a.std()) - 0.3) < 0.005


def test_noise_on_outputs_has_the_mean_and_the_variance_of_noise_on_weights():
    g = drawn(0)
    x, W, bias = (torch.randn(s, generator=g, dtype=DOUBLE) for s in ((2, 30), (4, 30), (4,)))
    many = torch.stack([reparameterised_linear(x, W, 0.5, g, bias) for _ in range(20_000)])
    wanted = (x.square() @ torch.ones(30, 4, dtype=DOUBLE)).sqrt() * row_std(W, 0.5)
    assert torch.allclose(many.std(0), wanted, rtol=0.03)
    assert ((many.mean(0) - F.linear(x, W, bias)).abs() < 5 * wanted / 20_000**0.5).all()


@pytest.mark.parametrize("draw", DRAWS)
def test_the_gradients_of_the_noisy_product_first_and_second(draw):
    g = drawn(0)
    x, W, bias = (
        torch.randn(s, generator=g, dtype=DOUBLE).requires_grad_() for s in ((2, 3, 4), (5, 4), (5,))
    )
    std, seed = torch.rand(5, generator=g, dtype=DOUBLE), torch.tensor(7)

    def product(x, W, bias):
        return noisy_linear(x, W, std, seed, bias, draw)

    assert gradcheck(product, (x, W, bias))
    assert gradgradcheck(product, (x, W, bias))
    assert gradcheck(product, (x[0, 0].detach().requires_grad_(), W, None))


@pytest.mark.parametrize("draw", DRAWS)
def test_the_short_way_and_the_operator_give_the_same_noise(draw):
    W, std, seed = torch.zeros(70, 33), torch.rand(70, generator=drawn(0)), torch.tensor(7)
    short = plus_noise(W, std, seed, draw)
    assert torch.equal(short, plus_noise(W.requires_grad_(), std, seed, draw))
    assert torch.equal(short, (tabled_noise if draw == "table" else seeded_noise)(std, 33, seed))


def test_ways_to_draw_differ():
    std, seed = torch.ones(3), torch.tensor(7)
    assert not torch.isclose(seeded_noise(std, 40, seed), tabled_noise(std, 40, seed)).any()


# --- what the layer sees


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("case", CASES)
def test_an_adapted_layer_works_with_its_weight_plus_the_noise(case, draw):
    model = layer(case).eval()
    W, bias = model[0].weight, model[0].bias
    with FlatNoise(model, 0.3, seed=1, step=2, draw=draw) as noise:
        found, read = model(X), model[0].weight
    eps = noise.draw("0")
    assert noise.layers == ["0"]
    assert eps.norm() > 0.1 * W.norm()
    assert torch.allclose(read, W + eps, rtol=1e-12, atol=1e-12)
    assert torch.allclose(found, F.linear(X, W + eps, bias), rtol=1e-10, atol=1e-10)
    direction = torch.randn(found.shape, generator=drawn(5), dtype=DOUBLE)
    trained = [p for p in model.parameters() if p.requires_grad]
    ours = torch.autograd.grad((found * direction).sum(), trained, allow_unused=True)
    theirs = torch.autograd.grad((F.linear(X, W + eps, bias) * direction).sum(), trained, allow_unused=True)
    for a, b in zip(ours, theirs, strict=True):
        if a is None or b is None:  # at t = 0 the factored form has a zero gradient where the dense has none
            assert a is b or not (b if a is None else a).any()
        else:
            assert torch.allclose(a, b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_noise_is_scaled_by_the_merged_weight(dtype):
    model = layer("lora", dtype)
    W = effective_weights(model)["0.weight"]
    with FlatNoise(model, 0.2) as noise:
        pass
    assert noise.std["0"].dtype == torch.float32
    assert torch.allclose(
        noise.std["0"], row_std(W, 0.2).float(), rtol=1e-5 if dtype == torch.float32 else 2e-2
    )


def test_sigma_zero_is_no_noise():
    model = layer()
    clean = model(X)
    with FlatNoise(model, 0):
        assert torch.allclose(model(X), clean, rtol=1e-13)


def test_a_model_that_only_reads_the_weight_sees_the_noise():
    swin = pytest.importorskip("torchvision").models.swin_transformer.SwinTransformer
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = swin([4, 4], 8, [1, 1], [1, 2], [2, 2], num_classes=3).eval()
    g = drawn(0)
    attach(model, "*.attn.qkv", lambda name, W: LoRA(W.shape, 2, generator=g))
    x = torch.randn(1, 3, 16, 16, generator=g)
    clean = model(x)
    with FlatNoise(model, 0.1) as noise:
        assert not torch.allclose(model(x), clean)
    assert all("qkv" in name for name in noise.layers)
    assert torch.allclose(model(x), clean, rtol=1e-5, atol=1e-6)


# --- draws


@settings(max_examples=20, deadline=None)
@given(st.integers(-5, 2**40), st.integers(0, 10**6), st.integers(0, 9))
def test_the_same_key_is_the_same_noise_and_another_is_another(seed, step, sample):
    model = layer()

    def output(**key):
        with FlatNoise(model, 0.1, **key):
            return model(X)

    key = {"seed": seed, "step": step, "sample": sample}
    # "alike": some processors round a product differently at another place in memory
    assert alike(output(**key), output(**key))
    for name in key:
        assert not alike(output(**key), output(**key | {name: key[name] + 1}))


def test_layers_draw_apart_from_each_other_and_from_their_order():
    model = network((6, 6, 6))
    with FlatNoise(model, 0.1) as both:
        pass
    assert not torch.allclose(
        both.draw("0") / both.std["0"][:, None], both.draw("2") / both.std["2"][:, None]
    )
    alone = network((6, 6, 6))
    detach(alone)
    attach(alone, "2", lambda name, W: LoRA(W.shape, 2, generator=drawn(0), dtype=W.dtype))
    with FlatNoise(alone, 0.1) as one:
        pass
    a, b = both.draw("2") / both.std["2"][:, None], one.draw("2") / one.std["2"][:, None]
    assert torch.allclose(a, b, rtol=1e-12)


def test_a_wrapped_model_draws_what_the_bare_one_does():
    model = layer()
    with FlatNoise(model, 0.1) as bare:
        pass
    wrapper = nn.ModuleDict({"module": model})
    with FlatNoise(wrapper, 0.1) as wrapped:
        pass
    assert torch.equal(bare.draw("0"), wrapped.draw("module.0"))


def test_accumulated_batches_share_a_draw():
    x = torch.randn(16, 6, generator=drawn(2), dtype=DOUBLE)
    ends = []
    for batch, accumulate in ((8, 1), (4, 2)):
        model = network()
        optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
        fit(
            model,
            lambda model, batch: model(batch[0]).square().mean(),
            read_in_batches(x, torch.zeros(16), batch=batch, generator=drawn(0)),
            optimiser,
            epochs=3,
            accumulate=accumulate,
            on_step=lambda i, N, model=model: FlatNoise(model, 0.3 * cosine(i, N), seed=5, step=i),
            cpu=True,
            progress=False,
        )
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.allclose(*ends, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("draw", DRAWS)
def test_mean_loss_is_the_mean_over_samples(draw):
    model = layer()

    def loss():
        return model(X).square().mean()

    values = []
    for sample in range(3):
        with FlatNoise(model, 0.2, seed=4, step=1, sample=sample, draw=draw):
            values.append(loss())
    found = mean_loss(model, loss, 0.2, num_samples=3, seed=4, step=1, draw=draw)
    assert torch.allclose(found, sum(values) / 3)
    found.backward()
    assert model[0].adapter.B.grad.norm() > 0
    with pytest.raises(ValueError, match="num_samples=0 must be a whole number"):
        mean_loss(model, loss, 0.2, num_samples=0)


# --- contexts around it


@pytest.mark.parametrize("draw", DRAWS)
def test_backward_may_come_after_the_context(draw):
    grads = []
    for inside in (True, False):
        model = network()
        x = torch.ones(2, 6, dtype=DOUBLE)
        with FlatNoise(model, 0.3, step=1, draw=draw):
            loss = model(x).square().sum()
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        grads.append([p.grad for p in model.parameters() if p.requires_grad])
    assert all(alike(a, b) for a, b in zip(*grads, strict=True))


@pytest.mark.parametrize("draw", DRAWS)
def test_autocast_rounds_the_noisy_weight_once(draw):
    model = layer("lora", torch.float32)
    x = X.float()
    with FlatNoise(model, 0.3, step=1, draw=draw) as noise, torch.autocast("cpu", torch.bfloat16):
        found = model(x)
    assert found.dtype == torch.bfloat16
    found.float().sum().backward()
    assert model[0].adapter.B.grad.norm() > 0
    W = (model[0].base_weight + noise.draw("0")).bfloat16()
    base = F.linear(x.bfloat16(), W, model[0].bias.bfloat16())
    A, B, s = model[0].adapter.A.bfloat16(), model[0].adapter.B.bfloat16(), model[0].adapter.scale
    assert torch.allclose(found, base + s * (x.bfloat16() @ A.mT) @ B.mT, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("draw", DRAWS)
def test_checkpointing_inside_the_context_and_its_error_outside(draw):
    model = network()
    x = torch.ones(2, 6, dtype=DOUBLE, requires_grad=True)
    with FlatNoise(model, 0.3, step=1, draw=draw):
        plain = model(x).square().sum()
        plain.backward()
        wanted = [p.grad.clone() for p in model.parameters() if p.requires_grad]
        model.zero_grad()
        checkpoint(model, x, use_reentrant=False).square().sum().backward()
    for p, w in zip((p for p in model.parameters() if p.requires_grad), wanted, strict=True):
        assert alike(p.grad, w)
    with FlatNoise(model, 0.3, step=1, draw=draw):
        late = checkpoint(model, x, use_reentrant=False).square().sum()
    with pytest.raises(CheckpointError):
        late.backward()


@pytest.mark.parametrize("draw", DRAWS)
def test_compile_takes_it_whole_and_once(draw):
    model = network(dtype=torch.float32)
    x = torch.ones(2, 6)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    graphs = torch._dynamo.utils.counters["stats"]
    before = graphs["unique_graphs"]
    for step in range(4):
        with FlatNoise(model, 0.3, step=step, draw=draw):
            assert torch.allclose(compiled(x), model(x), rtol=1e-5)
            compiled(x).sum().backward()
    assert graphs["unique_graphs"] - before == 1


@pytest.mark.parametrize("draw", DRAWS)
def test_vmap_and_functional_call(draw):
    model = network()
    x = torch.randn(3, 6, generator=drawn(0), dtype=DOUBLE)
    with FlatNoise(model, 0.3, draw=draw):
        whole = model(x)
        assert torch.allclose(torch.vmap(model)(x), whole, rtol=1e-12)
        moved_weights = {"0.adapter.B": torch.zeros_like(model[0].adapter.B)}
        assert not torch.allclose(functional_call(model, moved_weights, (x,)), whole)


# --- nothing is left of it


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_the_model_is_left_as_it_was(error, draw):
    model = network()
    before, random = state(model), torch.get_rng_state()

    def step():
        with FlatNoise(model, 0.5, step=1, draw=draw):
            assert type(model[0]) is not AdaptedLinear
            assert isinstance(model[0], AdaptedLinear)
            assert model.state_dict().keys() == before[0].keys()
            model(torch.ones(1, 6, dtype=DOUBLE)).sum().backward()
            if error is KeyboardInterrupt:
                signal.raise_signal(signal.SIGINT)
            elif error:
                raise error
        return "ended"

    if error:
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(error):
                step()
        finally:
            signal.signal(signal.SIGINT, handler)
    else:
        assert step() == "ended"
    model.zero_grad()
    assert same(before, state(model))
    assert torch.equal(random, torch.get_rng_state())


def test_ten_thousand_steps_in_half_precision_leave_each_bit():
    model = layer("lora", torch.bfloat16)
    before = state(model)
    x = X.bfloat16()
    for step in range(10_000):
        with FlatNoise(model, 0.15, step=step):
            if step % 1000 == 0:
                model(x).sum().backward()
    model.zero_grad()
    assert same(before, state(model))


def test_an_error_while_entering_leaves_the_model_clean(monkeypatch):
    model = network()
    before = state(model)
    monkeypatch.setattr(FlatNoise, "_seed", lambda self, name: 1 / 0)
    with pytest.raises(ZeroDivisionError), FlatNoise(model, 0.1):
        pass
    assert same(before, state(model))


def test_adapters_may_be_merged_inside():
    model = layer()
    W = effective_weights(model)["0.weight"]
    with FlatNoise(model, 0.1):
        merge_(model)
    assert type(model[0]) is nn.Linear
    assert "_noise_std" not in model[0].__dict__
    assert torch.equal(model[0].weight, W)


def test_a_copy_made_inside_is_a_copy():
    model = network()
    x = torch.ones(1, 6, dtype=DOUBLE)
    with FlatNoise(model, 0.1):
        assert alike(copy.deepcopy(model)(x), model(x))


# --- what is refused


@pytest.mark.parametrize("sigma", [-0.1, float("nan"), float("inf")])
def test_a_strength_that_is_none(sigma):
    with pytest.raises(ValueError, match="must be a finite number, 0 or more"):
        FlatNoise(layer(), sigma)


def test_what_is_refused():
    with pytest.raises(TypeError, match="sigma is a str"):
        FlatNoise(layer(), "0.1")
    with pytest.raises(ValueError, match="draw='dice' is unknown; it is one of normal, table"):
        FlatNoise(layer(), 0.1, draw="dice")
    with pytest.raises(TypeError, match=r"step=0.5 must be a whole number"):
        FlatNoise(layer(), 0.1, step=0.5)
    with pytest.raises(ValueError, match="no adapted linear layer: attach"), FlatNoise(nn.Linear(2, 2), 0.1):
        pass
    model = layer()
    with (
        FlatNoise(model, 0.1),
        pytest.raises(ValueError, match="inside a FlatNoise already"),
        FlatNoise(model, 0.1),
    ):
        pass
    model[0].base_weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN or infinite entries in '0'"), FlatNoise(model, 0.1):
        pass
    assert type(model[0]) is AdaptedLinear
    with pytest.raises(ValueError, match=r"W has shape \(3,\)"):
        row_std(torch.ones(3), 0.1)
    with pytest.raises(KeyError, match="has no noise"):
        FlatNoise(layer(), 0.1).draw("0")


# --- PEFT's models


def peft_model(dropout=0.0, **options):
    peft = pytest.importorskip("peft")
    torch_model = nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 20))
    g = drawn(0)
    with torch.no_grad():
        for p in torch_model.parameters():
            p.copy_(torch.randn(p.shape, generator=g))
    config = peft.LoraConfig(r=4, lora_alpha=8, lora_dropout=dropout, target_modules=["0", "2"], **options)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if options.get("init_lora_weights") == "lora_ga":
            config.lora_ga_config = peft.LoraGAConfig()
            x = torch.randn(9, 40, generator=g, requires_grad=True)
            peft.tuners.lora.preprocess_loraga(
                torch_model, config, lambda: torch_model(x).square().sum().backward()
            )
        model = peft.get_peft_model(torch_model, config)
    for name, p in model.named_parameters():
        if "lora_" in name and "magnitude" not in name:
            p.data += 0.1 * torch.randn(p.shape, generator=g)
    return model


@pytest.mark.parametrize(
    "options",
    [{}, {"use_dora": True}, {"init_lora_weights": "pissa"}, {"init_lora_weights": "lora_ga"}],
    ids=["lora", "dora", "pissa", "lora-ga"],
)
def test_peft_layers_see_noise_of_the_strength_asked_for(options):
    model = peft_model(**options)
    target = model.base_model.model[0]
    merged = copy.deepcopy(model).merge_and_unload()[0].weight.detach()
    x = torch.randn(50, 40, generator=drawn(1))
    clean = target(x)
    before = state(model)
    squares = []
    for step in range(400):
        with FlatNoise(model, 0.15, seed=1, step=step) as noise:
            squares.append((target(x) - clean).detach().square())
    effective = torch.stack(squares).mean(0).sqrt() / (x.norm(dim=1, keepdim=True) * row_std(merged, 1.0))
    assert abs(float(effective.square().mean().sqrt()) - 0.15) < 0.02 * 0.15
    assert noise.layers == ["base_model.model.0", "base_model.model.2"]
    with FlatNoise(model, 0.15):
        model(x).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    model.zero_grad()
    assert same(before, state(model))


def test_peft_models_that_are_refused():
    x = torch.randn(2, 40, generator=drawn(1))
    with (
        pytest.raises(ValueError, match="trains DoRA with dropout"),
        FlatNoise(peft_model(0.5, use_dora=True), 0.1),
    ):
        pass
    evaluated = peft_model(0.5, use_dora=True).eval()
    with FlatNoise(evaluated, 0.1):
        evaluated(x)
    with FlatNoise(peft_model(0.5), 0.1):
        pass
    model = peft_model()
    with (
        model.disable_adapter(),
        pytest.raises(ValueError, match="has its adapters disabled"),
        FlatNoise(model, 0.1),
    ):
        pass
    model.merge_adapter()
    with pytest.raises(ValueError, match="is merged: call unmerge_adapter"), FlatNoise(model, 0.1):
        pass


def test_layers_of_peft_without_noise_are_named():
    peft = pytest.importorskip("peft")
    base = nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 3))
    model = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["0", "1"]))
    with FlatNoise(model, 0.1) as noise:
        pass
    assert noise.layers == ["base_model.model.1"]
    assert noise.left_out == {"base_model.model.0": "Embedding"}


# --- processes


def _train_in_pair(rank, port, out):
    import datetime

    from torch import distributed
    from torch.nn.parallel import DistributedDataParallel

    distributed.init_process_group(
        "gloo", f"tcp://127.0.0.1:{port}", datetime.timedelta(seconds=100), rank=rank, world_size=2
    )
    x = torch.randn(8, 6, generator=drawn(2), dtype=DOUBLE)
    wrapped = DistributedDataParallel(network())
    optimiser = torch.optim.SGD([p for p in wrapped.parameters() if p.requires_grad], lr=0.05)
    for step in range(3):
        optimiser.zero_grad()
        with FlatNoise(wrapped, 0.3, seed=5, step=step):
            wrapped(x[4 * rank : 4 * rank + 4]).square().mean().backward()
        optimiser.step()
    with FlatNoise(wrapped, 0.3, seed=5, per_rank=True) as own:
        apart = own.draw("module.0")
    weights = torch.cat([p.detach().flatten() for p in wrapped.parameters()])
    torch.save({"weights": weights, "apart": apart}, out / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="this build of torch cannot run processes on the CPU",
)
def test_two_processes_share_a_draw_unless_asked_otherwise(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_train_in_pair, (port, tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    x = torch.randn(8, 6, generator=drawn(2), dtype=DOUBLE)
    model = network()
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for step in range(3):
        optimiser.zero_grad()
        with FlatNoise(model, 0.3, seed=5, step=step):
            model(x).square().mean().backward()
        optimiser.step()
    alone = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert torch.allclose(first["weights"], alone, rtol=1e-12)
    assert torch.equal(first["weights"], second["weights"])
    assert not torch.allclose(first["apart"], second["apart"])


# --- in place


@pytest.mark.parametrize("error", [None, RuntimeError])
def test_the_copy_comes_back_bit_for_bit(error):
    weights = {
        "a": torch.randn(20, 30, generator=drawn(0)).bfloat16(),
        "b": torch.randn(5, 6, generator=drawn(1)),
    }
    before = {name: W.clone() for name, W in weights.items()}
    for step in range(50):
        try:
            with in_place_noise(weights, 0.15, seed=0, step=step):
                assert not torch.equal(weights["a"], before["a"])
                if error:
                    raise error
        except RuntimeError:
            pass
    assert all(torch.equal(W, before[name]) for name, W in weights.items())


def test_subtracting_the_noise_drifts():
    W = torch.randn(64, 256, generator=drawn(0))
    for dtype, low, high in ((torch.float32, 1e-9, 1e-6), (torch.bfloat16, 1e-3, 1e-1)):
        weights = {"W": W.to(dtype, copy=True)}
        for step in range(100):
            with in_place_noise(weights, 0.05, seed=0, step=step, restore="seed"):
                pass
        drift = float((weights["W"].double() - W.to(dtype).double()).norm() / W.norm())
        assert low < drift < high, (dtype, drift)


def test_in_place_noise_is_scaled_by_the_weights_it_is_told():
    weights = {"W": torch.zeros(3, 4)}
    with in_place_noise(weights, 0.1, seed=0, step=0, lengths_of={"W": torch.ones(3, 4)}):
        assert (weights["W"] != 0).all()
    with in_place_noise(weights, 0.1, seed=0, step=0):
        assert (weights["W"] == 0).all()


def test_in_place_noise_refuses():
    weights = {"W": torch.ones(3, 4)}
    for options, words in (
        ({"restore": "hope"}, "restore='hope' is unknown"),
        ({"lengths_of": {}}, r"lengths_of lacks \['W'\]"),
    ):
        with pytest.raises(ValueError, match=words), in_place_noise(weights, 0.1, seed=0, step=0, **options):
            pass
    with pytest.raises(ValueError, match="weights is empty"), in_place_noise({}, 0.1, seed=0, step=0):
        pass
    assert torch.equal(weights["W"], torch.ones(3, 4))


@pytest.mark.parametrize("noise", [seeded_noise, tabled_noise])
def test_the_operator_is_fit_for_compilers(noise):
    for k in (4, 5):  # one fills whole words of random bits, the other does not
        given_ = (torch.ones(3), k, torch.tensor(5))
        torch.library.opcheck(noise, given_, test_utils="test_schema")
        torch.library.opcheck(noise, given_, test_utils="test_faketensor")

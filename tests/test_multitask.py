"""The multi-task Swin: shapes, draws, what trains under each method, and the sizes that papers print."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, layer_norm, linear, one_hot

from geolessons.adapters import LoRA
from geolessons.attaching import adapted_layers, attach, detach, effective_weights, merge_
from geolessons.data.dense import TASKS
from geolessons.models.mtlora import MTLoRA
from geolessons.models.multitask import OUTPUTS, Decoder, MultiTask, swin, swin_tiny
from geolessons.models.multitask_methods import (
    PerTask,
    answers_each,
    trained,
    tune_full,
    tune_lora,
    tune_lora_each,
    tune_single,
    tune_velocity,
)

SIZES: dict[str, Any] = {"width": 8, "depths": (2, 1, 1, 1), "heads": (1, 2, 2, 4)}
FEW = {"semseg": 5, "human_parts": 7, "saliency": 1, "normals": 3}


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small(seed: int = 0) -> MultiTask:
    """A network of 0.1 million numbers, for pictures of 32 × 32 pixels."""
    g = draw(seed)
    return MultiTask(swin(g, **SIZES), g, outputs=FEW, narrow=6)


def pictures(n: int = 2, size: tuple[int, int] = (32, 32)) -> Tensor:
    return torch.randn(n, 3, *size, generator=draw(7))


def count(parameters: dict[str, nn.Parameter] | nn.Module) -> int:
    named = dict(parameters.named_parameters()) if isinstance(parameters, nn.Module) else parameters
    return sum(p.numel() for p in named.values())


def moved(parameters: dict[str, nn.Parameter], name: str = "lora") -> None:
    """Move what trains a little: else LoRA's B and a centred field's W2 are zero, and A gets no gradient."""
    size = (
        30 if name in ("literal", "centred") else 0.1
    )  # those fields' logits are small: W0 is in them twice
    g = draw(5)
    with torch.no_grad():
        for p in parameters.values():
            p.add_(size * torch.randn(p.shape, generator=g))


def loss(answers: dict[str, Tensor]) -> Tensor:
    """Something that weighs each pixel of each answer differently."""
    return sum((y * torch.randn(y.shape, generator=draw(3))).mean() for y in answers.values())  # type: ignore


def found(model: nn.Module) -> tuple[Any, ...]:
    """All that a model is: names in order, values, objects, and which parts train."""
    state = {name: value.clone() for name, value in model.state_dict().items()}
    return state, [(name, id(p), p.requires_grad) for name, p in model.named_parameters()]


def same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    state, rest = one
    return (
        list(state) == list(other[0])
        and all(torch.equal(value, other[0][name]) for name, value in state.items())
        and rest == other[1]
    )


METHODS: dict[str, Callable[[MultiTask], dict[str, nn.Parameter]]] = {
    "lora": lambda m: tune_lora(m, 2, generator=draw(1)),
    "lora, adapters alone": lambda m: tune_lora(m, 2, generator=draw(1), small=False),
    "lora, qkv": lambda m: tune_lora(m, 2, generator=draw(1), on="qkv", alpha=4, scaling="paper"),
    "lora, each": lambda m: tune_lora_each(m, 2, generator=draw(1)),
    "literal": lambda m: tune_velocity(m, 2, generator=draw(1)),
    "centred": lambda m: tune_velocity(m, 2, generator=draw(1), variant="centred"),
    "normalised": lambda m: tune_velocity(m, 2, generator=draw(1), variant="normalised"),
    "normalised, 3 steps": lambda m: tune_velocity(m, 2, generator=draw(1), variant="normalised", steps=3),
    "full": tune_full,
    "single": lambda m: tune_single(m, "normals"),
}
ATTACHING = [name for name in METHODS if name not in ("full", "single")]


# ---------------------------------------------------------------- the network


@pytest.mark.parametrize("size", [(32, 32), (32, 64), (34, 46)])
def test_features_are_those_after_merging_and_answers_have_the_pictures_size(size) -> None:
    model = small().eval()
    x, shapes, (h, w) = pictures(2, size), [], (size[0] // 2, size[1] // 2)
    for channels, halved in ((16, True), (32, True), (64, True), (64, False)):
        h, w = (math.ceil(h / 2), math.ceil(w / 2)) if halved else (h, w)
        shapes.append((2, h, w, channels))
    scales = model.scales(x)
    assert [tuple(f.shape) for f in scales] == shapes
    for i, f in zip((2, 4, 6, 7), scales, strict=True):
        torch.testing.assert_close(model.features[: i + 1](x), f, rtol=1e-6, atol=1e-6)
    answers = model(x)
    assert {task: tuple(y.shape) for task, y in answers.items()} == {t: (2, c, *size) for t, c in FEW.items()}
    assert tuple(answers) == TASKS == tuple(OUTPUTS)
    assert all(y.isfinite().all() and y.std() > 1e-3 for y in answers.values())


def test_one_pass_of_the_backbone_serves_all_tasks() -> None:
    model, x = small().eval(), pictures()
    calls: list[int] = []
    for part in model.features:
        part.register_forward_hook(lambda *_: calls.append(1))
    answers = model(x)
    assert len(calls) == len(model.features)
    for task in TASKS:
        alone = model(x, [task])
        assert list(alone) == [task]
        torch.testing.assert_close(alone[task], answers[task], rtol=1e-6, atol=1e-6)


def test_a_decoder_is_the_formula_of_its_file() -> None:
    with torch.random.fork_rng():
        decoder = Decoder((4, 6, 8, 8), 3, narrow=18).double().eval()
    norm = decoder.head[1]
    with torch.no_grad():
        for i, p in enumerate((norm.weight, norm.bias, norm.running_mean, norm.running_var)):
            p.copy_(torch.rand(p.shape, generator=draw(i)) + 0.5)
    shapes = ((8, 4), (4, 6), (2, 8), (2, 8))
    f = [torch.randn(2, n, n, c, generator=draw(n), dtype=torch.float64) for n, c in shapes]
    maps = [
        interpolate(torch.einsum("nhwc,dc->ndhw", x, r.weight[:, :, 0, 0]), (8, 8), mode="bilinear")
        for x, r in zip(f, decoder.reducers, strict=True)
    ]
    assert [m.shape[1] for m in maps] == [1, 2, 4, 8]
    x = torch.cat(maps, 1).movedim(1, -1)
    x = linear(x, decoder.head[0].weight[:, :, 0, 0], decoder.head[0].bias)
    assert x.shape[-1] == 4 * 15
    x = (x - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
    x = linear(x.relu(), decoder.head[3].weight[:, :, 0, 0], decoder.head[3].bias).movedim(-1, 1)
    answer = decoder(f, (16, 12))
    torch.testing.assert_close(answer, interpolate(x, (16, 12), mode="bilinear"), rtol=1e-12, atol=1e-12)


def test_draws_come_from_the_generator_alone() -> None:
    before = torch.random.get_rng_state()
    one, two, other = small(0), small(0), small(1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    matrices = [(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True) if a.dim() > 1]
    assert not any(torch.equal(a, b) for a, b in matrices)
    g = draw(0)
    first, second = swin(g, **SIZES), swin(g, **SIZES)
    assert not torch.equal(first.head.weight, second.head.weight), "a generator goes on"


def test_a_backbone_that_was_trained_is_taken_as_it_is() -> None:
    g = draw(0)
    backbone = swin(g, **SIZES, classes=4).double()
    names = {name: p for name, p in backbone.named_parameters() if name.startswith("features.")}
    assert backbone(pictures().double()).shape == (2, 4)
    model = MultiTask(backbone, g, outputs=FEW, narrow=6)
    now = {name: p for name, p in model.named_parameters() if name.startswith("features.")}
    assert {name: id(p) for name, p in now.items()} == {name: id(p) for name, p in names.items()}
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert not any(name.startswith(("norm", "head")) for name, _ in model.named_parameters())


def test_swin_tiny_takes_weights_by_name(monkeypatch) -> None:
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in swin_tiny(draw(0)).state_dict().items()}
    asked = []

    def load(url: str, **options: Any) -> dict[str, Tensor]:
        asked.append(url)
        return {name: torch.full((), 0.25).expand(shape) for name, shape in shapes.items()}

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", load)
    model = MultiTask(swin_tiny(draw(0), weights="IMAGENET1K_V1"), draw(0))
    assert len(asked) == 1
    assert "swin_t" in asked[0]
    assert all(bool((p == 0.25).all()) for p in model.features.parameters())
    assert model.features.get_submodule("7.1.stochastic_depth").p == 0.2


def test_a_small_network_steps_in_less_than_two_seconds() -> None:
    model, x = MultiTask(swin(draw(0)), draw(0), narrow=6), pictures(2, (64, 64))
    assert 1.4e6 < count(model.features) < 1.6e6
    start = time.perf_counter()
    loss(model(x)).backward()
    assert time.perf_counter() - start < 2
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


# ---------------------------------------------------------------- what trains


@pytest.mark.parametrize("name", METHODS)
def test_gradients_reach_what_trains_and_nothing_else(name: str) -> None:
    model, x = small(), pictures()
    for p in model.parameters():
        p.requires_grad_(False)
    trains = METHODS[name](model)
    assert trains.keys() == trained(model).keys()
    assert all(trains[n] is p for n, p in trained(model).items())
    moved({n: p for n, p in trains.items() if ".adapter." in n}, name)
    answers = answers_each(model, x) if name == "lora, each" else model(x)
    assert tuple(answers) == TASKS
    loss(answers if name != "single" else {"normals": answers["normals"]}).backward()
    for n, p in model.named_parameters():
        assert (p.grad is not None) == (n in trains), n
        assert p.grad is None or bool(p.grad.any()), n


def test_the_groups_that_train_are_the_named_ones() -> None:
    def kinds(parameters: dict[str, nn.Parameter]) -> set[str]:
        words = ("adapter", "decoders", "norm", "table")
        return {
            next((w for w in words if w in name), "patches" if "features.0." in name else name)
            for name in parameters
        }

    everything = {"adapter", "norm", "table", "decoders", "patches"}
    assert kinds(METHODS["lora"](small())) == kinds(METHODS["literal"](small())) == everything
    for name in ("lora, adapters alone", "lora, each"):
        assert kinds(METHODS[name](small())) == {"adapter", "decoders"}
    model = small()
    model.requires_grad_(False)
    assert tune_full(model).keys() == dict(model.named_parameters()).keys()
    only = tune_single(model, "saliency")
    assert {name.split(".")[1] for name in only if name.startswith("decoders.")} == {"saliency"}
    assert count(only) == count(model.features) + count(model.decoders["saliency"])
    assert (
        tune_single(model, "normals").keys() & only.keys()
        == dict((f"features.{n}", 0) for n, _ in model.features.named_parameters()).keys()
    ), "a second call starts afresh"


@pytest.mark.parametrize("name", ATTACHING)
def test_q_and_v_change_and_k_is_left_bit_for_bit(name: str) -> None:
    model = small()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    moved({n: p for n, p in METHODS[name](model).items() if ".adapter." in n}, name)
    layers = list(adapted_layers(model))
    assert len(layers) == 5
    point = effective_weights(model)
    merge_(model)
    for layer in layers:
        W, W0 = model.get_parameter(f"{layer}.weight"), before[f"{layer}.weight"]
        assert torch.equal(W, point[f"{layer}.weight"])
        changed = [not torch.equal(a, b) for a, b in zip(W.chunk(3), W0.chunk(3), strict=True)]
        assert changed == [True, "qkv" in name, True]
    for n, p in model.named_parameters():
        assert n.removesuffix(".weight") in layers or torch.equal(p, before[n]), n


@pytest.mark.parametrize("name", ATTACHING)
def test_merged_weights_answer_as_the_adapters_did(name: str) -> None:
    model, x = small().eval(), pictures()
    plain = model(x)
    moved({n: p for n, p in METHODS[name](model).items() if ".adapter." in n}, name)
    answers = model(x)
    merge_(model)
    for task, y in model(x).items():
        torch.testing.assert_close(y, answers[task], rtol=1e-5, atol=1e-5)
        assert float((y - plain[task]).detach().norm() / plain[task].detach().norm()) > 1e-4


@pytest.mark.parametrize("name", ATTACHING)
def test_detach_gives_the_model_back(name: str) -> None:
    model, x = small().eval(), pictures()
    model.decoders["normals"].requires_grad_(False)
    before = found(model)
    adapters = {n: p for n, p in METHODS[name](model).items() if ".adapter." in n}
    loss(model(x)).backward()
    torch.optim.AdamW(adapters.values(), lr=0.1).step()
    assert not same(found(model), before)
    detach(model)
    assert same(found(model), before)


@pytest.mark.parametrize("name", ["lora", "lora, each", "centred", "normalised"])
def test_the_start_is_the_model_itself(name: str) -> None:
    model, x = small().eval(), pictures()
    plain = model(x)
    METHODS[name](model)
    for task, y in model(x).items():
        torch.testing.assert_close(y, plain[task], rtol=1e-6, atol=1e-6)


def test_the_printed_field_starts_elsewhere_and_a_fresh_layer_norm_hides_it() -> None:
    model, x = small().eval(), pictures()
    norms = [p for n, p in model.named_parameters() if n.endswith("norm1.weight")]
    changes = []
    for spread in (0.0, 0.3):
        with torch.no_grad():
            for i, p in enumerate(norms):
                p.add_(spread * torch.randn(p.shape, generator=draw(i)))
        plain = model(x)["semseg"].detach()
        W = model.get_parameter("features.1.0.attn.qkv.weight").detach().clone()
        METHODS["literal"](model)
        changes.append(float((model(x)["semseg"].detach() - plain).norm() / plain.norm()))
        pushed = (adapted_layers(model)["features.1.0.attn.qkv"].weight - W).detach()
        for rows, wanted in zip(pushed.sum(1).chunk(3), (1.0, 0.0, 1.0), strict=True):
            torch.testing.assert_close(rows, torch.full_like(rows, wanted), rtol=0, atol=1e-5)
        detach(model)
    assert changes[0] < 1e-5
    assert changes[1] > 1e-3


def test_options_reach_the_adapters() -> None:
    model = small()
    tune_velocity(model, 3, generator=draw(1), variant="normalised", steps=4, on="v")
    (field,) = next(iter(adapted_layers(model).values())).adapter.adapters
    assert (field.steps, field.rank, field.field.normalise, field.field.reference) == (4, 3, True, "uniform")
    assert adapted_layers(model)["features.1.0.attn.qkv"].adapter.slices == [(16, 24)]
    model = small()
    tune_lora(model, 3, generator=draw(1), alpha=6, scaling="paper", on="vq")
    rows = adapted_layers(model)["features.1.0.attn.qkv"].adapter
    assert rows.slices == [(0, 8), (16, 24)]
    assert {a.scale for a in rows.adapters} == {6}


def test_each_tasks_adapter_acts_on_its_own_answer() -> None:
    model, x = small().eval(), pictures()
    tune_lora_each(model, 2, generator=draw(1))
    before = answers_each(model, x)
    moved({n: p for n, p in model.named_parameters() if ".adapter." in n and ".normals." in n})
    after = answers_each(model, x)
    for task in TASKS:
        assert torch.allclose(after[task], before[task], rtol=1e-6, atol=1e-6) == (task != "normals")
    loss(after).backward()
    passes: list[int] = []
    model.features[0].register_forward_hook(lambda *_: passes.append(1))
    for layer in adapted_layers(model).values():
        layer.adapter.choose("normals")
    torch.testing.assert_close(model(x)["normals"], after["normals"], rtol=1e-6, atol=1e-6)
    answers_each(model, x)
    assert len(passes) == 1 + len(TASKS)
    assert {layer.adapter.task for layer in adapted_layers(model).values()} == {"normals"}, "put back"
    with pytest.raises(ValueError, match="multiples of 2"):
        answers_each(model, x[..., :-1])
    assert {layer.adapter.task for layer in adapted_layers(model).values()} == {"normals"}


# ---------------------------------------------------------------- MTLoRA


def several(seed: int = 0, **options: Any) -> tuple[MultiTask, MTLoRA]:
    model = small(seed)
    return model, MTLoRA(model, 3, task_rank=2, generator=draw(1), **options)


def test_mtlora_starts_as_the_model_itself_and_is_taken_off_without_trace() -> None:
    model, x = small().eval(), pictures()
    plain, before = model(x), found(model)
    wrapped = MTLoRA(model, 3, task_rank=2, generator=draw(1)).eval()
    for task, y in wrapped(x).items():
        torch.testing.assert_close(y, plain[task], rtol=1e-5, atol=1e-6)
    moved({n: p for n, p in trained(wrapped).items() if ".adapter." in n or n.startswith("streams")})
    for task, y in wrapped(x).items():
        assert y.shape == plain[task].shape
        assert not torch.allclose(y, plain[task], rtol=1e-3, atol=1e-3)
    detach(model)
    assert same(found(model), before)
    with pytest.raises(RuntimeError, match="were taken off"):
        wrapped(x)


def test_mtlora_trains_what_it_says_and_one_shared_adapter_in_vain() -> None:
    model, wrapped = several()
    moved({n: p for n, p in trained(wrapped).items() if "adapter" in n or n.startswith("streams")})
    calls: list[int] = []
    model.features[0].register_forward_hook(lambda *_: calls.append(1))
    loss(wrapped(pictures())).backward()
    assert len(calls) == 1
    vain = {f"model.features.7.0.mlp.3.adapter.{letter}" for letter in "AB"}
    for name, p in wrapped.named_parameters():
        wanted = (
            name.startswith(("streams.", "model.decoders.", "model.features.0."))
            or any(word in name for word in ("adapter", "norm", "relative_position_bias_table"))
            or name.endswith("reduction.weight")
        )
        assert p.requires_grad == wanted, name
        assert bool(p.grad is not None and p.grad.any()) == (wanted and name not in vain), name


def test_a_tasks_stream_sees_its_own_adapters_and_the_frozen_weight() -> None:
    """The last block of the first stage, in plain products; what is shared comes from merged weights."""
    model, wrapped = several(dropout=0.0)
    wrapped.double().eval()
    moved({n: p for n, p in trained(wrapped).items() if "adapter" in n or n.startswith("streams")})
    stage = copy.deepcopy(model.features[1])
    W0 = {n: layer.base_weight for n, layer in adapted_layers(stage).items() if n.startswith("1.")}
    merged = copy.deepcopy(model)
    merge_(merged)
    x0 = merged.features[:1](pictures().double())
    first, block = merged.features[1]
    x = first(x0)
    shared = block(x)

    bare = copy.deepcopy(block.attn)
    with torch.no_grad():
        bare.proj.weight.copy_(torch.eye(8))
        bare.proj.bias.zero_()
    h = bare(block.norm1(x))
    attended = x + block.attn(block.norm1(x))

    def low(task: str, name: str, y: Tensor) -> Tensor:
        adapter = wrapped.streams[0][task][name]
        return 4.0 * (y @ adapter.A.T @ adapter.B.T)

    def norm2(y: Tensor) -> Tensor:
        return layer_norm(y, (8,), block.norm2.weight, block.norm2.bias)

    hidden = gelu(block.mlp[0](norm2(attended)))
    for task in TASKS:
        own = x + h @ W0["1.attn.proj"].T + block.attn.proj.bias + low(task, "proj", h)
        inner = norm2(attended) @ W0["1.mlp.0"].T + block.mlp[0].bias + low(task, "fc1", norm2(own))
        own = own + hidden @ W0["1.mlp.3"].T + block.mlp[3].bias + low(task, "fc2", gelu(inner))
        scales: list[Tensor] = []
        handle = (
            model.decoders[task]
            .reducers[0]
            .register_forward_hook(lambda _, given, __, seen=scales: seen.append(given[0]))
        )
        wrapped(pictures().double())
        handle.remove()
        want = merged.features[2](own).movedim(-1, 1)
        torch.testing.assert_close(scales[0], want, rtol=1e-10, atol=1e-10)
        assert not torch.allclose(want, merged.features[2](shared).movedim(-1, 1), rtol=1e-3, atol=1e-3)


def test_mtlora_goes_through_the_stages_that_follow_on_the_shared_stream() -> None:
    """Without adapters for tasks, answers differ from the merged model's by the last blocks alone."""
    model, wrapped = several(dropout=0.0)
    wrapped.double().eval()
    moved({n: p for n, p in trained(wrapped).items() if "adapter" in n})
    merged = copy.deepcopy(model)
    merge_(merged)
    x = pictures().double()
    inputs: list[Tensor] = []
    model.features[6].norm.register_forward_hook(lambda _, given, __: inputs.append(given[0]))
    wrapped(x)
    seen: list[Tensor] = []
    merged.features[6].norm.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    merged.scales(x)
    torch.testing.assert_close(inputs[0], seen[0], rtol=1e-10, atol=1e-10)
    assert len(inputs) == 1 + len(TASKS)


def test_mtlora_learns_and_its_dropout_is_for_training_alone() -> None:
    model, wrapped = several()
    shared = {n: layer.adapter for n, layer in adapted_layers(model).items()}
    assert {("mlp" in n, a.dropout) for n, a in shared.items()} == {(True, 0.05), (False, 0.0)}
    assert {a.scale for a in shared.values()} == {4.0}
    x, wanted = pictures(), one_hot(torch.arange(32 * 32).reshape(1, 32, 32) // 256, 5).movedim(-1, 1).float()
    optimiser = torch.optim.AdamW(trained(wrapped).values(), lr=3e-3)
    errors = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(15):
            optimiser.zero_grad()
            error = (wrapped(x)["semseg"] - wanted).square().mean()
            error.backward()
            optimiser.step()
            errors.append(float(error.detach()))
    assert errors[-1] < 0.7 * errors[0]
    wrapped.eval()
    torch.testing.assert_close(wrapped(x)["semseg"], wrapped(x)["semseg"], rtol=1e-6, atol=1e-6)


def test_mtlora_that_fails_leaves_the_model() -> None:
    model = small()
    before = found(model)
    for options, word in (
        ({"task_rank": 99}, "rank"),
        ({"dropout": 1.5}, "dropout"),
        ({"scale": math.inf}, "alpha"),
    ):
        with pytest.raises(ValueError, match=word):
            MTLoRA(model, 2, generator=draw(0), **options)
    with pytest.raises(ValueError, match="rank"):
        MTLoRA(model, 99, generator=draw(0))
    assert same(found(model), before)


# ---------------------------------------------------------------- the sizes that are printed


@pytest.fixture
def tiny() -> MultiTask:
    """Swin-Tiny with decoders for PASCAL-Context: shapes without numbers."""
    with torch.device("meta"):
        return MultiTask(swin_tiny(draw(0)), draw(0))


def test_sizes_of_swin_tiny_and_its_decoders(tiny: MultiTask) -> None:
    assert count(tiny.features) == 27_517_818
    assert count(tiny.decoders) == 1_946_624
    for task, head in zip(TASKS, (317_541, 302_407, 295_921, 298_083), strict=True):
        assert count(tiny.decoders[task].reducers) == 183_168
        assert count(tiny.decoders[task].head) == head
    features = tiny.scales(torch.empty(1, 3, 448, 448, device="meta"))
    shapes = [(56, 56, 192), (28, 28, 384), (14, 14, 768), (14, 14, 768)]
    assert [tuple(f.shape) for f in features] == [(1, *shape) for shape in shapes]
    answers = tiny(torch.empty(2, 3, 448, 448, device="meta"))
    assert {t: tuple(y.shape) for t, y in answers.items()} == {
        t: (2, c, 448, 448) for t, c in OUTPUTS.items()
    }
    assert count(tune_full(tiny)) == 29_464_442
    assert sum(count(tune_single(tiny, task)) for task in TASKS) == 112_017_896


@pytest.mark.parametrize("rank", [1, 8, 24])
def test_sizes_of_adapters(tiny: MultiTask, rank: int) -> None:
    decoders, groups = 1_946_624, {"norm": 23_040, "table": 23_322, "patches": 4_896}
    for tune in (tune_lora, tune_velocity):
        for on, each in (("qv", 17_664), ("qkv", 26_496)):
            assert count(tune(tiny, rank, generator=draw(0), on=on, small=False)) == decoders + each * rank
            detach(tiny)
            trains = tune(tiny, rank, generator=draw(0), on=on)
            detach(tiny)
            assert count(trains) == decoders + sum(groups.values()) + each * rank
            few = {n: p for n, p in trains.items() if "adapter" not in n and "decoders" not in n}
            patches = {n: p for n, p in few.items() if n.startswith("features.0.")}
            tables = {n: p for n, p in few.items() if n.endswith("table")}
            norms = {n: p for n, p in few.items() if n not in {*patches, *tables}}
            assert [count(found_) for found_ in (norms, tables, patches)] == list(groups.values())
            assert sum(groups.values()) == 51_258
    assert count(tune_lora_each(tiny, rank, generator=draw(0))) == decoders + 4 * 17_664 * rank


def test_delora_of_either_reading_has_its_printed_size(tiny: MultiTask) -> None:
    for rank, on in ((24, "qv"), (16, "qkv")):
        assert count(tune_velocity(tiny, rank, generator=draw(0), on=on)) == 2_421_818
        detach(tiny)


@pytest.mark.parametrize(("rank", "size"), [(16, 4_953_146), (32, 6_083_642), (64, 8_344_634)])
def test_sizes_of_mtlora(tiny: MultiTask, rank: int, size: int) -> None:
    wrapped = MTLoRA(tiny, rank, generator=draw(0))
    assert count(trained(wrapped)) == size
    assert count(wrapped.streams) == 276_480
    assert count({n: p for n, p in trained(wrapped).items() if n.endswith("reduction.weight")}) == 1_548_288
    vain = {n: p for n, p in trained(wrapped).items() if n.startswith("model.features.7.1.mlp.3.")}
    assert count(vain) == 3_840 * rank


# ---------------------------------------------------------------- refusals


def test_refusals() -> None:
    g = draw(0)
    for options, words in (
        ({"depths": (2, 2)}, "four numbers"),
        ({"heads": (3, 3, 3, 3), "width": 8}, "3 heads do not divide 8 channels"),
        ({"patch": 0}, "at least 1"),
        ({"drop_path": 1.0}, "a chance in"),
    ):
        with pytest.raises(ValueError, match=words):
            swin(g, **options)
    with pytest.raises(ValueError, match="IMAGENET1K_V1"):
        swin_tiny(g, weights="imagenet")
    backbone = swin(g, **SIZES)
    with pytest.raises(TypeError, match="has no `features`"):
        MultiTask(nn.Linear(2, 2), g)
    with pytest.raises(ValueError, match="names no task"):
        MultiTask(backbone, g, outputs={})
    with pytest.raises(ValueError, match="must divide 18"):
        MultiTask(backbone, g, narrow=4)
    with pytest.raises(ValueError, match="outputs=0 must be"):
        MultiTask(backbone, g, outputs={"semseg": 0})
    from torchvision.models import SwinTransformer

    with torch.device("meta"):
        two = SwinTransformer([2, 2], 8, [1, 1], [2, 2], [4, 4])
    with pytest.raises(ValueError, match="has 2 stages; the decoders need four"):
        MultiTask(two, g)

    model = small()
    for shape in ((2, 1, 32, 32), (3, 32, 32), (2, 3, 32, 33), (2, 3, 0, 32)):
        with pytest.raises(ValueError, match="H and W multiples of 2"):
            model(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"'depth'\], which this model does not answer"):
        model(pictures(), ["normals", "depth"])
    with pytest.raises(ValueError, match="no adapters for each task"):
        answers_each(model, pictures())
    with pytest.raises(ValueError, match="'depth' is unknown; this model has semseg"):
        tune_single(model, "depth")
    with pytest.raises(ValueError, match="'free' is unknown; it is one of literal"):
        tune_velocity(model, 2, generator=g, variant="free")  # type: ignore[arg-type]
    before = found(model)
    for on in ("", "qq", "qx"):
        with pytest.raises(ValueError, match="must name some of q, k and v"):
            tune_lora(model, 2, generator=g, on=on)
    with pytest.raises(ValueError, match="rank"):
        tune_lora_each(model, 99, generator=g)
    assert same(found(model), before)
    tune_lora(model, 2, generator=g)
    for tune in (tune_full, lambda m: tune_single(m, "normals")):
        with pytest.raises(ValueError, match="has adapters: detach or merge_"):
            tune(model)
    with pytest.raises(ValueError, match="already has adapters"):
        tune_velocity(model, 2, generator=g)
    with pytest.raises(ValueError, match="no adapters for each task"):
        answers_each(model, pictures())


def test_adapters_for_tasks_refuse_what_does_not_fit() -> None:
    lora = LoRA((6, 4), 2, generator=draw(0))
    for adapters in ({}, {"semseg": LoRA((4, 4), 2, generator=draw(0)), "normals": lora}):
        with pytest.raises(ValueError, match="one of shape"):
            PerTask((6, 4), adapters)
    several_ = PerTask((6, 4), {"semseg": lora})
    with pytest.raises(ValueError, match="'depth' has no adapter here; there are semseg"):
        several_.choose("depth")
    layer = nn.utils.skip_init(nn.Linear, 4, 6)
    attach(layer_in := nn.Sequential(layer), "0", lambda name, W: several_)
    assert "semseg of semseg" in repr(layer_in)

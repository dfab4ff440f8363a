"""Adapters in models: attached, looked at, merged, taken off; in many architectures and transforms."""

import copy
import pickle

import pytest
import torch
from cases import CASES, DOUBLE, drawn, moved, of
from torch import nn
from torch.func import functional_call
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint

from geolessons.adapters import Adapter, LoRA
from geolessons.attaching import AdaptedLinear, adapted_layers, attach, detach, effective_weights, merge_
from geolessons.geodesics import GeodesicLoRA, set_t
from geolessons.models import mlp
from geolessons.trees import params_of

every = pytest.mark.parametrize("make", CASES.values(), ids=CASES)
MOVING = {name: make for name, make in CASES.items() if not name.endswith("-t0")}
every_moving = pytest.mark.parametrize("make", MOVING.values(), ids=MOVING)
GLRA = of(GeodesicLoRA, t=0.5)


def small(dtype=DOUBLE):
    return mlp((6, 9, 9, 3), drawn(0), dtype=dtype)


def some_input(dtype=DOUBLE):
    return torch.randn(5, 6, generator=drawn(9), dtype=DOUBLE).to(dtype)


def put(model, make=GLRA, patterns="*", seed=4, **options):
    """Attach and move the adapters off zero; gives the model."""
    g = drawn(seed)
    attach(model, patterns, lambda name, W: make(W.shape, g, W.dtype), **options)
    return moved(model, seed)


class Ledger:
    """All that must be as before: tensors and their bits, names and their order, flags, classes, objects."""

    def __init__(self, model):
        self.state = {k: v.clone() for k, v in model.state_dict().items()}
        self.objects = [(name, id(m), type(m)) for name, m in model.named_modules(remove_duplicate=False)]
        self.parameters = [
            (n, id(p), p.requires_grad) for n, p in model.named_parameters(remove_duplicate=False)
        ]
        self.modes = [m.training for m in model.modules()]
        self.extra = [sorted(m.__dict__) for m in model.modules()]

    def same_as(self, model):
        now = Ledger(model)
        assert list(now.state) == list(self.state)
        assert all(torch.equal(v, now.state[k]) for k, v in self.state.items())
        for what in ("objects", "parameters", "modes", "extra"):
            assert getattr(now, what) == getattr(self, what), what
        return True


# the property tests of the case table


@every_moving
def test_attached_model_is_the_functional_one(make):
    plain, x = small().eval(), some_input()
    model = put(copy.deepcopy(plain), make).eval()
    W = effective_weights(model)
    assert list(W) == list(params_of(plain))
    true = torch.func.functional_call(plain, W, (x,))
    torch.testing.assert_close(model(x), true)
    for name, layer in adapted_layers(model).items():
        assert torch.equal(layer.weight, W[f"{name}.weight"])
        assert not torch.equal(layer.weight, layer.base_weight)
        assert torch.equal(layer.base_weight, plain.get_parameter(f"{name}.weight"))


@every_moving
def test_detach_is_bit_exact(make):
    model = small()
    model.fc2.bias.requires_grad_(False)
    before, x = Ledger(model), some_input()
    y = model(x)
    put(model, make)
    assert not torch.equal(model(x), y)
    loss = model(x).square().sum()
    loss.backward()
    torch.optim.AdamW([p for p in model.parameters() if p.requires_grad]).step()
    detach(model)
    assert before.same_as(model)
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(model(x), y)


@every
def test_merge_keeps_the_function(make):
    model, x = small(), some_input()
    before, snapshot = Ledger(model), dict(model.named_parameters())
    old = {name: p.detach() for name, p in snapshot.items()}
    copies = {name: p.clone() for name, p in old.items()}
    put(model, make).eval()
    y, W = model(x), effective_weights(model)
    merge_(model)
    torch.testing.assert_close(model(x), y)
    after = params_of(model)
    assert list(after) == list(W)
    assert all(torch.equal(after[name], W[name]) for name in W)
    now = Ledger(model)
    assert (now.objects, now.parameters, now.extra) == (before.objects, before.parameters, before.extra)
    assert all(torch.equal(old[name], copies[name]) for name in old), "older snapshots stay valid"


@every_moving
def test_a_copy_a_pickle_and_a_state_dict_are_the_model(make):
    model, x = put(small(), make).eval(), some_input()
    y = model(x)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x), y)
        moved(twin, seed=77)
        assert not torch.equal(twin(x), y)
        detach(twin)
        assert type(twin.fc1) is nn.Linear
        assert twin.fc1.weight.requires_grad
    assert torch.equal(model(x), y)
    other = put(small(), make, seed=99).eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), y)


# transforms


@every
def test_compile_takes_the_whole_graph(make):
    if make is CASES["lora-dropout"]:
        pytest.skip("random")
    model, x = put(small(torch.float32), make, patterns="fc2"), some_input(torch.float32)
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), model(x))
    wanted = [p for p in model.parameters() if p.requires_grad]
    grads = [torch.autograd.grad(m(x).square().sum(), wanted) for m in (compiled, model)]
    for g, h in zip(*grads, strict=True):
        torch.testing.assert_close(g, h)


def test_moving_t_does_not_compile_again():
    model, x = put(small(torch.float32), patterns="fc2"), some_input(torch.float32)
    torch.compiler.reset()
    count = torch._dynamo.testing.CompileCounterWithBackend("eager")
    compiled = torch.compile(model, fullgraph=True, backend=count)
    for t in (0.0, 0.3, 1.0):
        set_t(model, t)
        torch.testing.assert_close(compiled(x), model(x))
    assert count.frame_count == 1


@every
def test_vmap_over_inputs_and_over_adapters(make):
    model, x = put(small(), make).eval(), some_input()
    torch.testing.assert_close(torch.vmap(model)(x), model(x))
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    P = {n: p.detach() for n, p in model.named_parameters() if n in names}
    many = {n: torch.stack([p, 2 * p, -p]) for n, p in P.items()}
    found = torch.vmap(lambda Q: torch.func.functional_call(model, Q, (x,)))(many)
    for i, factor in enumerate((1, 2, -1)):
        one = torch.func.functional_call(model, {n: factor * p for n, p in P.items()}, (x,))
        torch.testing.assert_close(found[i], one)


@every
def test_checkpointing_has_the_same_gradients(make):
    model, x = put(small(), make), some_input()
    wanted = [p for p in model.parameters() if p.requires_grad]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = torch.autograd.grad(model(x).square().sum(), wanted)
        torch.manual_seed(0)
        again = torch.autograd.grad(checkpoint(model, x, use_reentrant=False).square().sum(), wanted)
    assert all(torch.equal(g, h) for g, h in zip(plain, again, strict=True))


@every
def test_autocast(make):
    model, x = put(small(torch.float32), make).eval(), some_input(torch.float32)
    y = model(x)
    with torch.autocast("cpu", torch.bfloat16):
        z = model(x)
        assert effective_weights(model)["fc1.weight"].dtype == torch.float32
    assert z.dtype == torch.bfloat16
    torch.testing.assert_close(z.float(), y, rtol=0, atol=0.05 * float(y.detach().abs().max()))
    z.float().square().sum().backward()
    for p in model.parameters():
        assert (p.grad is not None) == p.requires_grad
        assert p.grad is None or (p.grad.dtype == torch.float32 and p.grad.isfinite().all())


# architectures


def swin():
    from torchvision.models import SwinTransformer

    return SwinTransformer([2, 2], 12, [1, 1], [2, 2], [4, 4], num_classes=5), torch.randn(2, 3, 32, 32)


def vit():
    from torchvision.models import VisionTransformer

    model = VisionTransformer(16, 8, 2, 2, 12, 24, num_classes=5)
    nn.init.normal_(model.heads.head.weight)  # torchvision starts it at zero
    return model, torch.randn(2, 3, 16, 16)


def hugging_face(name):
    transformers = pytest.importorskip("transformers")
    size = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 12, "intermediate_size": 24}
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    ids = torch.arange(8)[None] % 30
    if name == "bert":
        config = transformers.BertConfig(vocab_size=30, max_position_embeddings=20, **size, **no_dropout)
        return transformers.BertForMaskedLM(config), {"input_ids": ids}
    if name == "t5":
        heads = {"d_model": 12, "d_kv": 6, "d_ff": 24, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.0}
        config = transformers.T5Config(vocab_size=30, decoder_start_token_id=0, **heads)
        return transformers.T5ForConditionalGeneration(config), {"input_ids": ids, "labels": ids}
    text = {"vocab_size": 30, "max_position_embeddings": 20, "bos_token_id": 0, "eos_token_id": 1, **size}
    vision = {"image_size": 16, "patch_size": 8, **size}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=6)
    return transformers.CLIPModel(config), {"input_ids": ids, "pixel_values": torch.randn(1, 3, 16, 16)}


MODELS = {
    "mlp": (lambda: (small(torch.float32), some_input(torch.float32)), ["fc*"]),
    "swin": (swin, ["*.attn.qkv", "*.attn.proj", "*.mlp.0"]),
    "vit": (vit, ["*.mlp.*", "heads.*"]),
    "bert": (lambda: hugging_face("bert"), ["*.query", "*.value"]),
    "t5": (lambda: hugging_face("t5"), ["*.q", "*.v", "*.wo"]),
    "clip": (lambda: hugging_face("clip"), ["*.q_proj", "*.v_proj"]),
}
HUGGING_FACE = ("bert", "t5", "clip")
SLOW_TO_COMPILE = ("t5", "clip")  # seconds; they are compiled with one kind of adapter


def built(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, batch = MODELS[name][0]()
    return model.eval(), batch


def adapt(model, name, kind, **options):
    g = drawn(0)
    return attach(model, MODELS[name][1], lambda _, W: CASES[kind](W.shape, g, W.dtype), **options)


def answer(model, batch, params=None):
    args, kwargs = ((), batch) if isinstance(batch, dict) else ((batch,), {})
    out = model(*args, **kwargs) if params is None else functional_call(model, params, args, kwargs)
    if isinstance(out, torch.Tensor):
        return out
    return out["logits"] if "logits" in out else out["logits_per_image"]


@pytest.mark.parametrize("kind", ["lora", "geodesic-tensor-raw-t0.3", "velocity-normalised", "rows-lora"])
@pytest.mark.parametrize("name", MODELS)
def test_architectures(name, kind):
    model, batch = built(name)
    plain, before, y = copy.deepcopy(model), Ledger(model), answer(model, batch).detach()
    names = adapt(model, name, kind, probe=batch)
    assert list(adapted_layers(model)) == names
    torch.testing.assert_close(answer(model, batch), y, rtol=1e-5, atol=1e-5)
    moved(model, size=1.0)
    z = answer(model, batch)
    assert float((z - y).detach().abs().max()) > 1e-3
    z.square().sum().backward()
    for layer in adapted_layers(model).values():
        assert all(p.grad is not None and p.grad.any() for p in layer.adapter.parameters())
        assert layer.base_weight.grad is None
    model.zero_grad()

    def same(w):
        torch.testing.assert_close(w, z, rtol=1e-4, atol=1e-4)

    same(answer(plain, batch, effective_weights(model)))
    trained = {n: 2 * p for n, p in model.named_parameters() if p.requires_grad}
    w = answer(model, batch, trained)
    assert not torch.allclose(w, z)
    twin = copy.deepcopy(model)
    twin.load_state_dict(twin.state_dict() | {n: p.detach() for n, p in trained.items()})
    assert torch.equal(answer(twin, batch), w)
    assert torch.equal(answer(pickle.loads(pickle.dumps(model)), batch), z)
    with torch.autocast("cpu", torch.bfloat16):
        w = answer(model, batch).float()
    torch.testing.assert_close(w, z, rtol=0, atol=0.1 * float(z.detach().abs().max()))
    if kind == "lora" or name not in SLOW_TO_COMPILE:
        torch.compiler.reset()
        twin = torch.compile(copy.deepcopy(model), fullgraph=True, backend="eager")
        same(answer(twin, batch))
    merged = copy.deepcopy(model)
    merge_(merged)
    same(answer(merged, batch))
    detach(model)
    assert before.same_as(model)
    assert torch.equal(answer(model, batch), y)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # transformers 5 has another name for it
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", HUGGING_FACE)
def test_a_models_own_checkpointing_has_the_same_gradients(name, reentrant):
    model, batch = built(name)
    adapt(model, name, "geodesic-tensor-raw-t0.3")
    moved(model, size=1.0).train()
    calls = []
    for layer in adapted_layers(model).values():
        layer.register_forward_hook(lambda *_: calls.append(1))

    def gradients():
        model.zero_grad()
        calls.clear()
        answer(model, batch).square().sum().backward()
        return [p.grad for p in model.parameters() if p.requires_grad], len(calls)

    true, once = gradients()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    if reentrant:
        model.enable_input_require_grads()
    found, again = gradients()
    assert again > 1.5 * once, "the layers were not run again in the backward pass"
    for g, h in zip(found, true, strict=True):
        torch.testing.assert_close(g, h, rtol=0, atol=1e-5 * float(h.abs().max()))


def test_the_encoders_fast_path_sees_the_adapter():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    x = torch.randn(2, 3, 8, generator=drawn(0))
    y = model(x)
    put(model, patterns="linear*")
    with torch.no_grad():
        z = model(x)
    assert not torch.allclose(y, z)
    merge_(model)
    torch.testing.assert_close(model(x), z)


# what attach freezes, and what it refuses


def test_attach_freezes_all_but_what_is_to_train():
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    model[0].weight.requires_grad_(False)
    names = attach(model, "0", lambda n, W: of(LoRA)(W.shape, drawn(0)), train=["1.*", "2.bias"])
    assert names == ["0"]
    trainable = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trainable == {"0.adapter.A", "0.adapter.B", "1.weight", "1.bias", "2.bias"}
    assert [n for n, _ in model.named_parameters()][:2] == ["0.base_weight", "0.bias"]
    detach(model)
    assert {n for n, p in model.named_parameters() if not p.requires_grad} == {"0.weight"}


def test_trained_besides_keeps_its_values():
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    attach(model, "0", lambda n, W: of(LoRA)(W.shape, drawn(0)), train="1.*")
    with torch.no_grad():
        model[1].bias.fill_(3)
    assert effective_weights(model)["1.bias"].tolist() == [3] * 4
    detach(model)
    assert model[1].bias.tolist() == [3] * 4


def test_make_gets_name_and_weight_in_the_models_order():
    model, seen = small(), []

    def make(name, W):
        seen.append((name, tuple(W.shape), W.requires_grad))
        return of(LoRA)(W.shape, drawn(0))

    assert attach(model, ["fc3", "fc[12]"], make) == ["fc1", "fc2", "fc3"]
    assert seen == [("fc1", (9, 6), False), ("fc2", (9, 9), False), ("fc3", (3, 9), False)]
    assert "AdaptedLinear" in repr(model)
    assert not model.fc1.adapter.training or model.training


def test_a_layer_alone_and_a_layer_in_evaluation_mode():
    layer = nn.Linear(4, 3).eval()
    assert attach(layer, "*", lambda n, W: of(LoRA, dropout=0.5)(W.shape, drawn(0))) == [""]
    assert not layer.adapter.training
    assert list(effective_weights(layer)) == ["weight", "bias"]
    detach(layer)
    assert type(layer) is nn.Linear


@every
def test_shapes_can_be_had_without_values(make):
    layer = nn.Linear(5, 12, device="meta")
    attach(layer, "*", lambda n, W: make(W.shape, drawn(0), W.dtype))
    layer.eval()
    assert layer(torch.empty(2, 5, device="meta")).shape == (2, 12)
    assert layer.weight.shape == (12, 5)
    assert "12×5" in repr(layer)
    detach(layer)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.conv = nn.Conv1d(1, 1, 1)
        self.attention = nn.MultiheadAttention(4, 2)
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        self.two.weight = self.one.weight
        self.inside = nn.Linear(4, 4)
        self.again = self.inside
        self.view, self.whole = nn.Linear(4, 2), nn.Linear(4, 4)
        self.view.weight = nn.Parameter(self.whole.weight.detach()[:2])
        self.pruned = prune.identity(nn.Linear(4, 4), "weight")
        self.own = type("OwnLinear", (nn.Linear,), {})(4, 4)
        self.ints = nn.Linear(4, 4)
        self.ints.weight = nn.Parameter(torch.zeros(4, 4, dtype=torch.int8), requires_grad=False)

    def forward(self, x):
        return self.body(x)


def lora(name, W):
    return LoRA(W.shape, 2, generator=drawn(0))


@pytest.mark.parametrize(
    ("patterns", "options", "error", "said"),
    [
        (["bdy"], {}, ValueError, "'bdy' matches no layer; linear layers of this model: body, one, two"),
        (["body", "bdy"], {}, ValueError, "'bdy' matches no layer"),
        ([], {}, ValueError, "patterns is empty; linear layers of this model: body"),
        (["conv"], {}, ValueError, r"'conv' matches only layers that are not nn.Linear: conv \(Conv1d\)"),
        (["*"], {}, ValueError, "'*' meets nn.MultiheadAttention at attention: it keeps q, k and v in one"),
        (["attention*"], {}, ValueError, "in_proj_weight, and reads out_proj.weight itself"),
        (["*.out_proj"], {}, ValueError, "meets nn.MultiheadAttention at attention.*can be reached.*body"),
        (["one"], {}, ValueError, "tied weights cannot have an adapter.*: one.weight = two.weight"),
        (["inside"], {}, ValueError, "inside.weight = again.weight"),
        (["view"], {}, ValueError, "view.weight = whole.weight"),
        (["pruned"], {}, ValueError, "pruned's weight is computed from something else"),
        (["own"], {}, ValueError, "own is a OwnLinear, whose forward may be its own"),
        (["ints"], {}, ValueError, "ints's weight is torch.int8"),
        (["body"], {"train": "nrm*"}, ValueError, r"train='nrm\*' matches no parameter; there are body.w"),
        (["body"], {"train": ["body.*"]}, ValueError, r"matches body.weight, which an adapter needs frozen"),
        (["body"], {"train": ["ints.w*"]}, ValueError, r"matches ints.weight, which is not floating-point"),
        (["body"], {"make": lambda n, W: None}, TypeError, "make gave a NoneType for 'body'"),
        (
            ["body"],
            {"make": lambda n, W: LoRA((4, 5), 2, generator=drawn(0))},
            ValueError,
            r"the adapter for 'body' is made for \(4, 5\), its weight is \(4, 4\); give it W.shape",
        ),
        (["body"], {"probe": torch.zeros(1, 5)}, RuntimeError, "shapes cannot be multiplied"),
        (["body"], {"probe": torch.zeros(1, 4)}, ValueError, "no adapter has an effect.*: body"),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_refusals_leave_the_model_as_it_was(patterns, options, error, said, training):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Net().train(training)
    model.conv.bias.requires_grad_(False)
    before, state = Ledger(model), torch.get_rng_state()
    options = {"make": lora} | options
    with pytest.raises(error, match=said.replace("'*'", r"'\*'")):
        attach(model, patterns, **options)
    assert before.same_as(model)
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for p in model.parameters())


def test_one_adapter_for_two_layers_is_refused():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    one = lora("", torch.empty(4, 4))
    with pytest.raises(ValueError, match="make gave '1' the adapter of '0'; make a new one in each call"):
        attach(model, "*", lambda n, W: one)


@pytest.mark.parametrize("when", ["__class__", "adapter"])
def test_an_interrupted_attach_is_undone(when, monkeypatch):
    model = small()
    before = Ledger(model)
    whole, once = nn.Module.__setattr__, [1]

    def interrupt(self, name, value):
        if name == when and self is model.fc2 and once:
            once.clear()
            raise KeyboardInterrupt
        whole(self, name, value)

    monkeypatch.setattr(nn.Module, "__setattr__", interrupt)
    with pytest.raises(KeyboardInterrupt):
        attach(model, "*", lambda n, W: of(LoRA)(W.shape, drawn(0)))
    monkeypatch.undo()
    assert before.same_as(model)


def test_an_adapted_model_is_refused():
    model = put(small(), patterns="fc1")
    before = Ledger(model)
    for patterns in ("fc1", "fc2"):
        with pytest.raises(ValueError, match="the model already has adapters, at fc1: detach or merge_"):
            attach(model, patterns, lora)
    assert before.same_as(model)


def test_inner_and_outer_attachments():
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4)), nn.Linear(4, 4), nn.Linear(4, 4))
    before = Ledger(model)
    put(model, patterns="1")
    put(model[0], patterns="0")
    with pytest.raises(ValueError, match="attached to a larger module"):
        detach(model[1])
    with pytest.raises(ValueError, match="attached to a larger module"):
        merge_(model[1])
    detach(model)
    assert before.same_as(model)
    with pytest.raises(ValueError, match="the model has no adapters"):
        detach(model)
    with pytest.raises(ValueError, match="the model has no adapters"):
        merge_(model)
    assert list(effective_weights(model)) == list(params_of(model))


def test_merge_refuses_what_is_not_finite_and_changes_nothing():
    model = put(small(torch.float16), of(LoRA))
    with torch.no_grad():
        model.fc3.adapter.A.fill_(1)
        model.fc3.adapter.B.fill_(3e4)
    before = Ledger(model)
    with pytest.raises(ValueError, match=r"merged weight has NaN or infinite entries in 'fc3.weight'"):
        merge_(model)
    assert before.same_as(model)


@pytest.mark.parametrize("make", [of(LoRA), GLRA])
def test_merge_rounds_once(make):
    model = put(small(torch.bfloat16), make)
    layer = model.fc2
    exact = layer.adapter.double().weight(layer.base_weight.double())
    layer.adapter.bfloat16()
    merge_(model)
    assert model.fc2.weight.dtype == torch.bfloat16
    assert torch.equal(model.fc2.weight, exact.to(torch.bfloat16))


class Partly(nn.Module):
    """One layer counts, one is called in vain, one never, one runs in training only."""

    def __init__(self):
        super().__init__()
        for name in ("used", "vain", "never", "training_only"):
            setattr(self, name, nn.Linear(4, 4))
        self.norm = nn.LayerNorm(4)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x, scale=1.0):
        self.vain(x)
        x = self.dropout(self.used(x))
        return {"list": [(self.norm(scale * (self.training_only(x) if self.training else x)), None)], "n": 3}


@pytest.mark.parametrize(
    "probe", [torch.ones(2, 4), (torch.ones(2, 4),), {"x": torch.ones(2, 4), "scale": 2.0}]
)
def test_probe_reports_adapters_without_effect(probe):
    model = Partly().train()
    model.norm.eval()
    modes, state = [m.training for m in model.modules()], torch.get_rng_state()
    said = "no effect on the model's output: vain, never, training_only$"
    with torch.no_grad(), pytest.warns(UserWarning, match=said) as caught:
        attach(model, "*", lora, probe=probe)
    assert caught[0].filename == __file__
    assert [m.training for m in model.modules() if not isinstance(m, Adapter)] == modes
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for p in model.parameters())
    detach(model)
    attach(model, ["used"], lora, probe=probe)
    detach(model)
    before = Ledger(model)
    with pytest.raises(ValueError, match="no adapter has an effect on the model's output: vain, never"):
        attach(model, ["vain", "never"], lora, probe=probe)
    assert before.same_as(model)
    with pytest.raises(ValueError, match="Is t = 0"):
        attach(model, "used", lambda n, W: GeodesicLoRA(W.shape, 2, t=0, generator=drawn(0)), probe=probe)


def test_an_adapted_layer_is_not_made_by_hand():
    with pytest.raises(TypeError, match="is made by attach"):
        AdaptedLinear()


def test_lora_never_forms_the_weight(monkeypatch):
    model, x = put(small(), of(LoRA)), some_input()
    y = model(x)
    monkeypatch.setattr(LoRA, "weight", None)
    assert torch.equal(model(x), y)
    with torch.utils.flop_counter.FlopCounterMode(display=False) as ours:
        model.fc2(torch.ones(50, 9, dtype=DOUBLE))
    assert ours.get_total_flops() == 2 * 50 * (9 * 9 + 2 * 3 * 9)

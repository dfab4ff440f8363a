"""Adapter files: what is saved comes back, in PEFT too; what is broken or not plain LoRA is refused."""

import copy
import json
import os

import pytest
import torch
from cases import CASES, DOUBLE, LORA_NOW, drawn, moved, of
from torch import nn

from geolessons import io
from geolessons.adapters import LoRA, Rows
from geolessons.attaching import adapted_layers, attach, detach
from geolessons.geodesics import GeodesicLoRA, RampedLoRA, set_t
from geolessons.io import load, save
from geolessons.models import mlp
from geolessons.velocity import VelocityLoRA

safetensors_torch = pytest.importorskip("safetensors.torch")
CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"


def small(dtype=DOUBLE):
    return mlp((6, 9, 9, 3), drawn(0), dtype=dtype).eval()


def put(model, make=CASES["lora"], patterns="*"):
    g = drawn(4)
    attach(model, patterns, lambda name, W: make(W.shape, g, W.dtype))
    return moved(model)


X = torch.randn(5, 6, generator=drawn(9), dtype=DOUBLE)


@pytest.mark.parametrize("name", CASES)
def test_save_and_load_return_it(name, tmp_path):
    plain = small()
    model = put(copy.deepcopy(plain), CASES[name])
    save(model, tmp_path / "a" / "b")
    assert sorted(os.listdir(tmp_path / "a" / "b")) == [CONFIG, TENSORS]
    assert os.listdir(tmp_path / "a") == ["b"]
    assert load(plain, tmp_path / "a" / "b") == ["fc1", "fc2", "fc3"]
    if name in LORA_NOW:
        torch.testing.assert_close(plain(X), model(X), rtol=1e-12, atol=1e-12)
        assert {type(layer.adapter) for layer in adapted_layers(plain).values()} == {LoRA}
    else:
        torch.testing.assert_close(plain(X), model(X), rtol=1e-13, atol=1e-13)
        for layer, twin in zip(adapted_layers(plain).values(), adapted_layers(model).values(), strict=True):
            assert repr(layer) == repr(twin)
            torch.testing.assert_close(layer.weight, twin.weight, rtol=1e-13, atol=1e-13)
            state, theirs = layer.state_dict(), twin.state_dict()
            assert all(torch.equal(p, theirs[name]) for name, p in state.items())
            for p, q in zip(gradients(layer), gradients(twin), strict=True):
                torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)
    assert {p.dtype for layer in adapted_layers(plain).values() for p in layer.adapter.parameters()} == {
        DOUBLE
    }
    if "dropout" in name:
        assert plain.fc1.adapter.dropout == 0.5
    save(plain, tmp_path / "again")
    for file in (CONFIG, TENSORS):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "a" / "b" / file).read_bytes()


def gradients(layer):
    """They tell a held angle from an exact one, which weights do not."""
    return torch.autograd.grad(layer.weight.square().sum(), tuple(layer.adapter.parameters()))


def test_the_layout(tmp_path):
    model = put(small(torch.float32), of(LoRA), "fc[12]")
    save(model, tmp_path / "x")
    tensors = safetensors_torch.load_file(tmp_path / "x" / TENSORS)
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    assert shapes == {
        "base_model.model.fc1.lora_A.weight": (3, 6),
        "base_model.model.fc1.lora_B.weight": (9, 3),
        "base_model.model.fc2.lora_A.weight": (3, 9),
        "base_model.model.fc2.lora_B.weight": (9, 3),
    }
    assert torch.equal(tensors["base_model.model.fc2.lora_B.weight"], model.fc2.adapter.B)
    text = (tmp_path / "x" / CONFIG).read_text()
    config = json.loads(text)
    assert text == json.dumps(config, indent=2, sort_keys=True) + "\n"
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 3, 6)
    assert config["target_modules"] == ["fc1", "fc2"]
    assert config["inference_mode"] is True


@pytest.mark.parametrize("alphas", [(2, 8), (0, 8), (0, 0)])
def test_block_rows_with_different_scales_are_one_pair(alphas, tmp_path):
    g = drawn(0)

    def make(name, W):
        q, v = (LoRA((3, 9), 2, alpha, generator=g, dtype=W.dtype) for alpha in alphas)
        return Rows(W.shape, [(slice(0, 3), q), (slice(6, 9), v)])

    model, plain = small(), small()
    attach(model, "fc2", make)
    moved(model)
    save(model, tmp_path / "x")
    load(plain, tmp_path / "x")
    torch.testing.assert_close(plain.fc2.weight, model.fc2.weight, rtol=1e-12, atol=1e-12)
    assert plain.fc2.adapter.rank == 4
    assert not plain.fc2.adapter.B[3:6].any()


# against PEFT


class Nested(nn.Module):
    """Layers whose names are endings of one another, of different ranks and scales."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 6)
        self.block = nn.ModuleDict({"fc": nn.Linear(6, 6), "efc": nn.Linear(6, 6)})
        self.block["inner"] = nn.ModuleDict({"fc": nn.Linear(6, 6)})

    def forward(self, x):
        for layer in (self.fc, self.block["fc"], self.block["efc"], self.block["inner"]["fc"]):
            x = torch.tanh(layer(x))
        return x


def nested():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Nested().double().eval()


def various(name, W):
    rank = {"fc": 1, "block.fc": 2, "block.efc": 3, "block.inner.fc": 2}[name]
    return LoRA(W.shape, rank, 3 * rank + len(name), generator=drawn(0), dtype=W.dtype)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("patterns", ["*fc", "fc", "block.fc", ["fc", "block.inner.fc"]])
def test_peft_loads_what_we_save(patterns, tmp_path):
    peft = pytest.importorskip("peft")
    model = nested()
    attach(model, patterns, various)
    moved(model)
    save(model, tmp_path / "x")
    theirs = peft.PeftModel.from_pretrained(nested(), tmp_path / "x")
    found = {
        n for n, m in theirs.base_model.model.named_modules() if isinstance(m, peft.tuners.lora.LoraLayer)
    }
    assert found == set(adapted_layers(model))
    torch.testing.assert_close(theirs(X), model(X))
    ours = nested()
    load(ours, tmp_path / "x")
    torch.testing.assert_close(ours(X), model(X))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["fc"], "r": 2, "lora_alpha": 6},
        {"target_modules": ["fc"], "r": 4, "use_rslora": True, "lora_dropout": 0.25},
        {
            "target_modules": r".*e?fc",
            "r": 2,
            "rank_pattern": {"block.fc": 3},
            "alpha_pattern": {"inner.fc": 7},
        },
        {"target_modules": ["efc"], "init_lora_weights": "gaussian"},
    ],
)
def test_we_load_what_peft_saves(options, tmp_path):
    peft = pytest.importorskip("peft")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        theirs = peft.get_peft_model(nested(), peft.LoraConfig(**({"r": 2} | options))).eval()
        for name, p in theirs.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(p)
    theirs.save_pretrained(tmp_path / "x")
    ours = nested()
    names = load(ours, tmp_path / "x")
    assert names
    torch.testing.assert_close(ours(X), theirs(X), rtol=1e-6, atol=1e-6)
    if "lora_dropout" in options:
        assert {layer.adapter.dropout for layer in adapted_layers(ours).values()} == {0.25}
    save(ours, tmp_path / "y")
    again = peft.PeftModel.from_pretrained(nested(), tmp_path / "y")
    torch.testing.assert_close(again(X), ours(X))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"use_dora": True}, "asks for what is not plain LoRA: use_dora=True"),
        ({"bias": "all"}, "bias='all'"),
        ({"modules_to_save": ["efc"]}, "modules_to_save="),
        ({"lora_bias": True}, "lora_bias=True"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
    ],
)
def test_what_peft_does_besides_is_refused(options, said, tmp_path):
    peft = pytest.importorskip("peft")
    with torch.random.fork_rng():
        config = peft.LoraConfig(target_modules=["fc"], r=2, **options)
        peft.get_peft_model(nested().float(), config).save_pretrained(tmp_path / "x")
    with pytest.raises(ValueError, match=said):
        load(nested(), tmp_path / "x")


# saving refuses


# adapters that PEFT does not have


def several(name, W):
    """Another kind of adapter for each layer, in other dtypes than the layer's."""
    g = drawn(4)
    if name == "fc1":
        return GeodesicLoRA(W.shape, 2, 3, t=0.3, scope="row", generator=g, dtype=torch.bfloat16)
    if name == "fc2":
        return VelocityLoRA(W.shape, 2, axis="all", horizon=0.1, generator=g, dtype=torch.float32)
    first = RampedLoRA((1, 9), 1, t=0.1, scaling="paper", generator=g, dtype=W.dtype)
    return Rows(W.shape, [(slice(0, 1), first), (slice(2, 3), LoRA((1, 9), 1, generator=g, dtype=W.dtype))])


def mixed():
    model = small()
    attach(model, "*", several)
    return moved(model)


def test_our_layout(tmp_path):
    save(mixed(), tmp_path / "x")
    config = json.loads((tmp_path / "x" / CONFIG).read_text())
    low = {"rank": 1, "alpha": 1, "dropout": 0.0}
    arc = {"rank": 2, "alpha": 3, "dropout": 0.0, "scaling": "standard"}
    arc |= {"scope": "row", "norm_mode": "raw", "detach_angle": True}
    field = {"axis": "all", "temperature": 3.0, "reference": None, "normalise": False}
    blocks = [
        {"rows": [0, 1], "adapter": {"kind": "RampedLoRA", "scaling": "paper"} | low},
        {"rows": [2, 3], "adapter": {"kind": "LoRA", "scaling": "standard"} | low},
    ]
    assert config == {
        "peft_type": "GEOLESSONS",
        "layers": {
            "fc1": {"kind": "GeodesicLoRA"} | arc,
            "fc2": {"kind": "VelocityLoRA", "rank": 2, "steps": 1, "horizon": 0.1} | field,
            "fc3": {"kind": "Rows", "blocks": blocks},
        },
    }
    state, tensors = mixed().state_dict(), safetensors_torch.load_file(tmp_path / "x" / TENSORS)
    assert tensors.keys() == {name for name in state if ".adapter." in name}
    assert all(torch.equal(W, state[name]) and W.dtype == state[name].dtype for name, W in tensors.items())


def test_adapters_of_several_kinds_and_dtypes_come_back(tmp_path):
    model, plain = mixed(), small()
    set_t(model.fc1.double(), 0.7)  # a float64 that is no float32
    save(model, tmp_path / "x")
    load(plain, tmp_path / "x")
    # outputs need not agree bit for bit: some processors round by where a tensor lies in memory
    assert torch.allclose(plain(X), model(X), rtol=1e-13, atol=1e-13)
    assert repr(plain) == repr(model)
    before, after = model.state_dict(), plain.state_dict()
    assert [(n, p.dtype) for n, p in after.items()] == [(n, p.dtype) for n, p in before.items()]
    assert all(torch.equal(p, before[n]) for n, p in after.items())
    assert {n: p.requires_grad for n, p in plain.named_parameters()} == {
        n: p.requires_grad for n, p in model.named_parameters()
    }


@pytest.mark.parametrize("layers", ["fc[12]", "fc3"])
def test_one_that_is_no_lora_makes_the_files_ours(layers, tmp_path):
    def make(name, W):
        if name == "fc3":
            first, last = (CASES[kind]((1, 9), drawn(0)) for kind in ("lora", "ramped"))
            return Rows(W.shape, [(slice(0, 1), first), (slice(2, 3), last)])
        return CASES["lora" if name == "fc1" else "ramped"](W.shape, drawn(0))

    model, plain = small(), small()
    attach(model, layers, make)
    moved(model)
    save(model, tmp_path / "x")
    load(plain, tmp_path / "x")
    torch.testing.assert_close(plain(X), model(X), rtol=1e-13, atol=1e-13)


@pytest.mark.filterwarnings("ignore")
def test_peft_loads_it_at_the_end_of_the_road_and_refuses_it_before(tmp_path):
    peft = pytest.importorskip("peft")
    model = put(nested(), of(GeodesicLoRA, t=0.5), "*fc")
    save(model, tmp_path / "x")
    for read in (lambda f: peft.PeftModel.from_pretrained(nested(), f), peft.PeftConfig.from_pretrained):
        with pytest.raises(KeyError, match="GEOLESSONS"):
            read(tmp_path / "x")
    set_t(model, 1)
    save(model, tmp_path / "x", overwrite=True)
    theirs = peft.PeftModel.from_pretrained(nested(), tmp_path / "x")
    torch.testing.assert_close(theirs(X), model(X))


class Doubled(LoRA):
    def mix(self, W0):
        return W0.new_tensor(2.0), None


@pytest.mark.parametrize("inside", [False, True])
def test_an_adapter_of_another_kind_is_not_taken_for_lora(inside, tmp_path):
    def make(name, W):
        mine = Doubled((3, 9), 2, generator=drawn(0))
        return Rows(W.shape, [(slice(2, 5), mine)]) if inside else mine

    model = small()
    attach(model, "fc2" if inside else "fc3", make)
    said = r"the adapter of 'fc.' is a Doubled, which has no place in a file: .* merge_\(model\) and save the"
    with pytest.raises(ValueError, match=said):
        save(model, tmp_path / "x")
    assert not os.listdir(tmp_path)


def test_save_refuses(tmp_path):
    with pytest.raises(ValueError, match="the model has no adapters"):
        save(small(), tmp_path / "x")
    layer = nn.Linear(4, 4)
    attach(layer, "*", lambda n, W: LoRA(W.shape, 2, generator=drawn(0)))
    with pytest.raises(ValueError, match="the model is itself a layer"):
        save(layer, tmp_path / "x")
    model = small()
    attach(model, "fc1", lambda n, W: CASES["lora"](W.shape, drawn(0)), train="*bias")
    with pytest.raises(ValueError, match=r"fc1.bias, fc2.bias, fc3.bias is trainable besides the adapters"):
        save(model, tmp_path / "x")
    model = put(small())
    with torch.no_grad():
        model.fc2.adapter.B[0, 0] = torch.inf
    with pytest.raises(ValueError, match=r"the adapter has NaN or infinite entries in .*fc2.lora_B"):
        save(model, tmp_path / "x")
    model, options = small(), iter([{"dropout": 0.1}, {"dropout": 0.2}, {}])
    attach(model, "*", lambda n, W: of(LoRA, **next(options))(W.shape, drawn(0)))
    with pytest.raises(ValueError, match=r"different dropouts, \[0.0, 0.1, 0.2\]; this layout holds one"):
        save(model, tmp_path / "x")
    assert not os.listdir(tmp_path)


def test_what_is_there_is_not_lost(tmp_path, monkeypatch):
    model, other = put(small()), put(small(), CASES["lora-paper"])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("dear diary")
    with pytest.raises(FileExistsError, match="overwrite=True replaces an adapter, and nothing else"):
        save(model, tmp_path / "mine", overwrite=True)
    save(model, tmp_path / "x")
    before = {f: (tmp_path / "x" / f).read_bytes() for f in (CONFIG, TENSORS)}
    with pytest.raises(FileExistsError, match="overwrite=True replaces"):
        save(other, tmp_path / "x")

    def fail(self, target):
        if self.name == "new":
            raise KeyboardInterrupt
        return rename(self, target)

    rename = io.Path.rename
    monkeypatch.setattr(io.Path, "rename", fail)
    with pytest.raises(KeyboardInterrupt):
        save(other, tmp_path / "x", overwrite=True)
    monkeypatch.undo()
    assert {f: (tmp_path / "x" / f).read_bytes() for f in before} == before
    save(other, tmp_path / "x", overwrite=True)
    assert (tmp_path / "x" / CONFIG).read_bytes() != before[CONFIG]
    assert sorted(os.listdir(tmp_path)) == ["mine", "x"]


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError("disk full")

    monkeypatch.setattr(safetensors_torch, "save_file", full)
    with pytest.raises(OSError, match="disk full"):
        save(put(small()), tmp_path / "x")
    assert not os.listdir(tmp_path)


# loading refuses


def configured(**changes):
    def change(folder):
        path = folder / CONFIG
        config = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({k: v for k, v in config.items() if v != "gone"}))

    return change


def with_tensors(edit):
    def change(folder):
        tensors = safetensors_torch.load_file(folder / TENSORS)
        edit(tensors)
        safetensors_torch.save_file(tensors, folder / TENSORS)

    return change


def cut(name, keep):
    def change(folder):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: int(keep * len(whole))])

    return change


def pickled(folder):
    (folder / TENSORS).rename(folder / "adapter_model.bin")


A2, B2 = (f"base_model.model.fc2.lora_{letter}.weight" for letter in "AB")
BROKEN = {
    "no config": (lambda f: (f / CONFIG).unlink(), FileNotFoundError, "adapter_config.json is not there"),
    "no tensors": (lambda f: (f / TENSORS).unlink(), FileNotFoundError, "safetensors is not there$"),
    "a pickle": (pickled, FileNotFoundError, "adapter_model.bin is a pickle, which can run code"),
    "config cut": (cut(CONFIG, 0.5), ValueError, "adapter_config.json is not readable JSON"),
    "config empty": (cut(CONFIG, 0), ValueError, "not readable JSON"),
    "config not text": (lambda f: (f / CONFIG).write_bytes(b"\xff\xfe{"), ValueError, "not readable JSON"),
    "config a list": (lambda f: (f / CONFIG).write_text("[]"), ValueError, "peft_type None; only 'LORA' and"),
    "tensors cut": (cut(TENSORS, 0.9), ValueError, "safetensors is corrupt or cut short"),
    "tensors cut in the header": (cut(TENSORS, 0.01), ValueError, "corrupt or cut short"),
    "tensors empty": (cut(TENSORS, 0), ValueError, "corrupt or cut short"),
    "another method": (
        configured(peft_type="IA3"),
        ValueError,
        "peft_type 'IA3'; only 'LORA' and 'GEOLESSONS'",
    ),
    "unknown field": (configured(use_sorcery=True), ValueError, "not plain LoRA: use_sorcery=True"),
    "transposed": (configured(fan_in_fan_out=True), ValueError, "not plain LoRA: fan_in_fan_out=True"),
    "no rank": (configured(r="gone"), ValueError, r"r must be a number.*; it is \[None"),
    "rank not whole": (configured(r=3.0), ValueError, "r must be a number"),
    "rank true": (configured(r=True, rank_pattern={}), ValueError, "r must be a number"),
    "alpha text": (configured(lora_alpha="6"), ValueError, r"lora_alpha must be a number .*\['6'\]"),
    "alpha null": (configured(lora_alpha=None), ValueError, "lora_alpha must be a number"),
    "alpha nan": (configured(lora_alpha=float("nan")), ValueError, "lora_alpha must be a number"),
    "rslora text": (configured(use_rslora="false"), ValueError, "use_rslora must be a number"),
    "dropout one": (configured(lora_dropout=1), ValueError, r"dropout=1 must be a chance"),
    "pattern a list": (
        configured(rank_pattern=["fc"]),
        ValueError,
        "rank_pattern must map regular expressions",
    ),
    "pattern broken": (configured(alpha_pattern={"(": 3}), ValueError, "alpha_pattern must map"),
    "pattern to text": (configured(rank_pattern={"fc1": "3"}), ValueError, "r must be a number"),
    "another rank": (
        configured(r=2),
        ValueError,
        r"lora_A of 'fc1' has shape \(3, 6\); the model and r=2 need \(2, 6\)",
    ),
    "half a pair": (with_tensors(lambda T: T.pop(B2)), ValueError, "only one of lora_A and lora_B for fc2"),
    "nothing": (with_tensors(lambda T: T.clear()), ValueError, "there are no tensors"),
    "wrong shape": (
        with_tensors(lambda T: T.update({B2: T[B2][:-1].clone()})),
        ValueError,
        r"lora_B of 'fc2' has shape \(8, 3\); the model and r=3 need \(9, 3\)",
    ),
    "another tensor": (
        with_tensors(lambda T: T.update({"base_model.model.fc2.lora_magnitude_vector": T[A2].clone()})),
        ValueError,
        "a tensor 'base_model.model.fc2.lora_magnitude_vector', which is not part of a plain LoRA",
    ),
    "not finite": (with_tensors(lambda T: T[A2].fill_(torch.nan)), ValueError, "NaN or infinite entries in"),
    "integers": (
        with_tensors(lambda T: T.update({A2: T[A2].int()})),
        ValueError,
        "must be dense and floating",
    ),
    "no such layer": (
        with_tensors(lambda T: T.update({k.replace("fc2", "fc9"): T.pop(k) for k in (A2, B2)})),
        ValueError,
        "an adapter for 'fc9', which is not in the model",
    ),
    "not a linear layer": (
        with_tensors(lambda T: T.update({k.replace("fc2", "relu1"): T.pop(k) for k in (A2, B2)})),
        ValueError,
        "an adapter for 'relu1', which is a ReLU, not an nn.Linear",
    ),
}


def entry(name, **changes):
    """Changes one layer's entry in our config."""

    def change(folder):
        path = folder / CONFIG
        config = json.loads(path.read_text())
        config["layers"][name] |= changes
        config["layers"][name] = {k: v for k, v in config["layers"][name].items() if v != "gone"}
        path.write_text(json.dumps(config))

    return change


def block(change):
    """Changes the first block of rows."""

    def edit(folder):
        path = folder / CONFIG
        config = json.loads(path.read_text())
        change(config["layers"]["fc3"]["blocks"][0])
        path.write_text(json.dumps(config))

    return edit


T1, V2 = "fc1.adapter.t", "fc2.adapter.field.W1"
GOOD = {"kind": "LoRA", "rank": 1, "alpha": 1, "scaling": "standard", "dropout": 0.0}
OURS_BROKEN = {
    "no tensors": (lambda f: (f / TENSORS).unlink(), "safetensors is not there$"),
    "config cut": (cut(CONFIG, 0.5), "adapter_config.json is not readable JSON"),
    "tensors cut": (cut(TENSORS, 0.9), "corrupt or cut short"),
    "read as LoRA": (configured(peft_type="LORA"), "not plain LoRA: layers="),
    "another field": (configured(lora_alpha=8), r"the fields \['lora_alpha'\] are unknown, \[\] are missing"),
    "no layers": (configured(layers="gone"), r"\['layers'\] are missing"),
    "layers empty": (configured(layers={}), "layers must map"),
    "layers a list": (configured(layers=["fc1"]), "layers must map"),
    "layer a list": (
        configured(layers={"fc1": []}),
        "'fc1' cannot be made: kind is None; it is one of Rows, LoRA",
    ),
    "layer unknown": (configured(layers={"fc9": GOOD}), "an adapter for 'fc9', which is not in the model"),
    "layer not linear": (configured(layers={"relu1": GOOD}), "which is a ReLU, not an nn.Linear"),
    "layer left out": (configured(layers={"fc1": GOOD}), "fc1.adapter.t belongs to no adapter"),
    "kind unknown": (entry("fc1", kind="DoRA"), "the adapter of 'fc1' cannot be made: kind is 'DoRA'"),
    "kind a list": (entry("fc1", kind=["LoRA"]), r"kind is \['LoRA'\]"),
    "kind of another": (
        entry("fc1", kind="LoRA"),
        r"fields \['detach_angle', 'norm_mode', 'scope'\] are unknown",
    ),
    "option unknown": (entry("fc1", t=0.3), r"the fields \['t'\] are unknown"),
    "option missing": (entry("fc2", steps="gone"), r"the fields \[\] are unknown, \['steps'\] are missing"),
    "rank text": (entry("fc1", rank="2"), "rank='2' is not of the right type"),
    "rank true": (entry("fc1", rank=True), "rank=True is not of the right type"),
    "rank not whole": (entry("fc2", rank=2.0), "rank=2.0 is not of the right type"),
    "rank too large": (entry("fc1", rank=99), "'fc1' cannot be made: rank=99 must be from 1 to"),
    "another rank": (entry("fc1", rank=3), r"fc1.adapter.A has shape \(2, 6\); .* need \(3, 6\)"),
    "alpha null": (entry("fc1", alpha=None), "alpha=None is not of the right type"),
    "alpha nan": (entry("fc1", alpha=float("nan")), "alpha=nan must be a finite number"),
    "alpha huge": (entry("fc1", alpha=10**400), "too large"),
    "scaling": (entry("fc1", scaling="none"), "scaling='none' is unknown"),
    "scope": (entry("fc1", scope="layer"), "scope='layer' is unknown"),
    "scope of another": (entry("fc1", scope="model"), "fc1.adapter.arc is missing"),
    "held one": (entry("fc1", detach_angle=1), "detach_angle=1 is not of the right type"),
    "axis": (entry("fc2", axis="rows"), "axis='rows' is unknown"),
    "temperature": (entry("fc2", temperature="paper"), "temperature='paper' is not of the right type"),
    "temperature zero": (entry("fc2", temperature=0), "temperature=0 must be"),
    "reference": (entry("fc2", reference="mean"), "reference='mean' is unknown"),
    "steps": (entry("fc2", steps=0), "steps=0 must be a whole number"),
    "horizon": (entry("fc2", horizon=float("inf")), "horizon=inf must be a finite number"),
    "blocks none": (entry("fc3", blocks=None), "blocks=None must be a list"),
    "blocks empty": (entry("fc3", blocks=[]), "blocks is empty"),
    "block a list": (entry("fc3", blocks=[[0, 1]]), r"\[0, 1\] must be an object with the fields"),
    "block and more": (block(lambda b: b.update(step=2)), r"the fields \['step'\] are unknown"),
    "rows three": (block(lambda b: b.update(rows=[0, 1, 1])), r"rows=\[0, 1, 1\] must be \[start, stop\]"),
    "rows negative": (block(lambda b: b.update(rows=[-3, -2])), "must be"),
    "rows backwards": (block(lambda b: b.update(rows=[1, 0])), "is not a matrix's"),
    "rows outside": (block(lambda b: b.update(rows=[3, 4])), "must be a slice"),
    "rows twice": (block(lambda b: b.update(rows=[2, 3])), "row 2 is in two blocks"),
    "a tensor less": (with_tensors(lambda T: T.pop(V2)), "do not fit: fc2.adapter.field.W1 is missing"),
    "a tensor more": (with_tensors(lambda T: T.update(x=T[V2].clone())), "x belongs to no adapter"),
    "wrong shape": (
        with_tensors(lambda T: T.update({V2: T[V2].T.contiguous()})),
        r"has shape \(2, 9\); .* \(9, 2\)",
    ),
    "not finite": (with_tensors(lambda T: T[V2].fill_(torch.nan)), "NaN or infinite entries in"),
    "integers": (with_tensors(lambda T: T.update({V2: T[V2].int()})), "must be dense and floating"),
    "t beyond": (with_tensors(lambda T: T[T1].fill_(1.5)), r"t=1.5 is outside \[0, 1\]"),
    "t of rows": (with_tensors(lambda T: T["fc3.adapter.adapters.0.t"].fill_(-1)), "t=-1 is outside"),
    "t a vector": (with_tensors(lambda T: T.update({T1: torch.zeros(1)})), r"has shape \(1,\); .* need \(\)"),
}
ALL_BROKEN = {f"PEFT's, {name}": (put, *what) for name, what in BROKEN.items()}
ALL_BROKEN |= {
    f"ours, {name}": (mixed, change, FileNotFoundError if "not there" in said else ValueError, said)
    for name, (change, said) in OURS_BROKEN.items()
}


@pytest.mark.parametrize(("made", "change", "error", "said"), ALL_BROKEN.values(), ids=ALL_BROKEN)
def test_broken_files_are_refused_and_the_model_is_left(made, change, error, said, tmp_path):
    save(made() if made is mixed else put(small()), tmp_path / "x")
    change(tmp_path / "x")
    model = small()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(error, match=said):
        load(model, tmp_path / "x")
    assert not adapted_layers(model)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


def test_a_longer_config_with_empty_fields_is_read(tmp_path):
    save(put(small()), tmp_path / "x")
    configured(something_new=None, another={}, lora_dropout="gone", rank_pattern=None)(tmp_path / "x")
    model = small()
    load(model, tmp_path / "x")
    torch.testing.assert_close(model(X), put(small())(X))


def test_names_with_pattern_letters(tmp_path):
    def odd():
        return nn.ModuleDict({"a[1]": copy.deepcopy(layer), "a1": copy.deepcopy(layer)})

    layer = nn.Linear(4, 4)
    model = odd()
    attach(model, "a[[]1]", lambda n, W: LoRA(W.shape, 2, generator=drawn(0)))
    moved(model)
    save(model, tmp_path / "x")
    plain = odd()
    assert load(plain, tmp_path / "x") == ["a[1]"]
    assert torch.equal(plain["a[1]"].weight, model["a[1]"].weight)
    detach(plain)

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
from geolessons.geodesics import GeodesicLoRA, set_t
from geolessons.io import load, save
from geolessons.models import mlp

safetensors_torch = pytest.importorskip("safetensors.torch")
CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"


def small(dtype=DOUBLE):
    return mlp((6, 9, 9, 3), drawn(0), dtype=dtype).eval()


def put(model, make=CASES["lora"], patterns="*"):
    g = drawn(4)
    attach(model, patterns, lambda name, W: make(W.shape, g, W.dtype))
    return moved(model)


X = torch.randn(5, 6, generator=drawn(9), dtype=DOUBLE)


@pytest.mark.parametrize("name", LORA_NOW)
def test_save_and_load_return_it(name, tmp_path):
    plain = small()
    model = put(copy.deepcopy(plain), CASES[name])
    save(model, tmp_path / "a" / "b")
    assert sorted(os.listdir(tmp_path / "a" / "b")) == [CONFIG, TENSORS]
    assert os.listdir(tmp_path / "a") == ["b"]
    assert load(plain, tmp_path / "a" / "b") == ["fc1", "fc2", "fc3"]
    torch.testing.assert_close(plain(X), model(X), rtol=1e-12, atol=1e-12)
    for layer in adapted_layers(plain).values():
        assert type(layer.adapter) is LoRA
        assert layer.adapter.A.dtype == DOUBLE
    if "dropout" in name:
        assert plain.fc1.adapter.dropout == 0.5
    save(plain, tmp_path / "again")
    for file in (CONFIG, TENSORS):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "a" / "b" / file).read_bytes()


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


def test_block_rows_with_different_scales_are_one_pair(tmp_path):
    g = drawn(0)

    def make(name, W):
        q, v = (LoRA((3, 9), 2, alpha, generator=g, dtype=W.dtype) for alpha in (2, 8))
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


def at(t):
    return of(GeodesicLoRA, t=t)


def test_only_at_the_end_of_the_road(tmp_path):
    model = put(small(), at(0.5))
    said = r"the adapter of 'fc1' is at t=0.5; only at t = 1 is it a LoRA: set_t\(model, 1\)"
    with pytest.raises(ValueError, match=said):
        save(model, tmp_path / "x")
    set_t(model, 1)
    save(model, tmp_path / "x")


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
    "config a list": (lambda f: (f / CONFIG).write_text("[]"), ValueError, "peft_type None; only 'LORA'"),
    "tensors cut": (cut(TENSORS, 0.9), ValueError, "safetensors is corrupt or cut short"),
    "tensors cut in the header": (cut(TENSORS, 0.01), ValueError, "corrupt or cut short"),
    "tensors empty": (cut(TENSORS, 0), ValueError, "corrupt or cut short"),
    "another method": (configured(peft_type="IA3"), ValueError, "peft_type 'IA3'; only 'LORA'"),
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
    "nothing": (with_tensors(lambda T: T.clear()), ValueError, "has no tensors"),
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


@pytest.mark.parametrize(("change", "error", "said"), BROKEN.values(), ids=BROKEN)
def test_broken_files_are_refused_and_the_model_is_left(change, error, said, tmp_path):
    save(put(small()), tmp_path / "x")
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

"""The study of Flat-LoRA on sentences, end to end on sentences made up here."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from sentences import write
from sklearn.metrics import log_loss, matthews_corrcoef, roc_auc_score

from geolessons.data.cola import FILES, cola
from geolessons.noise import FlatNoise
from geolessons.schedules import cosine
from geolessons.studies import flat_lora_text as study
from geolessons.studies import record
from geolessons.trees import params_of

RESULT = Path(__file__).parents[1] / "book" / "results" / "flat_lora_text.json"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in CoLA's layout, and a study that takes seconds."""
    monkeypatch.setenv("GEOLESSONS_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(study, "SIZES", {"width": 16, "heads": 2, "layers": 1, "length": 12})
    monkeypatch.setattr(study, "EPOCHS", {"order": 10, "lora": 3, "full": 3, "scratch": 10})
    monkeypatch.setattr(study, "RATES", dict.fromkeys(study.RATES, 1e-2))
    return write(tmp_path / "data")


def test_arms_move_what_they_say_and_repeat(root: Path) -> None:
    data = study.text()
    model, state = study.pretrain(data, 0), torch.get_rng_state()
    W0 = params_of(model)
    ends = {name: params_of(study.train(model, data, name, 0)) for name in study.ARMS}
    assert all(torch.equal(W, W0[name]) for name, W in params_of(model).items())
    assert torch.equal(torch.get_rng_state(), state)
    lora = {n for n in W0 if n.startswith("blocks") and n.endswith("weight") and "norm" not in n} | {
        "head.weight",
        "head.bias",
    }
    assert len(lora) == 6 + 2
    for name, W in ends.items():
        moved = {key for key in W0 if not torch.equal(W[key], W0[key])}
        assert moved == (lora if name.startswith("r8") else set(W0)), name
    again = params_of(study.train(model, data, "r8.0.15", 0))
    torch.testing.assert_close(again, ends["r8.0.15"], rtol=0, atol=1e-5)
    gap = max(float((again[key] - ends["r8.0"][key]).abs().max()) for key in lora)
    assert gap > 1e-3


def test_noise_grows_along_half_a_cosine_to_the_last_step(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    class Spy(FlatNoise):
        def __enter__(self) -> FlatNoise:
            seen.append((self.sigma, self.key[:2]))
            entered = super().__enter__()
            assert set(self.layers) == {f"blocks.0.{layer}" for layer in ("q", "k", "v", "o", "fc1", "fc2")}
            return entered

    monkeypatch.setattr(study, "FlatNoise", Spy)
    data = study.text()
    model = study.random(data.vocabulary, 0)
    study.train(model, data, "r8.0.15", 3)
    N = 3 * 4  # epochs times batches of 64 from 240
    assert seen == [(0.15 * cosine(i, N), (3, i + 1)) for i in range(N)]
    study.train(model, data, "r8.0", 3)
    assert len(seen) == N


def test_pre_training_does_not_see_the_labels(root: Path) -> None:
    data = study.text()
    blind = data._replace(split=data.split._replace(y_train=1 - data.split.y_train))
    one, two = (params_of(study.pretrain(d, 0)) for d in (data, blind))
    torch.testing.assert_close(one, two, rtol=0, atol=1e-5)


def test_the_study_from_its_command_and_from_where_it_was_stopped(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, asked = tmp_path / "out" / "text.json", []
    real = study.one_seed

    def stops(seed: int, **options: str) -> record.Found:
        asked.append(seed)
        if seed == 1 and len(asked) == 2:
            raise KeyboardInterrupt
        return real(seed, **options)

    command = ["--seeds", "2", "--out", str(out)]
    with pytest.raises(KeyboardInterrupt):
        record.main("flat_lora_text", study.__doc__, stops, command)
    assert [path.name for path in out.parent.iterdir()] == ["text.json.parts"]
    (out.parent / "text.json.parts" / "seed-1.json.99.tmp").write_text(
        '{"seed": 1, "val'
    )  # killed in writing
    record.main("flat_lora_text", study.__doc__, stops, command)
    assert asked == [0, 1, 1]
    assert [path.name for path in out.parent.iterdir()] == ["text.json"]
    values = record.read(out)
    for name in study.ARMS:
        assert values[f"{name}.mcc"]["n"] == 2
    assert values["majority.accuracy"]["each"] == [40 / 60] * 2
    assert values["scratch.mcc"]["mean"] > 0.5, "such sentences are easy"
    assert values["order.accuracy"]["mean"] > 0.6
    out.write_text(out.read_text(encoding="utf8")[:200], encoding="utf8")
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        record.read(out)


def test_the_command_says_what_is_wrong_with_the_data(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def command() -> None:
        record.main("flat_lora_text", study.__doc__, study.one_seed, ["--seeds", "1"])

    dev = root / "text" / "cola" / FILES[1]
    dev.write_text("garbled", encoding="utf8")
    with pytest.raises(SystemExit, match="is damaged at line 1"):
        command()
    dev.unlink()
    with pytest.raises(SystemExit, match="must name the folder that holds text/cola"):
        command()
    monkeypatch.delenv("GEOLESSONS_DATA")
    with pytest.raises(SystemExit, match="GEOLESSONS_DATA is not set"):
        command()


def test_what_is_measured_is_what_the_network_says(root: Path) -> None:
    data = study.text()
    model = study.random(data.vocabulary, 0)
    found = study.measured(model, data.split)
    with torch.no_grad():
        says = {
            part: model(x).argmax(1)
            for part, x in (("test", data.split.x_test), ("train", data.split.x_train))
        }
    assert found["accuracy"] == float((says["test"] == data.split.y_test).double().mean())
    assert found["train accuracy"] == float((says["train"] == data.split.y_train).double().mean())
    with torch.no_grad():
        p = model(data.split.x_test).softmax(1)[:, 1].numpy()
    true = data.split.y_test.numpy()
    assert found["auc"] == pytest.approx(roc_auc_score(true, p))
    assert found["loss"] == pytest.approx(log_loss(true, p), rel=1e-5)
    assert found["mcc"] == pytest.approx(matthews_corrcoef(true, says["test"].numpy()))
    assert 0.2 < study.order_accuracy(model, data.split.x_test) < 0.8


def test_order_accuracy_is_one_for_a_judge_and_half_for_a_fool(root: Path) -> None:
    x = study.text().split.x_test
    known = {tuple(row) for row in x.tolist()}

    def judge(ids: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[0.0, 1.0] if tuple(row) in known else [1.0, 0.0] for row in ids.tolist()])

    assert study.order_accuracy(judge, x) > 0.95  # words out of order can be another sentence
    assert study.order_accuracy(lambda ids: torch.tensor([[0.0, 1.0]]).expand(len(ids), 2), x) == 0.5


def test_what_is_shipped_is_whole() -> None:
    result, values = json.loads(RESULT.read_text(encoding="utf8")), record.read(RESULT)
    assert (result["study"], result["settings"]) == ("flat_lora_text", {})
    keys = ("accuracy", "mcc", "auc", "loss", "train accuracy", "train loss")
    for key in keys:
        assert all(values[f"{name}.{key}"]["n"] >= 5 for name in (*study.ARMS, "before"))
        for name, others in study.PAIRS.items():
            for other in others:
                each = zip(values[f"{name}.{key}"]["each"], values[f"{other}.{key}"]["each"], strict=True)
                found = values[f"{name}.minus {other}.{key}"]["each"]
                assert found == pytest.approx([a - b for a, b in each], abs=1e-12)


def test_the_shipped_majority_is_that_of_the_data() -> None:
    if not os.environ.get("GEOLESSONS_DATA"):
        pytest.skip("GEOLESSONS_DATA is not set: it names the folder with text/cola")
    values, y = record.read(RESULT), cola().y_dev
    assert set(values["dev.sentences"]["each"]) == {len(y)}
    assert values["majority.accuracy"]["mean"] == pytest.approx(float(y.double().mean()))

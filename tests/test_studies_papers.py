"""The studies on Flat-LoRA's own protocols: their numbers, and whole runs on tiny networks."""

from __future__ import annotations

import copy
import json
import math
import signal
import sys
import types
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import matthews_corrcoef
from torch import nn

from geolessons.noise import FlatNoise
from geolessons.schedules import cosine
from geolessons.studies import flat_lora_clip, flat_lora_t5, flat_runs, flat_tiny, flat_training
from geolessons.studies.flat_arms import arm
from geolessons.studies.flat_protocol import Task, arms_of
from geolessons.studies.flat_training import build, confusion, scores, train
from geolessons.studies.running import Machine, rates

transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

CPU = Machine(cpu=True)
KINDS = ("full", "r8.0", "r4.0.5", "pissa.0.5", "dora.0.5", "ga.0.5")
# section, data: epochs, learning rate, of all weights, weight decay, σ; the paper's, version 1
PAPER = {
    "mnli": (1, 5e-4, 1e-4, 0.1, 0.05),
    "sst2": (10, 5e-4, 1e-4, 0.1, 0.05),
    "cola": (10, 5e-4, 1e-4, 0.1, 0.05),
    "qnli": (1, 5e-4, 1e-4, 0.1, 0.05),
    "mrpc": (10, 5e-4, 1e-4, 0.1, 0.05),
    "cifar10": (10, 5e-4, 1e-5, 0.1, 0.15),
    "cifar100": (10, 5e-4, 1e-5, 0.1, 0.15),
    "cars": (10, 5e-4, 1e-5, 0.1, 0.15),
    "svhn": (10, 5e-4, 1e-5, 0.1, 0.15),
    "dtd": (10, 5e-4, 1e-5, 0.1, 0.15),
}


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def text() -> Task:
    return flat_lora_t5._tiny("mnli")


@pytest.fixture(scope="module")
def image() -> Task:
    return flat_lora_clip._tiny()


def quick(study: types.ModuleType, data: str, **changes: Any) -> Any:
    return replace(study.protocol(data, "paper"), **{"epochs": 2, "lr": 1e-2, "full_lr": 1e-2} | changes)


def without_time(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if not key.endswith("step ms")}


# --- the protocol


@pytest.mark.parametrize("data", PAPER)
def test_the_numbers_are_the_papers(data: str) -> None:
    study = flat_lora_t5 if data in flat_lora_t5.GLUE else flat_lora_clip
    p = study.protocol(data, "paper")
    assert (p.epochs, p.lr, p.full_lr, p.weight_decay, p.sigma) == PAPER[data]
    assert (p.alpha, p.own_draws) == (16, False)
    for rank in (8, 16):
        assert {f"r{rank}.0", f"r{rank}.{p.sigma:g}", "full"} <= set(study.arms(data))
    assert len(study.PRINTED[data].split(", ")) == len(study.arms(data))


def test_the_data_sets_are_the_papers() -> None:
    assert {*flat_lora_t5.GLUE, *flat_lora_clip.DATA} == set(PAPER)
    others = {data for data in flat_lora_t5.GLUE if "ga.0.05" in flat_lora_t5.arms(data)}
    assert others == {"cola", "mrpc"}  # those of Table 3


def test_the_other_reading_has_the_published_codes_numbers() -> None:
    for data in flat_lora_t5.GLUE:
        p = flat_lora_t5.protocol(data, "code")
        assert (p.epochs, p.lr, p.weight_decay, p.warmup, p.batch) == (1, 1e-4, 0.0, 0.03, 32)
        assert p.own_draws
    theirs, ours = (asdict(flat_lora_clip.protocol("dtd", reading)) for reading in ("code", "paper"))
    assert {key for key in ours if ours[key] != theirs[key]} == {"weight_decay", "own_draws"}
    for study in (flat_lora_t5, flat_lora_clip):
        with pytest.raises(ValueError, match="reading='both'"):
            study.protocol("dtd", "both")


@pytest.mark.parametrize("study", [flat_lora_t5, flat_lora_clip])
def test_options_start_at_the_paper(study: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(study, "main", lambda *a: seen.append(a))
    study.study([])
    study.study(["--reading", "code"])
    (_, options, protocol, arms, _, printed), (_, _, other, _, _, _) = seen
    assert (options.seeds, options.reading, options.epochs, options.batch) == (3, "paper", None, None)
    assert (options.accumulate, options.precision, options.tiny, options.offline) == (1, "no", False, False)
    assert protocol == study.protocol(options.data, "paper")
    assert other == study.protocol(options.data, "code") != protocol
    assert tuple(printed) == arms == study.arms(options.data)
    assert options.model in ("google-t5/t5-base", "openai/clip-vit-base-patch32")


@pytest.mark.parametrize("study", [flat_lora_t5, flat_lora_clip])
def test_help_says_what_a_reading_is(study: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        study.study(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for words in (
        "Chapter 3.",
        "accelerate launch",
        "paper the numbers of the paper",
        "code where the",
    ):
        assert words in shown, words
    with pytest.raises(SystemExit, match="2"):
        study.study(["--reading", "both"])
    assert "choose from" in capsys.readouterr().err


def test_what_the_paper_prints_agrees_with_its_averages() -> None:
    """Of Tables 1 and 2, whose average 86.92 for LoRA of rank 16 should be 86.96; and Table 3's cells."""
    value = {
        (data, name): float(cell.split()[0])
        for study in (flat_lora_t5, flat_lora_clip)
        for data, cells in study.PRINTED.items()
        for name, cell in zip(study.arms(data), cells.split(", "), strict=True)
    }
    for data, sigma, printed in (
        (flat_lora_t5.GLUE, 0.05, [89.10, 89.00, 89.38, 89.15, 89.71]),
        (flat_lora_clip.DATA, 0.15, [86.92, 86.64, 87.20, 86.96, 87.66]),
    ):
        averages = [sum(value[d, a] for d in data) / 5 for a in arms_of(sigma, others=False)]
        assert averages == pytest.approx(printed, abs=0.0101)
    table = {"pissa": (82.44, 83.35), "dora": (83.16, 83.56), "ga": (81.83, 82.23)}
    assert {k: (value["cola", f"{k}.0"], value["cola", f"{k}.0.05"]) for k in table} == table


def test_the_rate_rises_and_falls_as_in_transformers() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    for N in (1, 7, 40, 230):
        optimiser = torch.optim.SGD([parameter], lr=1.0)
        theirs = transformers.get_cosine_schedule_with_warmup(optimiser, math.ceil(0.03 * N), N)
        ours = rates(N, 0.03)
        for i in range(N):
            assert ours(i) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12), (N, i)
            optimiser.step()
            theirs.step()


def test_scores() -> None:
    g = torch.Generator().manual_seed(0)
    for classes in (2, 3):
        true, taken = torch.randint(classes, (2, 50), generator=g)
        counts = torch.bincount(true * classes + taken, minlength=classes**2).view(classes, classes)
        found = scores(counts, matthews=classes == 2)
        assert found["accuracy"] == pytest.approx(100 * float((true == taken).double().mean()))
        assert found.get("matthews", 0) == pytest.approx(
            matthews_corrcoef(true, taken) if classes == 2 else 0
        )


# --- arms


@pytest.mark.parametrize("name", KINDS)
def test_an_arm_starts_at_the_network_and_trains_what_it_says(name: str, text: Task, image: Task) -> None:
    for task, study, data in ((text, flat_lora_t5, "mnli"), (image, flat_lora_clip, "dtd")):
        state, before = torch.get_rng_state(), copy.deepcopy(task.model.state_dict())
        model = build(task, study.protocol(data, "paper"), name, 0).eval()
        batch = task.collate([task.test[i] for i in range(4)])
        with torch.no_grad():
            torch.testing.assert_close(
                task.logits(model, batch), task.logits(task.model.eval(), batch), rtol=1e-4, atol=1e-4
            )
        trained = {key for key, p in model.named_parameters() if p.requires_grad}
        if name == "full":
            assert trained == dict(task.model.named_parameters()).keys()
        else:
            layers = {key.split("model.", 2)[-1].split(".lora_")[0] for key in trained}
            assert layers == set(task.layers)
            assert all("lora_" in key for key in trained)
            ranks = {p.shape[0] for key, p in model.named_parameters() if "lora_A" in key}
            assert ranks == {arm(name).rank}
        for key, W in task.model.state_dict().items():
            assert torch.equal(W, before[key]), key
        assert torch.equal(torch.get_rng_state(), state)


def test_adapters_sit_on_all_linear_layers_but_the_output(text: Task, image: Task) -> None:
    found = {name.rsplit(".", 1)[-1] for name in text.layers}
    assert found == {"q", "k", "v", "o", "wi", "wo"}
    found = {name.rsplit(".", 1)[-1] for name in image.layers}
    assert found == {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2", "visual_projection"}
    assert not [key for key, _ in image.model.named_parameters() if "head" in key or "text" in key]


def test_arms_that_are_none_are_refused(text: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    p = flat_lora_t5.protocol("mnli", "paper")
    with pytest.raises(ValueError, match="have no SAM"):
        build(text, p, "sam full", 0)
    with pytest.raises(ValueError, match="is no arm"):
        build(text, p, "lora", 0)
    monkeypatch.delattr("peft.LoraGAConfig")
    with pytest.raises(ValueError, match=r"arm 'ga\.0' needs a newer PEFT"):
        build(text, p, "ga.0", 0)
    assert flat_runs.compared_with("full") == flat_runs.compared_with("r16.0") == "r8.0"
    assert flat_runs.compared_with("r16.0.05") == "r16.0"


@pytest.mark.parametrize("name", ["full", "r8.0", "dora.0.05"])
def test_a_run_gets_the_protocols_numbers(name: str, text: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def fit(model: nn.Module, loss: Any, loader: Any, optimiser: Any, **options: Any) -> Any:
        seen.update(options, loader=loader, optimiser=optimiser, model=model)
        raise Killed

    monkeypatch.setattr(flat_training, "fit", fit)
    p = flat_lora_t5.protocol("mnli", "paper")
    with pytest.raises(Killed):
        train(text, p, name, 0, machine=replace(CPU, accumulate=2))
    assert (seen["epochs"], seen["clip"], seen["accumulate"], seen["seed"]) == (p.epochs, 1.0, 2, 0)
    assert seen["loader"].batch_size == 16
    optimiser = seen["optimiser"]
    assert isinstance(optimiser, torch.optim.AdamW)
    for group in optimiser.param_groups:
        assert group["initial_lr"] == (1e-4 if name == "full" else 5e-4)
        assert {W.dim() > 1 for W in group["params"]} == {group["weight_decay"] == 0.1}
        assert group["weight_decay"] in (0.0, 0.1)
    held = {id(W) for group in optimiser.param_groups for W in group["params"]}
    assert held == {id(W) for W in seen["model"].parameters() if W.requires_grad}
    assert (seen["on_step"] is None) == (name != "dora.0.05")


def test_processes_share_a_draw_or_have_their_own(text: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geolessons.noise._rank", lambda: 3)
    for own, rank in ((False, 0), (True, 3)):
        held: Any = flat_training.noise(text.model, 0.5, seed=1, own_draws=own)(2, 4)
        assert held.key == (1, 2, 0, rank)
        assert held.sigma == pytest.approx(0.5 * (1 - math.cos(math.pi / 4)) / 2)


@pytest.mark.parametrize("kind", ["r4", "pissa", "dora", "ga"])
def test_flat_without_strength_is_the_arm_without_noise(kind: str, image: Task) -> None:
    """At σ = 1e-30 all of the noise's code runs, and W + ε rounds to W."""
    p = quick(flat_lora_clip, "dtd")
    plain, flat, noisy = (train(image, p, f"{kind}.{s}", 0, machine=CPU) for s in ("0", "1e-30", "0.5"))
    assert flat["train loss"] == pytest.approx(plain["train loss"], abs=1e-5)
    assert flat["accuracy by epoch"] == plain["accuracy by epoch"]
    assert abs(noisy["train loss"] - plain["train loss"]) > 1e-3  # type: ignore[operator]


def watched(task: Task) -> tuple[Task, list[Any], list[bool]]:
    """The task; the noise's (seed, largest deviation) of each training pass; was there any in tests."""
    passes: list[Any] = []
    tests: list[bool] = []

    def parts(model: nn.Module) -> list[tuple[int, float]]:
        held = [vars(m) for m in model.modules() if "_noise_seed" in vars(m)]
        return [(int(h["_noise_seed"]), float(h["_noise_std"].max())) for h in held]

    def loss(model: nn.Module, batch: Any) -> Any:
        passes.append(parts(model))
        return task.loss(model, batch)

    def logits(model: nn.Module, batch: Any) -> Any:
        tests.append(bool(parts(model)))
        return task.logits(model, batch)

    return replace(task, loss=loss, logits=logits), passes, tests


def test_noise_grows_from_zero_once_a_step_and_is_off_in_evaluation(text: Task) -> None:
    task, passes, tests = watched(text)
    p = quick(flat_lora_t5, "mnli", batch=16)
    train(task, p, "r8.0.5", 3, machine=replace(CPU, accumulate=4))
    assert len(passes) == 2 * 4 * 4  # epochs, steps, batches of a step
    steps = [passes[i : i + 4] for i in range(0, len(passes), 4)]
    assert all(len(step[0]) == len(text.layers) and step == 4 * [step[0]] for step in steps)
    seeds = [seed for step in steps for seed, _ in step[0]]
    assert len(set(seeds)) == len(seeds)  # a draw of its own for each step and layer
    assert all(std == 0 for _, std in steps[0][0])
    strongest = [max(std for _, std in step[0]) for step in steps]
    expected = [cosine(i, 8) / cosine(7, 8) for i in range(8)]
    assert [s / strongest[-1] for s in strongest] == pytest.approx(expected, rel=0.05)  # W moves a little
    assert tests
    assert not any(tests)
    model = build(text, p, "r8.0.5", 3)
    with FlatNoise(model, 0.5 * cosine(0, 8), seed=3, step=1):
        assert [seed for seed, _ in steps[0][0]] == [
            int(vars(m)["_noise_seed"]) for m in model.modules() if "_noise_seed" in vars(m)
        ]


def test_accumulated_batches_give_the_whole_batchs_step(image: Task) -> None:
    p = quick(flat_lora_clip, "dtd")
    one, four = (train(image, p, "r8.0.15", 0, machine=replace(CPU, accumulate=n)) for n in (1, 4))
    assert four["train loss"] == pytest.approx(one["train loss"], abs=1e-3)


def test_a_batch_that_does_not_divide_is_refused(image: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    p = quick(flat_lora_clip, "dtd")
    with pytest.raises(ValueError, match="batch=128 does not divide among 1 processes that accumulate 3"):
        train(image, p, "full", 0, machine=replace(CPU, accumulate=3))
    monkeypatch.setenv("WORLD_SIZE", "5")
    with pytest.raises(ValueError, match="among 5 processes"):
        train(image, p, "full", 0, machine=CPU)


def test_processes_share_the_evaluation(image: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = confusion(image.model, image)
    assert whole.sum(1).tolist() == [sum(int(label) == c for _, label in image.test) for c in range(3)]
    sent = []
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda counts: sent.append(counts.clone()))
    for rank in "012":
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", "3")
        confusion(image.model, image, batch=7)
    assert [int(counts.sum()) for counts in sent] == [20, 20, 20]
    assert torch.equal(sum(sent).view(3, 3), whole)  # type: ignore[union-attr]


def test_what_can_be_learned_is_learned(image: Task) -> None:
    found = train(image, quick(flat_lora_clip, "dtd", epochs=4), "r8.0.15", 0, machine=CPU)
    assert found["accuracy"] > 90  # type: ignore[operator]
    task = flat_lora_t5._tiny("cola", examples=256)
    found = train(task, quick(flat_lora_t5, "cola", epochs=6, full_lr=3e-2), "full", 0, machine=CPU)
    assert found["accuracy"] > 90  # type: ignore[operator]
    assert found["matthews"] > 0.8  # type: ignore[operator]


# --- what the networks read and answer


@pytest.mark.parametrize("data", flat_lora_t5.GLUE)
def test_text_is_read_as_the_published_code_has_it(data: str) -> None:
    glue = flat_lora_t5.GLUE[data]
    columns = flat_tiny.sentences(glue.columns, len(glue.words), 5, 0)
    texts = [text for column in glue.columns for text in columns[column]]
    tokenizer = flat_tiny.word_tokenizer([*texts, *glue.words, glue.prompt, "result:"])
    tokens, label = flat_lora_t5.encoded(tokenizer, data, columns)[3]
    words = [glue.prompt, *(columns[column][3] for column in glue.columns), "result: </s>"]
    assert tokenizer.decode(tokens).split() == " ".join(words).split()
    assert label == columns["label"][3]
    task = flat_lora_t5._tiny(data)
    batch = task.collate([task.train[i] for i in range(6)])
    first = task.train[2]
    assert batch["input_ids"][2][batch["attention_mask"][2] == 1].tolist() == first[0]
    assert batch["labels"].shape == (6, 2)  # a word and the end
    assert task.classes == len(glue.words)
    assert task.matthews == (data == "cola")


def test_long_texts_are_cut_and_short_ones_padded() -> None:
    tokenizer = flat_tiny.word_tokenizer(["a", "result:", flat_lora_t5.GLUE["cola"].prompt])
    found = flat_lora_t5.encoded(tokenizer, "cola", {"sentence": ["a " * 300, "a"], "label": [0, 1]})
    assert [len(tokens) for tokens in found.tokens] == [128, 9]
    collate = flat_lora_t5.Collate([[5, 1], [6, 7, 1]], pad=0)
    batch = collate([found[0], found[1]])
    assert batch["input_ids"].shape == (2, 128)
    assert batch["attention_mask"].sum(1).tolist() == [128, 9]
    assert batch["labels"].tolist() == [[5, 1, -100], [6, 7, 1]]


def test_the_answer_is_the_label_word_of_the_largest_logit(text: Task) -> None:
    """Against `generate` with all other words forbidden."""
    model: Any = text.model.eval()
    batch = text.collate([text.test[i] for i in range(12)])
    words = [text.collate([([0], label)])["labels"][0, 0].item() for label in range(3)]
    with torch.no_grad():
        logits = text.logits(model, batch)
        written = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=1,
            prefix_allowed_tokens_fn=lambda _, tokens: words,
        )[:, -1]
    assert logits.shape == (12, 3)
    assert [words[i] for i in logits.argmax(1)] == written.tolist()
    assert len(set(written.tolist())) > 1


def test_label_words_that_begin_alike_are_refused(text: Task) -> None:
    tokenizer = flat_tiny.word_tokenizer(["nothing"])  # all label words are unknown
    columns = flat_tiny.sentences(("premise", "hypothesis"), 3, 4, 0)
    splits = {"train": columns, "validation_matched": columns}
    with pytest.raises(ValueError, match="with the same token"):
        flat_lora_t5.task_of(text.model, tokenizer, "mnli", splits, {})


def test_the_head_is_clips_own() -> None:
    """Logits of the classifier are those of CLIPModel for the same images and prompts."""
    names = ["polka_dot", "star"]
    prompts = ["a photo of a polka dot.", "a photo of a star."]
    tokenizer = flat_tiny.word_tokenizer(prompts)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config=size
        | {"vocab_size": 20, "max_position_embeddings": 16, "eos_token_id": 1, "pad_token_id": 0},
        vision_config=size | {"image_size": 16, "patch_size": 8},
        projection_dim=12,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = transformers.CLIPModel(config).eval()
    pair = flat_tiny.pictures(2, 5, 0), flat_tiny.pictures(2, 5, 1)
    task = flat_lora_clip.task_of(clip, tokenizer, names, pair, {})
    batch = task.collate([pair[1][i] for i in range(5)])
    with torch.no_grad():
        expected = clip(
            **tokenizer(prompts, padding=True, return_tensors="pt"), pixel_values=batch["pixel_values"]
        )
        torch.testing.assert_close(
            task.logits(task.model, batch), expected.logits_per_image, rtol=1e-5, atol=1e-5
        )
    assert batch["label"].tolist() == [int(pair[1][i][1]) for i in range(5)]


# --- whole studies


def whole(study: types.ModuleType, out: Path, *options: str) -> dict[str, Any]:
    study.study(["--cpu", "--seeds", "1", "--epochs", "2", "--out", str(out), *options])
    return json.loads(out.read_text(encoding="utf8"))


@pytest.mark.parametrize("study", [flat_lora_t5, flat_lora_clip])
def test_a_tiny_study_says_that_it_replicates_nothing(study: types.ModuleType, tmp_path: Path) -> None:
    found = whole(study, tmp_path / "x.json", "--tiny", "--arms", "full", "r8.0", "r8.0.5")
    assert "replicates nothing" in found["what"]
    assert found["printed"] == {}
    assert found["settings"]["weights"] == "random"
    assert found["protocol"]["epochs"] == 2
    values = found["values"]
    assert len(values["r8.0.accuracy by epoch"]["mean"]) == 2
    gain = values["r8.0.5.accuracy"]["mean"] - values["r8.0.accuracy"]["mean"]
    assert values["r8.0.5.minus r8.0.accuracy"]["mean"] == pytest.approx(gain)
    assert not list(tmp_path.glob("x.json?*"))


def test_a_stopped_study_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the second arm after its third step; dropout, noise, order and rate go on."""
    arms = ("--tiny", "--data", "cola", "--arms", "r8.0", "r8.0.5")
    undisturbed = whole(flat_lora_t5, tmp_path / "a.json", *arms)
    real, calls, dying = flat_lora_t5.task_of, [0], [7]

    def counted(*args: Any) -> Task:
        task = real(*args)

        def loss(model: nn.Module, batch: Any) -> Any:
            if calls[0] == dying[0]:
                raise Killed
            calls[0] += 1
            return task.loss(model, batch)

        return replace(task, loss=loss)

    monkeypatch.setattr(flat_lora_t5, "task_of", counted)
    monkeypatch.setattr(flat_training, "EVERY", 1)
    with pytest.raises(Killed):  # arms take four steps each
        whole(flat_lora_t5, tmp_path / "b.json", *arms)
    kept = {path.name for path in (tmp_path / "b.json.parts").glob("*/*")}
    assert kept == {"r8.0-0.json", "r8.0.5-0"}
    dying[0] = 99
    found = whole(flat_lora_t5, tmp_path / "b.json", *arms)
    assert calls[0] == 8  # no step was taken twice
    for key, value in without_time(undisturbed["values"]).items():
        assert found["values"][key]["mean"] == pytest.approx(value["mean"], abs=1e-5), key
    assert not (tmp_path / "b.json.parts").exists()


def test_ctrl_c_ends_a_study_at_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = flat_lora_clip.task_of, [0]

    def interrupted(*args: Any) -> Task:
        task = real(*args)

        def loss(model: nn.Module, batch: Any) -> Any:
            calls[0] += 1
            if calls[0] == 2:
                signal.raise_signal(signal.SIGINT)
            return task.loss(model, batch)

        return replace(task, loss=loss)

    monkeypatch.setattr(flat_lora_clip, "task_of", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit, match=r"stopped\..*the same command goes on"):
            whole(flat_lora_clip, tmp_path / "x.json", "--tiny", "--arms", "full")
    finally:
        signal.signal(signal.SIGINT, before)
    assert [path.parent.name for path in tmp_path.rglob("complete.json")] == ["step-00000002"]
    found = whole(flat_lora_clip, tmp_path / "x.json", "--tiny", "--arms", "full")
    assert calls[0] == 2 * 3
    assert found["values"]["full.accuracy by epoch"]["n"] == 1


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: Task) -> Path:
    """A T5 and its tokeniser as save_pretrained writes them; a package datasets that has made-up MNLI."""
    glue = flat_lora_t5.GLUE["mnli"]
    splits = {
        name: flat_tiny.sentences(glue.columns, 3, 32, i) for i, name in enumerate(("train", glue.test))
    }
    texts = [t for split in splits.values() for column in glue.columns for t in split[column]]
    flat_tiny.word_tokenizer([*texts, *glue.words, glue.prompt, "result:"]).save_pretrained(
        tmp_path / "words"
    )
    text.model.save_pretrained(tmp_path / "t5")  # type: ignore[operator]
    package = types.ModuleType("datasets")
    asked: list[str] = []

    def load_from_disk(folder: str) -> Any:
        asked.append(folder)
        return splits

    package.load_from_disk, package.asked = load_from_disk, asked  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", package)
    return tmp_path


def test_weights_and_data_are_read_from_folders(folders: Path) -> None:
    places = ["--model", f"{folders}/t5", "--tokenizer", f"{folders}/words", "--glue", "here", "--offline"]
    found = whole(flat_lora_t5, folders / "x.json", "--data", "mnli", "--arms", "r8.0.05", *places)
    assert sys.modules["datasets"].asked == ["here/mnli"]
    assert found["what"] == (
        f"replication: model {folders}/t5, the protocol's is google-t5/t5-base; epochs 2, the protocol's is 1"
    )
    assert found["printed"] == {"r8.0.05": "86.20 .04"}
    assert found["settings"]["examples"] == "[32, 32]"


def test_what_is_missing_is_said(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--tokenizer", f"{folders}/words", "--offline"]
    for study in (flat_lora_t5, flat_lora_clip):
        with pytest.raises(SystemExit, match=r"--model /nowhere cannot be loaded(.|\n)*--tiny runs without"):
            study.study(["--model", "/nowhere", "--offline"])

    def fail(*_: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(sys.modules["datasets"], "load_dataset", fail, raising=False)
    with pytest.raises(SystemExit, match=r"mrpc cannot be read: ConnectionError(.|\n)*save_to_disk"):
        flat_lora_t5.study(["--model", f"{folders}/t5", *words[:2]])
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(SystemExit, match=r"needs the package datasets: pip install"):
        flat_lora_t5.study(["--model", f"{folders}/t5", *words])
    for wrong, message in (
        (["--batch", "0"], "--batch 0 must be"),
        (["--seeds", "0"], "seeds=0 must be at least 1"),
        (["--arms", "r8.0", "r8.0"], "twice"),
        (["--arms", "r8.0", "sam full"], "have no SAM"),
    ):
        with pytest.raises(SystemExit, match=message):
            flat_lora_t5.study(["--tiny", *wrong])


@pytest.mark.parametrize("data", flat_lora_clip.DATA)
def test_images_that_are_not_there(data: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"--data {data} cannot be read(.|\n)*torchvision's"):
        flat_lora_clip.images(data, tmp_path, 16, download=False)


def test_images_are_read_and_made_ready(tmp_path: Path) -> None:
    from PIL import Image

    for name, grey in (("dotted", 255), ("lined", 0)):
        (tmp_path / "dtd" / "dtd" / "images" / name).mkdir(parents=True)
        for i in range(3):
            picture = Image.new("RGB", (40, 30), (grey, grey, grey))
            picture.save(tmp_path / "dtd" / "dtd" / "images" / name / f"{i}.png")
    (tmp_path / "dtd" / "dtd" / "labels").mkdir()
    for i, split in enumerate(("train", "val", "test")):
        lines = f"dotted/{i}.png\nlined/{i}.png\n"
        (tmp_path / "dtd" / "dtd" / "labels" / f"{split}1.txt").write_text(lines)
    names, (training, test) = flat_lora_clip.images("dtd", tmp_path, 16, download=False)
    assert names == ["dotted", "lined"]
    assert (len(training), len(test)) == (4, 2)
    picture, label = test[0]
    assert picture.shape == (3, 16, 16)
    white = [(1 - m) / s for m, s in zip(flat_lora_clip.MEAN, flat_lora_clip.STD, strict=True)]
    assert picture[:, 8, 8].tolist() == pytest.approx(white, abs=1e-5)
    assert label == 0


def test_classes_are_named_in_a_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of SVHN by CLIP's own prompt for numbers; the images have the size that the network takes."""
    seen: list[Any] = []
    clip = types.SimpleNamespace(
        config=types.SimpleNamespace(vision_config=types.SimpleNamespace(image_size=7))
    )
    monkeypatch.setattr(flat_lora_clip, "pretrained", lambda *_: (clip, None))
    monkeypatch.setattr(flat_lora_clip, "images", lambda *a, **k: (seen.append((*a, k)), (["x"], None))[1])
    monkeypatch.setattr(flat_lora_clip, "task_of", lambda *_, prompt: prompt.format("7"))
    monkeypatch.setattr(flat_lora_clip, "main", lambda *a: seen.append(a[4]()))
    flat_lora_clip.study(["--data", "svhn", "--offline"])
    flat_lora_clip.study(["--data", "dtd", "--images", "there"])
    (*svhn, a), numbers, (*dtd, b), things = seen
    assert (svhn, a, dtd, b) == (
        ["svhn", "data", 7],
        {"download": False},
        ["dtd", "there", 7],
        {"download": True},
    )
    assert (numbers, things) == ('a photo of the number: "7".', "a photo of a 7.")

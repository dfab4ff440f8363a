"""The multi-task study: its numbers, its methods at the start, whole runs on a few pictures."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pascal_files
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader

from geolessons.data.dense import Dense
from geolessons.data.dense_transforms import normalise
from geolessons.models.multitask import MultiTask, swin
from geolessons.studies.multitask import backbone as backbones
from geolessons.studies.multitask import roads, seeds
from geolessons.studies.multitask.__main__ import main
from geolessons.studies.multitask.effect import PLACES, SCALES, changes
from geolessons.studies.multitask.methods import METHODS, moved, ready, trainings
from geolessons.studies.multitask.pictures import pictures
from geolessons.studies.multitask.protocol import PROTOCOLS
from geolessons.studies.multitask.training import (
    WARMUP,
    fresh,
    grade,
    kept_by_step,
    kept_bytes,
    train,
    without_a_say,
)
from geolessons.studies.running import Machine, processes, rates, steps_an_epoch

FEW = replace(PROTOCOLS["scenes"], train=16, val=8, size=32, batch=8, epochs=1)
TASKS = ("semseg", "human_parts", "saliency", "normals")
LITTLE = {"scenes": 32, "batch": 16, "size": 32}


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """A Swin as small as can be, its norms away from 1 and 0 as in a trained one."""
    g = torch.Generator().manual_seed(0)
    made = swin(g, width=8, depths=(1, 1, 1, 1), heads=(1, 1, 1, 1), classes=7)
    with torch.no_grad():
        for name, p in made.named_parameters():
            if "norm" in name:
                p += 0.3 * torch.randn(p.shape, generator=g)
    return made.eval()


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A place for a backbone, which is pre-trained on next to nothing."""
    for key, value in LITTLE.items():
        monkeypatch.setitem(backbones.PRETRAINING, key, value)
    seeds._prepared.cache_clear()
    return tmp_path / "backbone.safetensors"


# ------------------------------------------------------------------------------------------- its numbers


def test_pascal_has_the_benchmarks_numbers() -> None:
    p = PROTOCOLS["pascal"]
    assert (p.epochs, p.batch, p.size, p.clip, p.weight_decay) == (300, 32, 448, 5.0, 0.05)
    assert p.lr == p.full_lr == pytest.approx(3.125e-5)
    assert (p.train, p.val, p.narrow, p.network) == (None, None, 1, "swin_tiny")


@pytest.mark.parametrize(("drop_last", "steps"), [(True, 3), (False, 4)])
def test_steps_of_an_epoch_are_those_that_a_process_takes(
    monkeypatch: pytest.MonkeyPatch, drop_last: bool, steps: int
) -> None:
    """29 pictures in batches of 2 for four processes: 14 or 15 batches, of which each gets 3 or 4."""
    monkeypatch.setenv("WORLD_SIZE", "4")
    loader = DataLoader(torch.zeros(29, 1), 2, drop_last=drop_last)  # type: ignore[arg-type]
    assert steps_an_epoch(loader, Machine()) == steps
    assert steps_an_epoch(loader, Machine(accumulate=2)) == 2


def test_a_number_without_others_is_that_of_the_only_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert processes() == (0, 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert processes() == (1, 2)


def test_rates_rise_for_a_fifteenth_and_fall_to_a_hundredth() -> None:
    rate = rates(300, WARMUP, start=1e-3, end=1e-2)
    assert rate(0) == pytest.approx(1e-3)
    assert rate(20) == 1.0
    assert rate(300) == pytest.approx(1e-2)
    found = [rate(i) for i in range(301)]
    assert all(a < b for a, b in pairwise(found[:21]))
    assert all(a > b for a, b in pairwise(found[20:]))
    assert rate(160) == pytest.approx((1 + 1e-2) / 2)


def test_all_methods_share_the_rank() -> None:
    """Equal size is what makes the comparison fair: each field has as many numbers as LoRA."""
    sizes = {}
    for method in ("lora", "literal", "centred", "normalised", "normalised-4"):
        g = torch.Generator().manual_seed(0)
        model = MultiTask(swin(g, width=8, depths=(1, 1, 1, 1), heads=(1, 1, 1, 1)), g, narrow=18)
        answers = ready(model, method, 2, TASKS, g)
        sizes[method] = sum(p.numel() for p in answers.parameters() if p.requires_grad)
    assert len(set(sizes.values())) == 1


# ------------------------------------------------------------------------------------------ its methods


@pytest.mark.parametrize("method", METHODS)
def test_where_a_method_starts(method: str, net: nn.Module) -> None:
    """All but the literal field start at the pre-trained network."""
    seen = pictures(FEW)
    image = normalise(next(seen.graded()).image)
    tasks = trainings(method, TASKS)[0]
    model = fresh(net, seen, FEW, 0)
    with torch.no_grad():
        before = model.eval()(image)
        answers = ready(model, method, 2, tasks, torch.Generator().manual_seed(0)).eval()
        after = answers(image)
    assert tuple(after) == tasks
    apart = max(float((after[t] - before[t]).norm() / before[t].norm()) for t in tasks)
    if method == "literal":
        assert apart > 1e-3
    else:
        assert apart < 1e-5


def test_a_method_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="--method dora is unknown; it is one of single, full, lora"):
        trainings("dora", TASKS)


def test_eight_pictures_can_be_learned_by_heart() -> None:
    """A network that cannot overfit a few pictures has a fault in it: labels, losses or metrics."""
    g = torch.Generator().manual_seed(0)
    start = swin(g, width=16, depths=(1, 1, 1, 1), heads=(1, 1, 2, 2), classes=7)
    eight = replace(FEW, train=8, val=8, epochs=150, full_lr=3e-3, narrow=3)
    seen = pictures(eight)
    train_on = Dense(*next(iter(seen.loader(8, g))))
    seen.graded = lambda: iter([train_on])  # graded on what it learns
    few = train(start, seen, replace(eight, epochs=2), "full", 0, machine=Machine(cpu=True))[0]
    found = train(start, seen, eight, "full", 0, machine=Machine(cpu=True))[0]
    for task in ("semseg", "human_parts", "saliency"):
        assert float(found[f"{task}.mIoU"]) > max(60, 1.5 * float(few[f"{task}.mIoU"])), task  # type: ignore[arg-type]
    assert float(found["normals.mean angle"]) < min(12, 0.5 * float(few["normals.mean angle"]))  # type: ignore[arg-type]


def test_what_a_step_keeps_is_counted_and_nothing_is_moved(net: nn.Module) -> None:
    seen = pictures(FEW)
    model = fresh(net, seen, FEW, 0)
    before = copy.deepcopy(model.state_dict())
    state = torch.random.get_rng_state()
    four, eight = (
        kept_bytes(model, next(iter(seen.loader(n, torch.Generator().manual_seed(0))))) for n in (4, 8)
    )
    assert 1.9 * four < eight < 2.1 * four
    assert all(torch.equal(w, before[name]) for name, w in model.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("method", ["full", "lora", "normalised-4"])
def test_what_a_batch_keeps_follows_from_four_pictures(net: nn.Module, method: str) -> None:
    """Weights that are formed anew are kept once, however many pictures there are."""
    seen = pictures(FEW)
    (tasks,) = trainings(method, seen.outputs)
    answers = ready(fresh(net, seen, FEW, 0), method, 4, tasks, torch.Generator().manual_seed(0))
    four, eight = (next(iter(seen.loader(n, torch.Generator().manual_seed(0)))) for n in (4, 8))
    assert kept_by_step(answers, four, 8) == pytest.approx(kept_bytes(answers, eight), rel=1e-6)
    if method == "normalised-4":
        assert 2 * kept_bytes(answers, four) > 1.01 * kept_bytes(answers, eight)


def test_only_mtloras_last_shared_adapter_has_no_say(net: nn.Module) -> None:
    seen = pictures(FEW)
    batch = next(iter(seen.loader(4, torch.Generator().manual_seed(0))))
    for method in METHODS:
        tasks = trainings(method, TASKS)[0]
        answers = ready(fresh(net, seen, FEW, 0), method, 2, tasks, torch.Generator().manual_seed(0))
        names = {id(p): name for name, p in answers.named_parameters()}
        idle = [names[id(p)] for p in without_a_say(answers, batch)]
        end = "model.features.7.0.mlp.3.adapter"
        assert idle == ([f"{end}.A", f"{end}.B"] if method == "mtlora" else []), method


# -------------------------------------------------------------------------------------------- its roads


@pytest.mark.parametrize("method", roads.ON_THE_ROAD)
def test_a_road_ends_at_the_adapted_network(method: str, net: nn.Module) -> None:
    seen = pictures(FEW)
    answers: Any = train(net, seen, FEW, method, 0, machine=Machine(cpu=True))[1][0]
    image = normalise(next(seen.graded()).image)
    plain = roads.plain(answers, net, seen, FEW)
    with torch.no_grad():
        untouched, end = plain(image), answers(image)
        road = {t: there(image) for t, there in roads.along(plain, moved(answers.model))}
    assert tuple(road) == pytest.approx([i / 10 for i in range(11)])
    for task in TASKS:
        torch.testing.assert_close(road[1.0][task], end[task], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(road[0.0][task], untouched[task], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(road[0.0]["normals"], road[1.0]["normals"], atol=1e-3)


def test_bytes_to_look_at() -> None:
    up = torch.tensor([0.0, 7.0, 0.0]).reshape(1, 3, 1, 1)
    assert roads.bytes_of("normals", up).flatten().tolist() == [128, 255, 128]
    assert roads.bytes_of("saliency", torch.zeros(1, 1, 1, 1)).flatten().tolist() == [128]
    assert roads.bytes_of("semseg", torch.tensor([0.0, 2.0, 1.0]).reshape(1, 3, 1, 1)).flatten().tolist() == [
        1
    ]


# -------------------------------------------------------------------------------- what the field does


def test_the_uniform_field_vanishes_behind_a_plain_norm(net: nn.Module) -> None:
    image = next(pictures(FEW).graded()).image
    found = changes(net, image, 0)
    assert set(found) == set(PLACES)
    assert SCALES[0] == 0
    assert found["plain norm"][0] < 1e-3
    assert found["norm"][0] > 10 * found["plain norm"][0]
    assert all(a < b for a, b in pairwise(found["plain norm"]))
    assert changes(net, image, 0) == found
    assert not any(module._forward_hooks for module in net.modules())


# -------------------------------------------------------------------------------------- put together


def test_differences_by_hand() -> None:
    lora = {"semseg.mIoU": 44.0, "normals.mean angle": 22.0, "normals.rmse": 30.0}
    single = {"semseg.mIoU": 40.0, "normals.mean angle": 20.0, "normals.rmse": 25.0}
    road: Any = {"road.semseg.mIoU": [20.0, 44.0], "road.normals.mean angle": [40.0, 22.0]}
    found = seeds.differences({"single": {**single}, "lora": {**lora, **road}}, ("semseg", "normals"))
    assert found["lora.delta_m"] == pytest.approx(0.0)  # + 10 %, - 10 %
    assert found["single.delta_m"] == 0.0
    assert found["lora.road.semseg.change"] == pytest.approx([-50.0, 10.0])
    assert found["lora.road.normals.change"] == pytest.approx([-100.0, -10.0])
    assert found["single.minus lora.semseg.mIoU"] == -4.0
    assert found["single.minus lora.normals.rmse"] == -5.0
    assert found["single.minus lora.delta_m"] == pytest.approx(0.0)


def test_a_backbone_is_trained_once_and_a_damaged_one_in_the_cache_is_made_anew(
    little: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = backbones.digest(backbones.small(little))
    made = little.stat().st_mtime_ns
    assert backbones.digest(backbones.small(little)) == first
    assert little.stat().st_mtime_ns == made
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cached = backbones.cache_folder() / "multitask-backbone.safetensors"
    cached.parent.mkdir()
    cached.write_bytes(little.read_bytes()[:1000])
    assert backbones.digest(backbones.small()) == first
    assert cached.read_bytes() == little.read_bytes()


@pytest.mark.parametrize("what", ["weights", "text", "folder", "damaged"])
def test_what_is_no_backbone_is_left_alone(little: Path, what: str) -> None:
    if what == "folder":
        little.mkdir()
    elif what == "text":
        little.write_bytes(b"a thesis")
    elif what == "damaged":
        backbones.small(little)
        little.write_bytes(little.read_bytes()[:1000])
    else:
        save_file({"w": torch.ones(3)}, little)
    before = None if what == "folder" else little.read_bytes()
    with pytest.raises(ValueError, match=r"is no backbone of this study: name another file"):
        backbones.small(little)
    assert little.is_dir() if what == "folder" else little.read_bytes() == before


def test_a_file_that_fits_in_part_leaves_nothing_in_the_new_backbone(little: Path) -> None:
    first = backbones.digest(backbones.small(little))
    found = load_file(little)
    wrong = {name: w if name == backbones.STAMP else torch.zeros_like(w) for name, w in found.items()}
    del wrong["head.bias"]
    save_file(wrong, little)
    assert backbones.digest(backbones.small(little)) == first


def test_grading_leaves_each_module_in_its_mode(net: nn.Module, little: Path) -> None:
    protocol = replace(PROTOCOLS["scenes"], size=32, train=8, val=8, batch=4)
    seen = pictures(protocol, None, 0)
    model = fresh(net, seen, protocol, 0)
    model.train()
    model.decoders["semseg"].eval()
    before = [m.training for m in model.modules()]
    grade(model, seen)
    assert [m.training for m in model.modules()] == before
    plain = model.eval()
    grade(roads._Moved(plain, {}), seen)
    assert not any(m.training for m in plain.modules())


def test_other_numbers_make_another_backbone(little: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = backbones.digest(backbones.small(little))
    monkeypatch.setitem(backbones.PRETRAINING, "lr", 1e-4)
    assert backbones.digest(backbones.small(little)) != first


def test_a_tiny_study(little: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole run; one that is stopped after a method goes on from there, and ends at the same values."""
    out = tmp_path / "found.json"
    options = ["--tiny", "--size", "32", "--seeds", "1", "--cpu", "--backbone", str(little)]
    options += ["--method", "single", "lora", "literal", "--out", str(out)]
    trained = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        trained.append(args[3])
        if len(trained) == 2:
            raise KeyboardInterrupt
        return train(*args, **kwargs)

    monkeypatch.setattr(seeds, "train", counted)
    with pytest.raises(SystemExit, match=r"stopped\.  .*\.parts keeps what is done"):
        main(options)
    assert not out.exists()
    main(options)
    assert trained == ["single", "lora", "lora", "literal"]
    result = json.loads(out.read_text(encoding="utf8"))
    assert result["what"] == seeds.NO_REPLICATION
    assert result["methods"] == ["single", "lora", "literal"]
    assert result["settings"]["protocol's train"] == "16"
    assert {"single.delta_m", "literal.minus lora.delta_m", "literal.road.normals.change"} <= set(
        result["values"]
    )
    assert len(result["values"]["lora.road.semseg.mIoU"]["mean"]) == 11
    with np.load(out.with_suffix(".npz")) as kept:
        assert kept["lora.normals"].shape == (11, roads.SHOWN, 3, 32, 32)
        assert kept["single.semseg"].shape == (1, roads.SHOWN, 32, 32)
        assert kept["truth.image"].shape == (roads.SHOWN, 3, 32, 32)
    assert not list(tmp_path.glob("*.parts"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--method", "dora"], "--method dora is unknown"),
        (["--method", "lora", "lora"], "names one twice"),
        (["--epochs", "0"], "--epochs 0 must be positive"),
        (["--weights", "IMAGENET1K_V1"], "is for pascal"),
        (["--seeds", "0"], "--seeds 0 must be positive"),
        (["--accumulate", "0"], "--accumulate 0 must be positive"),
        (["--lr", "inf"], "--lr inf must be positive, and finite"),
        (["--lr", "nan"], "--lr nan must be positive, and finite"),
        (["--root", "nowhere"], "--root nowhere is for photographs"),
        (["--accumulate", "3"], "batch=8 does not divide among 1 processes"),
        (["--out", "found.npz"], "found.npz is for the JSON file"),
    ],
)
def test_options_that_are_none_are_refused(options: list[str], says: str, little: Path) -> None:
    with pytest.raises(SystemExit, match=says):
        main(["--tiny", "--size", "32", "--cpu", "--backbone", str(little), *options])


def test_a_backbone_is_not_for_swin_tiny(little: Path) -> None:
    with pytest.raises(SystemExit, match=r"--backbone .* is of the small Swin; pascal has --weights"):
        main(["--tiny", "--data", "pascal", "--root", "nowhere", "--backbone", str(little)])
    with pytest.raises(SystemExit, match="--root is needed"):
        main(["--tiny", "--data", "pascal"])
    with pytest.raises(SystemExit, match="nowhere"):
        main(["--tiny", "--data", "pascal", "--root", "nowhere"])


def test_the_full_protocol_runs_on_files_of_its_layout(tmp_path: Path) -> None:
    """Swin-Tiny and the reader of PASCAL-Context, from one command, on generated files."""
    root = tmp_path / "PASCAL_MT"
    for split, names in (("train", ("2008_000001", "2008_000002")), ("val", ("2008_000003",))):
        pascal_files.write(root, names, split=split, size=(40, 56))
    out = tmp_path / "pascal.json"
    options = ["--data", "pascal", "--root", str(root), "--tiny", "--batch", "2", "--size", "64"]
    main([*options, "--seeds", "1", "--cpu", "--precision", "bf16", "--method", "lora", "--out", str(out)])
    result = json.loads(out.read_text(encoding="utf8"))
    # 24 a rank on q and v, decoders, and what else MTLoRA's benchmark trains
    assert result["values"]["lora.trainable"]["mean"] == 17_664 * 24 + 1_946_624 + 51_258
    assert 0 < result["values"]["lora.normals.mean angle"]["mean"] < 180


def test_two_processes_share_a_batch(little: Path, tmp_path: Path) -> None:
    backbones.small(little)
    out = tmp_path / "two.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = tmp_path / "study.py"
    script.write_text(
        "from geolessons.studies.multitask import backbone\n"
        f"backbone.PRETRAINING.update({LITTLE})\n"
        "from geolessons.studies.multitask.__main__ import main\n"
        "main()\n",
        encoding="utf8",
    )
    options = ["--tiny", "--size", "32", "--seeds", "1", "--cpu", "--backbone", str(little)]
    options += ["--method", "full", "mtlora"]
    done = subprocess.run(
        [*command, str(script), *options, "--out", str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(out.read_text(encoding="utf8"))
    assert result["provenance"]["processes"] == 2
    assert {"full.delta_m", "mtlora.semseg.mIoU"} - set(result["values"]) == {"full.delta_m"}

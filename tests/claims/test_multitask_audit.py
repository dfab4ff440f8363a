"""The claims of DELoRA's Table 1 that its own numbers decide, V13 and V19 to V22."""

from __future__ import annotations

import itertools
import operator
from fnmatch import fnmatch

import pytest
import torch
from torch import nn

from geolessons.attaching import detach, merge_
from geolessons.data.dense import TASKS
from geolessons.models.mtlora import MTLoRA
from geolessons.models.multitask import MultiTask, swin, swin_tiny
from geolessons.models.multitask_methods import SMALL, trained, tune_full, tune_velocity
from geolessons.multitask_metrics import delta_m

# Table 1: mean IoU of semantic classes, of human parts, of saliency, and the error of normals, in degrees
PRINTED = {
    "single task": (67.21, 61.93, 62.35, 17.97),
    "all weights": (67.56, 60.24, 65.21, 16.64),
    "LoRA": (70.12, 57.73, 61.90, 18.96),
    "MTLoRA": (67.90, 59.84, 65.40, 16.60),
    "DELoRA": (69.72, 58.22, 58.84, 19.23),
}
MILLIONS = {"all weights": 30.06, "LoRA": 2.87, "MTLoRA": 8.34, "DELoRA": 2.42}  # trained, as printed
SINGLE = dict(zip(TASKS, PRINTED["single task"], strict=True))


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def row(method: str) -> dict[str, float]:
    return dict(zip(TASKS, PRINTED[method], strict=True))


def better(method: str, other: str) -> list[str]:
    """The tasks in which a method's printed value is the better one; normals are an error."""
    one, two = row(method), row(other)
    return [t for t in TASKS if (one[t] < two[t] if t == "normals" else one[t] > two[t])]


def score(method: str, tasks: tuple[str, ...] = TASKS) -> float:
    """Δ_m of a printed row over some tasks, %."""
    values = {task: row(method)[task] for task in tasks}
    return delta_m(values, {task: SINGLE[task] for task in tasks}, {"normals"} & set(tasks))


def signed(value: float, digits: int = 2) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def count(parameters: dict[str, nn.Parameter] | nn.Module) -> int:
    named = dict(parameters.named_parameters()) if isinstance(parameters, nn.Module) else parameters
    return sum(p.numel() for p in named.values())


def tiny() -> MultiTask:
    """Swin-Tiny with decoders for PASCAL-Context: shapes without numbers."""
    with torch.device("meta"):
        return MultiTask(swin_tiny(draw(0)), draw(0))


@pytest.mark.claim(
    "V13",
    paper="DELoRA",
    source="DELoRA, Table 1",
    expected="−3.72, the lowest; LoRA −2.17, all weights +2.45, MTLoRA +2.54",
)
def test_it_is_competitive_across_all_tasks(measured) -> None:
    """It is competitive across all tasks."""
    scores = {method: score(method) for method in PRINTED if method != "single task"}
    wanted = {"DELoRA": -3.72, "LoRA": -2.17, "all weights": 2.45, "MTLoRA": 2.54}
    for method, expected in wanted.items():
        by_hand = [(a - b) / b for a, b in zip(PRINTED[method], PRINTED["single task"], strict=True)]
        assert abs(scores[method] - 25 * (sum(by_hand[:3]) - by_hand[3])) < 1e-9
        assert abs(scores[method] - expected) < 0.02
    assert min(scores, key=lambda method: scores[method]) == "DELoRA"
    assert score("single task") == 0
    assert better("DELoRA", "single task") == better("DELoRA", "all weights") == ["semseg"]
    below = [task for task in TASKS if task not in better("DELoRA", "single task")]
    changes = ", ".join(f"{task.replace('_', ' ')} {signed(score('DELoRA', (task,)), 1)} %" for task in below)
    measured(
        "mean change against single-task networks, from its printed values: "
        + ", ".join(f"{method} {signed(scores[method])} %" for method in sorted(scores, key=scores.get))
        + f"; DELoRA is better than they in semantic classes alone, else {changes}",
        verdict="does not hold here",
    )


@pytest.mark.claim(
    "V19",
    paper="DELoRA",
    source="DELoRA, Table 1",
    expected="3.45 times fewer than MTLoRA, 12.4 than all weights, 1.19 than LoRA",
)
def test_it_trains_four_times_fewer_numbers(measured) -> None:
    """It trains four times fewer numbers than the best baseline."""
    times = {method: MILLIONS[method] / MILLIONS["DELoRA"] for method in MILLIONS if method != "DELoRA"}
    assert {method: round(value, 2) for method, value in times.items()} == {
        "all weights": 12.42,
        "LoRA": 1.19,
        "MTLoRA": 3.45,
    }
    assert max(PRINTED.keys() - {"single task"}, key=score) == "MTLoRA"
    model = tiny()
    sizes = {}
    for rank, size in ((16, 4.95), (32, 6.08), (64, 8.34)):
        sizes[rank] = count(trained(MTLoRA(model, rank, generator=draw(0))))
        detach(model)
        assert round(sizes[rank] / 1e6, 2) == size
    ours = count(tune_velocity(model, 24, generator=draw(0)))
    assert round(ours / 1e6, 2) == MILLIONS["DELoRA"]
    assert abs(sizes[64] / ours - times["MTLoRA"]) < 0.01
    measured(
        f"as printed {times['MTLoRA']:.2f} times fewer than MTLoRA, the best row, "
        f"{times['all weights']:.1f} than all weights, {times['LoRA']:.2f} than LoRA; from shapes, "
        f"{sizes[64]:,} at rank 64 against {ours:,}: {sizes[64] / ours:.2f}; against MTLoRA's rank 16 it "
        f"would be {sizes[16] / ours:.2f}",
        verdict="within limits",
        limits="3.45, not 4, and against MTLoRA's largest version",
    )


@pytest.mark.claim(
    "V20",
    paper="DELoRA",
    source="DELoRA, Table 1",
    expected="better on human parts only, also if any one task is left out",
)
def test_it_is_better_overall_than_lora(measured) -> None:
    """Overall it is better than LoRA."""
    assert better("DELoRA", "LoRA") == ["human_parts"]
    assert better("DELoRA", "MTLoRA") == ["semseg"]
    gaps = {}
    for left_out in (None, *TASKS):
        tasks = tuple(task for task in TASKS if task != left_out)
        gaps[left_out] = score("LoRA", tasks) - score("DELoRA", tasks)
        assert gaps[left_out] > 0
    closest = min(gaps, key=lambda left_out: gaps[left_out])
    assert closest == "saliency"
    tasks = tuple(task for task in TASKS if task != closest)
    measured(
        f"in its own table better on human parts alone; mean change {signed(score('DELoRA'))} % against "
        f"LoRA's {signed(score('LoRA'))} %; leaving out one task never turns it, saliency comes closest, "
        f"{signed(score('DELoRA', tasks))} % against {signed(score('LoRA', tasks))} %",
        verdict="does not hold here",
    )


@pytest.mark.claim(
    "V21",
    paper="DELoRA",
    source="DELoRA, Table 1",
    expected="one pass of the backbone; merged forward equals, to 1e-5",
)
def test_one_inference_answers_all_tasks(measured) -> None:
    """A single inference serves all tasks."""
    apart, moved = 0.0, 1.0
    for variant, size in (("literal", 30.0), ("centred", 30.0), ("normalised", 0.3)):
        g = draw(0)
        model = MultiTask(swin(g), g, narrow=6).eval()
        plain = {name: p.shape for name, p in model.named_parameters()}
        x = torch.randn(2, 3, 64, 64, generator=g)
        calls: list[int] = []
        model.features[0].register_forward_hook(lambda *_, seen=calls: seen.append(1))
        with torch.no_grad():
            start = model(x)
            for name, p in tune_velocity(model, 8, generator=g, variant=variant).items():
                if ".adapter." in name:
                    p.add_(size * torch.randn(p.shape, generator=g))
            before = model(x)
            merge_(model)
            after = model(x)
        assert len(calls) == 3, "one pass for each set of answers"
        assert tuple(after) == TASKS
        assert {name: p.shape for name, p in model.named_parameters()} == plain
        for task, y in after.items():
            apart = max(apart, float((y - before[task]).abs().max() / before[task].abs().max()))
            moved = min(moved, float((before[task] - start[task]).norm() / start[task].norm()))
    assert apart < 1e-5
    assert moved > 1e-3
    measured(
        "one pass of a Swin answers four tasks; merged it is a plain one, its answers equal to 1e-5, float32"
    )


@pytest.mark.claim(
    "V22",
    paper="DELoRA",
    source="DELoRA, Table 1",
    expected="2,421,818: rank 24 on q and v or 16 on q, k and v; consistent, not proven",
)
def test_the_size_tells_the_rank(measured) -> None:
    """With fields on W_q and W_v of every attention it trains 2.42 million numbers."""
    model = tiny()
    decoders, each = count(model.decoders), {}
    for on in ("qv", "qkv"):
        sizes = []
        for rank in (1, 2):
            sizes.append(count(tune_velocity(model, rank, generator=draw(0), on=on, small=False)))
            detach(model)
        each[on] = sizes[1] - sizes[0]
        assert sizes[0] == decoders + each[on]
    small = [sum(p.numel() for n, p in model.named_parameters() if fnmatch(n, kind)) for kind in SMALL]
    merging = sum(p.numel() for n, p in model.named_parameters() if n.endswith("reduction.weight"))
    norms_tables_patches = [23_040, 23_322, 4_896]
    assert (each, small, merging) == ({"qv": 17_664, "qkv": 26_496}, norms_tables_patches, 1_548_288)
    assert count(tune_velocity(model, 1, generator=draw(0))) == decoders + each["qv"] + sum(small)
    detach(model)
    fits: dict[tuple[str, int], list[tuple[int, ...]]] = {}
    for on, rank, *parts in itertools.product(each, range(1, 97), *[(0, 1)] * 4):
        size = decoders + each[on] * rank + sum(map(operator.mul, parts, (*small, merging)))
        if round(size / 1e6, 2) == MILLIONS["DELoRA"]:
            fits.setdefault((on, rank), []).append(tuple(parts))
    counts = {key: len(found) for key, found in fits.items()}
    assert counts == {("qv", r): n for r, n in ((24, 2), (25, 2), (27, 1))} | {
        ("qkv", r): n for r, n in ((16, 2), (17, 3), (18, 1))
    }
    assert fits["qv", 24] == fits["qkv", 16] == [(1, 1, 0, 0), (1, 1, 1, 0)]
    assert not any(merged for found in fits.values() for *_, merged in found)
    assert decoders + 24 * each["qv"] + sum(small) == decoders + 16 * each["qkv"] + sum(small) == 2_421_818
    full = count(tune_full(model))
    assert (MILLIONS["all weights"] * 1e6 - full) / 1e6 > 0.5
    measured(
        "2,421,818 at rank 24 on q and v, or at 16 on q, k and v, with decoders, layer norms, position "
        "tables and patches counted and mergings frozen; with some of the three small groups frozen other "
        "counts round to it as well, at ranks 24, 25 and 27 on q and v and at 16, 17 and 18 on q, k and v, "
        f"{sum(counts.values())} in all; "
        f"all weights are {full / 1e6:.2f} million with these decoders "
        f"where the table has {MILLIONS['all weights']:.2f}, so that row has others",
        verdict="within limits",
        limits="decoders counted, and a rank of 24 to 27 on q and v, or 16 to 18 on q, k and v: the paper "
        "leaves it open",
    )

"""The checks on DELoRA that need training, V14 and V23 to V26, on rendered scenes with a small Swin."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch

from geolessons.models.multitask import swin
from geolessons.multitask_metrics import delta_m
from geolessons.studies.multitask.effect import SCALES, changes
from geolessons.studies.multitask.training import METRICS
from geolessons.studies.record import interval, read

RESULTS = Path(__file__).parents[2] / "book" / "results"
STUDY = read(RESULTS / "multitask.json")
FIELDS = read(RESULTS / "multitask_fields.json")  # the methods of equal size, on more seeds
KEYS = {task: f"{task}.{metric}" for task, metric in METRICS.items()}
EQUAL = ("literal", "centred", "normalised")  # as many numbers as LoRA, one Euler step


def said(found: dict[str, Any], unit: str = " %") -> str:
    """An interval in words."""
    mean, low, high = (f"{found[key]:+.1f}".replace("-", "−") for key in ("mean", "low", "high"))
    return f"{mean}{unit} [{low}, {high}]"


def side(found: dict[str, Any]) -> int:
    """1 if an interval lies above 0, -1 if below, 0 if 0 is in it."""
    return (found["low"] > 0) - (found["high"] < 0)


def beside_lora(method: str, task: str) -> int:
    """1 if a method beats joint LoRA in a task, -1 if it is beaten, 0 if that cannot be told."""
    return side(FIELDS[f"{method}.minus lora.{KEYS[task]}"]) * (-1 if task == "normals" else 1)


def verdict(which: int) -> str:
    """The ledger's word for a claim that asks for a difference above 0."""
    return {1: "holds", 0: "not shown here", -1: "does not hold here"}[which]


@pytest.mark.claim(
    "V14",
    paper="DELoRA",
    source="DELoRA, abstract and Table 1",
    expected="not shown; the literal field below LoRA (toy .756 to .775 against .801)",
)
def test_the_field_beside_one_lora_for_all_tasks(measured) -> None:
    """At equal size the field is better overall than LoRA: Δ_m, with one joint LoRA to compare with."""
    sizes = {FIELDS[f"{method}.trainable"]["mean"] for method in ("lora", *EQUAL)}
    assert len(sizes) == 1
    found = FIELDS["literal.against lora"]
    measured(
        f"literal field {said(found)}, n = {found['n']}, at the rate that was chosen for LoRA",
        verdict=verdict(side(found)),
    )


@pytest.mark.claim(
    "V23", paper="DELoRA", source="DELoRA, 4", expected="not in all: lowest Δ_m of the printed rows"
)
def test_the_field_task_by_task(measured) -> None:
    """The field is competitive in each of the four tasks: in none is it worse than LoRA by its interval."""
    sides = {task: beside_lora("literal", task) for task in KEYS}
    for task, key in KEYS.items():
        unit = "°" if task == "normals" else " points"
        measured(f"{task} {said(FIELDS[f'literal.minus lora.{key}'], unit)}")
    worse = [task for task, which in sides.items() if which < 0]
    told = {0: "holds", len(KEYS): "does not hold here"}.get(len(worse), "within limits")
    limits = {"limits": f"worse in {', '.join(worse)}"} if told == "within limits" else {}
    better = sum(which > 0 for which in sides.values())
    measured(f"better in {better} of {len(KEYS)}, worse in {len(worse)}", verdict=told, **limits)


@pytest.mark.claim(
    "V24", paper="ours", source="ours, on DELoRA, Eq. 7", expected="repairs come nearer to LoRA"
)
def test_repairs_of_the_field(measured) -> None:
    """Centred and normalised, the field is better than the literal one at the same size."""
    sides = []
    for method in EQUAL[1:]:
        one, two = (FIELDS[f"{name}.against lora"]["each"] for name in (method, "literal"))
        found = interval([a - b for a, b in zip(one, two, strict=True)])
        sides.append(side(found))
        measured(
            f"{method} less literal: {said(found, ' points of Δ')}; beside LoRA "
            f"{said(FIELDS[f'{method}.against lora'])}"
        )
    measured(f"n = {found['n']}", verdict=verdict(min(sides) if min(sides) == max(sides) else 0))


RATES = {"0.01": "multitask", "0.02": "multitask_rate2", "0.05": "multitask_rate5"}


def changes_from(base: dict[str, Any], run: dict[str, Any], method: str) -> list[float]:
    """Mean relative change of a method over the tasks from joint LoRA in another run, seed by seed, %."""

    def graded(values: dict[str, Any], name: str, seed: int) -> dict[str, float]:
        return {task: values[f"{name}.{key}"]["each"][seed] for task, key in KEYS.items()}

    seeds = range(base["lora.trainable"]["n"])
    return [delta_m(graded(run, method, s), graded(base, "lora", s), {"normals"}) for s in seeds]


@pytest.mark.claim(
    "V27",
    paper="DELoRA",
    source="DELoRA, abstract and Table 1",
    expected="nearer to LoRA than at LoRA's rate, as on the digits network",
)
def test_the_field_at_a_rate_of_its_own(measured) -> None:
    """At equal size, each at the best of three rates, the field is better overall than joint LoRA."""
    runs = {}
    for rate, name in RATES.items():
        found = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf8"))
        assert (found["settings"]["protocol's lr"], found["provenance"]["seeds"]) == (rate, [0, 1, 2])
        runs[rate] = read(RESULTS / f"{name}.json")
    assert len({json.dumps(run[f"{m}.trainable"]) for run in runs.values() for m in ("lora", "literal")}) == 1
    best = {
        method: max(runs, key=lambda rate: statistics.fmean(changes_from(STUDY, runs[rate], method)))
        for method in ("lora", "literal")
    }
    found = interval(changes_from(runs[best["lora"]], runs[best["literal"]], "literal"))
    measured(
        f"literal field at {best['literal']} beside LoRA at {best['lora']}, of {', '.join(RATES)}: "
        f"{said(found)}, n = {found['n']}",
        verdict=verdict(side(found)),
    )


@pytest.mark.claim(
    "V25",
    paper="ours",
    source="ours, MTLoRA's and DELoRA's tables",
    expected="a control that both tables lack",
)
def test_one_lora_for_all_tasks_beside_one_a_task(measured) -> None:
    """A LoRA for each task, at an inference for each, is better than one LoRA for all tasks."""
    found = STUDY["lora-each.against lora"]
    each, joint = (STUDY[f"{method}.trainable"]["mean"] for method in ("lora-each", "lora"))
    measured(
        f"{said(found)} beside one LoRA for all, with {each / joint:.2f} times its trained numbers; "
        f"what tasks share, norms too, is frozen in it; n = {found['n']}",
        verdict=verdict(side(found)),
    )


@pytest.mark.claim(
    "V26",
    paper="ours",
    source="ours, on DELoRA, Eq. 7",
    expected="2e-5 without scale and shift, 12 % with a spread of .3, 62 % raw",
)
def test_what_the_uniform_push_does_to_a_trained_swin(measured) -> None:
    """In our pre-trained Swin the field's start changes q and v by less than 1 % of their size."""
    at_zero = {place: STUDY[f"before.{place}"]["mean"][0] for place in ("plain norm", "norm", "raw")}
    assert SCALES[0] == 0
    measured(
        f"the uniform push changes q and v by {100 * at_zero['norm']:.2f} % behind the norm, by "
        f"{100 * at_zero['plain norm']:.0e} % without its scale and shift, by {100 * at_zero['raw']:.1f} % "
        "without the norm",
        verdict="holds" if at_zero["norm"] < 0.01 else "does not hold here",
    )
    assert at_zero["plain norm"] < 1e-3
    # the same on a network made here, whose norms are as drawn and as spread out
    g = torch.Generator().manual_seed(0)
    net = swin(g, width=8, depths=(1, 1, 1, 1), heads=(1, 1, 1, 1)).eval()
    image = torch.rand(2, 3, 32, 32, generator=g)
    drawn = changes(net, image, 0)["norm"][0]
    with torch.no_grad():
        for name, p in net.named_parameters():
            if "norm1" in name:
                p += 0.3 * torch.randn(p.shape, generator=g)
    spread = changes(net, image, 0)["norm"][0]
    assert drawn < 1e-3 < 0.02 < spread
    measured(f"made up: {100 * drawn:.4f} % with norms at 1 and 0, {100 * spread:.0f} % with a spread of 0.3")

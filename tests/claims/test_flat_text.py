"""The claim on Flat-LoRA as training on sentences, F25: CoLA, and how far the network comes there."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from geolessons.metrics import matthews, roc_area
from geolessons.studies.record import interval

RESULT = json.loads(
    (Path(__file__).parents[2] / "book" / "results" / "flat_lora_text.json").read_text(encoding="utf8")
)
VALUES = RESULT["values"]
PAPER = ("0.05", "0.15")  # the paper's σ
NAMES = {"r8.0": "LoRA", "full": "all numbers trained", "scratch": "from random weights"}


def less(name: str, other: str, key: str) -> dict[str, Any]:
    """An arm less another, paired by seed, with its 95 % interval."""
    one, two = (VALUES[f"{arm}.{key}"]["each"] for arm in (name, other))
    return interval([a - b for a, b in zip(one, two, strict=True)])


def said(found: dict[str, Any], digits: int = 3, sign: str = "+") -> str:
    """An interval in words."""
    mean, low, high = (f"{found[key]:{sign}.{digits}f}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def chance(key: str) -> float:
    """What one answer to all, or answers by lot, reach on the development set; the upper end of 95 %."""
    n, share = VALUES["dev.sentences"]["mean"], VALUES["majority.accuracy"]["mean"]
    if key == "mcc":
        return 1.96 / math.sqrt(n)
    ones, zeros = n * share, n * (1 - share)
    return 0.5 + 1.96 * math.sqrt((n + 1) / (12 * ones * zeros))  # Mann and Whitney's statistic


def beyond_chance(name: str) -> bool:
    """Whether an arm's intervals over seeds are above what lots reach, in both measures."""
    return all(interval(VALUES[f"{name}.{key}"]["each"])["low"] > chance(key) for key in ("mcc", "auc"))


@pytest.mark.claim(
    "F25", paper="Flat-LoRA", source="Flat-LoRA, Table 1, CoLA", expected="not shown in small nets"
)
def test_it_is_better_on_cola(measured) -> None:
    """On CoLA Flat-LoRA with the paper's σ is better than LoRA, in accuracy and in Matthews' correlation."""
    assert len(RESULT["provenance"]["seeds"]) >= 5
    majority = VALUES["majority.accuracy"]["mean"]
    order = interval(VALUES["order.accuracy"]["each"])
    assert order["low"] > 0.6, "the network does learn the order of words"
    measured(f"words out of order: {100 * order['mean']:.0f} % told right, by chance 50 %")
    for name, words in NAMES.items():
        accuracy, mcc, auc = (VALUES[f"{name}.{key}"] for key in ("accuracy", "mcc", "auc"))
        measured(
            f"{words}: accuracy {100 * accuracy['mean']:.1f} %, Matthews' correlation {said(mcc, sign='')}, "
            f"ROC area {said(auc, sign='')}"
        )
    measured(
        f"chance: accuracy {100 * majority:.1f} % (one answer to all), correlation to {chance('mcc'):.3f}, "
        f"area to {chance('auc'):.3f}"
    )
    for key, words in (("accuracy", "accuracy"), ("mcc", "Matthews' correlation")):
        for sigma in PAPER:
            found = less(f"r8.{sigma}", "r8.0", key)
            measured(f"σ = {sigma} less LoRA, {words}: {said(found)}")
            assert found["low"] <= 0 <= found["high"], "it is said that no difference is seen"
    for name in ("r8.0", "r8.0.05", "r8.0.15"):
        assert not beyond_chance(name)
        for key in ("mcc", "auc"):
            assert less(name, "scratch", key)["high"] < 0, "it is said that random weights do better"
    assert beyond_chance("scratch"), "the task can be learnt, by little"
    measured(
        "adapters end where chance may reach, and below training from random weights: there is no gain to "
        "compare",
        verdict="not testable here",
    )


def test_the_bounds_of_chance_are_those_of_answers_by_lot() -> None:
    """Random scores for as many sentences are above each bound in 2.5 % of the draws."""
    g = torch.Generator().manual_seed(0)
    n = int(VALUES["dev.sentences"]["mean"])
    y = (torch.arange(n) < round(n * VALUES["majority.accuracy"]["mean"])).long()
    scores = [torch.randn(n, generator=g, dtype=torch.float64) for _ in range(4000)]
    above = {
        "mcc": sum(matthews((s > 0.5).long(), y) > chance("mcc") for s in scores),
        "auc": sum(roc_area(s, y) > chance("auc") for s in scores),
    }
    for key, count in above.items():
        assert count / len(scores) == pytest.approx(0.025, abs=0.008), key

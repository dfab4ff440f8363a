"""The claim that Flat-LoRA's first figure sketches: flat inside LoRA's directions, sharp outside of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from geolessons.curvature import mean_curvature
from geolessons.data import digits
from geolessons.estimates import loss_of
from geolessons.running_example import adapt, pretrain
from geolessons.studies.insides import RANKS, TASKS, tangents_of
from geolessons.studies.record import interval
from geolessons.trees import params_of

RESULT = json.loads(
    (Path(__file__).parents[2] / "book" / "results" / "insides.json").read_text(encoding="utf8")
)
VALUES = RESULT["values"]
SETTINGS = [f"{task}.{rank}" for task in TASKS for rank in RANKS]


@pytest.mark.claim("F16", paper="Flat-LoRA", source="Flat-LoRA, Fig. 1", expected="the order is reversed")
def test_flat_inside_and_sharp_outside(measured) -> None:
    """Where LoRA ends, the loss is flat in the directions that LoRA can train, and sharp outside of them."""
    assert len(RESULT["provenance"]["seeds"]) >= 5
    said, reversed_, sketched = [], 0, 0
    for what, words in (
        ("mean", "mean curvature"),
        ("0.1", "rise on walks of a tenth of the weights' length"),
        ("top", "top eigenvalue"),
    ):
        found = [interval(VALUES[f"{setting}.ratio.{what}"]["each"]) for setting in SETTINGS]
        above, below = sum(i["low"] > 1 for i in found), sum(i["high"] < 1 for i in found)
        reversed_, sketched = reversed_ + above, sketched + below
        means = [i["mean"] for i in found]
        said.append(
            f"{words}, inside over outside: {min(means):.1f} to {max(means):.1f}, above 1 in {above} and "
            f"below in {below} of {len(found)}"
        )
    assert reversed_ > sketched
    limits = {"verdict": "does not hold here"}
    if sketched:
        limits = {"verdict": "within limits", "limits": f"{sketched} of {3 * len(SETTINGS)} comparisons"}
    measured("two tasks, ranks 2 and 8, n = 5: " + "; ".join(said), **limits)


def test_one_setting_of_one_seed_recomputes() -> None:
    seed, rank = 1, 2
    model, data = pretrain(digits("upright"), seed), digits("tilted")
    W0, W = params_of(model), adapt(model, data, seed, rank=rank)
    loss = loss_of(model, lambda run: cross_entropy(run(data.x_train), data.y_train))
    tangents = tangents_of(W0, W, rank)
    for side in ("inside", "outside"):
        g = torch.Generator().manual_seed(seed)
        found = mean_curvature(loss, W, tangents, side, generator=g)
        assert found.value == pytest.approx(VALUES[f"tilted.2.{side}.mean"]["each"][seed], rel=0.02)

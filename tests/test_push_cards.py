"""What the cards of page 2B say is true: sums, headings, ranks, ends of roads."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.func import functional_call

from geolessons.data.digits import Split
from geolessons.fields import ConstantField, Flow
from geolessons.metrics import loss_and_accuracy
from geolessons.models import mlp
from geolessons.paths import evaluate
from geolessons.studies.pushes import softmax_fields
from geolessons.trees import Params, axpy, dot, norm, params_of

BOOK = Path(__file__).parents[1] / "book"


@pytest.fixture(autouse=True)
def _cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BOOK))


@pytest.mark.parametrize("spread", [0.001, 1.0, 8.0])
def test_softmax_rows_gain_t_and_head_up_and_right(spread: float) -> None:
    from cards import rows

    card = rows.Rows({"x": rows.softmax_push(spread)}, steps=1, method="euler")
    assert float(card.fields["x"].logits(card.W0).detach().std()) == pytest.approx(spread)
    for t in (0.3, 1.0):
        assert card.gains(t, "x") == pytest.approx(t, abs=1e-12)
        one_step = card.W0 + t * card.fields["x"](card.W0).detach()
        assert card.at(t, "x") == pytest.approx(one_step.numpy(), abs=1e-12)
        across, up = (card.at(t, "x") - card.W0.numpy()).T
        headings = np.degrees(np.arctan2(up, across))
        assert 0 <= headings.min() <= headings.max() <= 90
        assert card.fan(t, "x") == pytest.approx(headings.max() - headings.min(), abs=1e-9)
    assert card.rising


def test_a_fan_that_holds_the_way_back_is_half_a_turn() -> None:
    from cards import rows

    card = rows.Rows({"LoRA": rows.lora_push()})
    assert card.fan(1.0, "LoRA") == pytest.approx(180, abs=1e-6)
    assert not card.rising
    turned = torch.zeros(28, 2, dtype=torch.float64)
    turned[:, 0] = 1.0
    turned[0], turned[1] = torch.tensor([0.0, 1.0]), torch.tensor([0.0, -1.0])  # the rest heads east
    assert rows.Rows({"x": ConstantField(turned)}).fan(1.0, "x") == pytest.approx(180, abs=1e-6)


def test_ranks_are_those_that_linear_algebra_counts() -> None:
    from cards import spectra

    for spread in (5e-5, 5e-3, 1.5):
        for dtype, counted in spectra.SEEN.items():
            values = spectra.spectrum(spread, dtype)
            matrix = torch.diag(values)
            assert spectra.rank(spread, dtype) == int(torch.linalg.matrix_rank(matrix, rtol=counted))
            assert values[0] == 1
    r = spectra.RANK
    start = [spectra.rank(5e-5, dtype) for dtype in (torch.float32, torch.float64)]
    assert start == [1 + r, 1 + r + r * (r + 1) // 2]
    assert int((spectra.of_lora() > 1e-13).sum()) == r


def test_the_map_of_a_flow_has_its_end_where_the_flow_ends() -> None:
    from cards.flows import STOPS, Flows

    generator = torch.Generator().manual_seed(0)
    model = mlp((6, 8, 3), generator).requires_grad_(False)
    x = torch.randn(64, 6, generator=generator, dtype=torch.float64)
    data = Split(x, x[:, 0].long(), x, (x[:, 0] > 0).long())
    W0 = params_of(model)
    bent = softmax_fields(W0, 0, rank=3)
    for field in bent.values():
        field.requires_grad_(False).W1.mul_(30)
    ones = {name: torch.ones(field.shape, dtype=torch.float64) for name, field in bent.items()}
    straight = {name: ConstantField(one).requires_grad_(False) for name, one in ones.items()}
    card = Flows(model, W0, {"bent": bent, "straight": straight}, data)
    metric = loss_and_accuracy(data.x_test, data.y_test)
    for name, fields in (("bent", bent), ("straight", straight)):
        ends = {K: Flow(W0, fields, steps=K).at(1.0) for K in STOPS.values()}
        first = axpy(-1, W0, ends[1])
        assert card.jumps[name] == pytest.approx(float(norm(first)) / float(norm(W0)))
        for K, end in ends.items():
            nodes = card.nodes[name, K]
            assert nodes.shape == (K + 1, 2)
            assert nodes[0] == pytest.approx((0, 0), abs=1e-12)
            away = float(norm(axpy(-1, ends[1], end))) / float(norm(first))
            assert math.dist(nodes[-1], (1, 0)) <= away + 1e-9, "a projection is no longer"
            if K in (1, 32) or name == "straight":  # these ends lie in the plane
                assert math.dist(nodes[-1], (1, 0)) == pytest.approx(away, abs=1e-9)
            share = evaluate(Flow(W0, fields, steps=K), model, metric, [1.0]).values[0][1]
            assert card.read[name, K] == share
    assert math.dist(card.nodes["bent", 32][-1], (1, 0)) > 0.01
    assert math.dist(card.nodes["straight", 32][-1], (1, 0)) < 1e-9
    corner = _corner(W0, *(Flow(W0, bent, steps=K).at(1.0) for K in (1, 32)))
    loss, _ = metric(lambda x: functional_call(model, corner, (x,)))
    assert card.lands["bent"][-1, -1] == pytest.approx(loss, rel=1e-9)


def _corner(W0: Params, one: Params, many: Params) -> Params:
    """The upper right end of the map, by Gram and Schmidt: lengths are counted in jumps."""
    from cards.flows import ACROSS, UP

    jump, other = axpy(-1, W0, one), axpy(-1, W0, many)
    unit = axpy(-float(dot(jump, other) / dot(jump, jump)), jump, other)
    up = axpy(UP[1] * float(norm(jump) / norm(unit)), unit, W0)
    return axpy(ACROSS[1], jump, up)

"""The study of LoRA's inside and outside: its directions and its instruments, where the answer is known."""

from __future__ import annotations

import pytest
import torch

from geolessons.adapters import LoRA
from geolessons.studies import insides
from geolessons.tangents import tangent_projector
from geolessons.trees import Params


def _point() -> tuple[Params, Params, LoRA]:
    g = torch.Generator().manual_seed(0)
    lora = LoRA((6, 5), 2, generator=g, dtype=torch.float64)
    with torch.no_grad():
        lora.B.normal_(generator=g)
        W0 = {"w": torch.randn(6, 5, generator=g, dtype=torch.float64)}
        return W0, {"w": W0["w"] + lora.scale * lora.B @ lora.A}, lora


def test_the_move_alone_tells_the_tangent_directions() -> None:
    W0, W1, lora = _point()
    found, known = insides.tangents_of(W0, W1, 2)["w"], tangent_projector(lora.A, lora.B)
    X = torch.randn(6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert found.dimension == known.dimension == 2 * (6 + 5 - 2)
    torch.testing.assert_close(found.inside(X), known.inside(X))


def test_walks_and_eigenvalues_see_the_side_on_which_the_land_is_steep() -> None:
    W0, W1, _ = _point()
    P = insides.tangents_of(W0, W1, 2)

    def loss(W: Params) -> torch.Tensor:
        X = W["w"] - W1["w"]
        return 3 * P["w"].inside(X).square().sum() / 2 + P["w"].outside(X).square().sum() / 2

    length = float(W1["w"].norm())
    for side, curvature in {"inside": 3.0, "outside": 1.0}.items():
        assert insides.top(loss, W1, P, side, seed=0) == pytest.approx(curvature, rel=1e-6)
        for share, rise in zip(insides.SHARES, insides.rises(loss, W1, P, side, 0, draws=2), strict=True):
            assert rise == pytest.approx(curvature * (share * length) ** 2 / 2, rel=1e-9)
    for share, rise in zip(insides.SHARES, insides.rises(loss, W1, P, "anywhere", 0, draws=2), strict=True):
        assert 1 < rise / ((share * length) ** 2 / 2) < 3

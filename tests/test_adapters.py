"""LoRA: shapes, start, scale, gradients, refusals."""

import math

import pytest
import torch

from geolessons.adapters import LoRA, effective_weights


def test_starts_at_w0_with_a_drawn_from_the_generator():
    before = torch.get_rng_state()
    adapter = LoRA((5, 7), 3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    again = LoRA((5, 7), 3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(adapter.A, again.A)
    assert adapter.A.shape == (3, 7)
    assert adapter.B.shape == (5, 3)
    assert not adapter.B.any()
    assert adapter.A.dtype == adapter.B.dtype == torch.float64
    W0 = torch.randn(5, 7, dtype=torch.float64)
    assert torch.equal(adapter.weight(W0), W0)
    assert sum(p.numel() for p in adapter.parameters()) == 3 * (5 + 7)


def test_a_is_uniform_within_one_over_root_k():
    A = LoRA((100, 400), 100, generator=torch.Generator().manual_seed(0)).A.detach()
    assert float(A.abs().max()) <= 1 / 20
    assert float(A.std()) == pytest.approx(1 / 20 / math.sqrt(3), rel=0.02)
    assert abs(float(A.mean())) < 1e-3


@pytest.mark.parametrize(("alpha", "scale"), [(None, 1.0), (4, 2.0), (1, 0.5)])
def test_weight_is_w0_plus_scaled_product(alpha, scale):
    adapter = LoRA((4, 3), 2, alpha, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        adapter.B.copy_(torch.arange(8.0).reshape(4, 2))
    W0 = torch.ones(4, 3, dtype=torch.float64)
    found = adapter.weight(W0)
    torch.testing.assert_close(found, W0 + scale * adapter.B @ adapter.A)
    assert int(torch.linalg.matrix_rank(found - W0)) == 2
    gradients = torch.autograd.grad(found.sum(), (adapter.A, adapter.B))
    torch.testing.assert_close(gradients[0], scale * adapter.B.detach().sum(0)[:, None].expand(2, 3))
    torch.testing.assert_close(gradients[1], scale * adapter.A.detach().sum(1).expand(4, 2))


@pytest.mark.parametrize(
    ("shape", "rank", "said"),
    [
        ((4,), 1, r"shape=\(4,\) is not a matrix's; LoRA needs \(outputs, inputs\)"),
        ((4, 3, 2), 1, "is not a matrix's"),
        ((4, 3), 0, r"rank=0 must be from 1 to min\(4, 3\) = 3"),
        ((4, 3), 4, "rank=4 must be from 1 to"),
    ],
)
def test_refusals(shape, rank, said):
    with pytest.raises(ValueError, match=said):
        LoRA(shape, rank, generator=torch.Generator())


@pytest.mark.parametrize("shape", [(3, 4), (3,), (1, 3), (2, 4, 3)])
def test_refuses_a_weight_of_another_shape(shape):
    adapter = LoRA((4, 3), 2, generator=torch.Generator())
    with pytest.raises(ValueError, match=r"W0 has shape .*; this adapter is for \(4, 3\)"):
        adapter.weight(torch.ones(shape))


def test_effective_weights_replaces_the_adapted_only():
    adapter = LoRA((4, 3), 2, generator=torch.Generator())
    with torch.no_grad():
        adapter.B.fill_(1)
    W0 = {"bias": torch.ones(4), "weight": torch.ones(4, 3)}
    found = effective_weights(W0, {"weight": adapter})
    assert list(found) == ["bias", "weight"]
    assert found["bias"] is W0["bias"]
    torch.testing.assert_close(found["weight"], adapter.weight(W0["weight"]))
    assert torch.equal(W0["weight"], torch.ones(4, 3))
    with pytest.raises(ValueError, match=r"adapters names \['wieght'\], which W0 does not have; it has"):
        effective_weights(W0, {"wieght": adapter})

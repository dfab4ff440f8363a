"""Points of parameter space: snapshots, vector arithmetic, and what is refused."""

import math

import pytest
import torch
from torch import nn

from geolessons import trees
from geolessons.trees import (
    axpy,
    check_alike,
    check_finite,
    dot,
    flatten,
    norm,
    params_of,
    unflatten,
)


def point(seed: int = 0, dtype: torch.dtype = torch.float64) -> trees.Params:
    draw = torch.Generator().manual_seed(seed)
    return {
        "a": torch.randn(3, 4, generator=draw, dtype=torch.float64).to(dtype),
        "b": torch.randn((), generator=draw, dtype=torch.float64).to(dtype),
        "c": torch.randn(2, 1, 5, generator=draw, dtype=torch.float64).to(dtype),
    }


def test_params_of_is_a_snapshot_in_the_models_order():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    P = params_of(model)
    assert list(P) == [name for name, _ in model.named_parameters()]
    before = P["0.weight"].clone()
    with torch.no_grad():
        model[0].weight.add_(1)
    assert torch.equal(P["0.weight"], before)
    assert not any(p.requires_grad for p in P.values())
    P["1.bias"].add_(1)
    assert not torch.equal(P["1.bias"], model[1].bias)


def test_params_of_matches_patterns_and_names_tied_weights_once():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    assert list(params_of(model)) == ["0.weight", "0.bias", "1.bias"]
    assert list(params_of(model, "*.bias")) == ["0.bias", "1.bias"]
    assert list(params_of(model, ["1.*", "0.weight"])) == ["0.weight", "1.bias"]


def test_params_of_refuses_a_pattern_that_fits_nothing():
    with pytest.raises(ValueError, match=r"match='\*kernel' fits none .*weight, bias"):
        params_of(nn.Linear(2, 2), "*kernel")


@pytest.mark.parametrize("block", [1, 3, 1 << 20])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dot_and_norm_are_those_of_the_long_vector(dtype, block, monkeypatch):
    monkeypatch.setattr(trees, "BLOCK", block)
    P, Q = point(1, dtype), point(2, dtype)
    p, q = flatten(P).double(), flatten(Q).double()
    assert dot(P, Q).dtype == torch.float64
    assert dot(P, Q).shape == ()
    torch.testing.assert_close(dot(P, Q), p @ q, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(norm(P), p.norm(), rtol=1e-14, atol=0.0)


def test_norm_of_a_long_float32_point_keeps_its_digits():
    x = torch.full((1 << 21,), 0.1)
    assert float(norm({"x": x})) == pytest.approx(math.sqrt(1 << 21) * float(x[0]), rel=1e-12)


def test_dot_takes_different_dtypes_and_empty_tensors():
    P, Q = point(1), point(2, torch.float32)
    assert float(dot(P, Q)) == pytest.approx(float(flatten(P) @ flatten(Q).double()))
    assert float(norm({"w": torch.empty(0, 3)})) == 0
    assert float(dot({"w": torch.empty(0)}, {"w": torch.empty(0)})) == 0


def test_norm_and_flatten_refuse_the_empty_point():
    for function in (norm, flatten):
        with pytest.raises(ValueError, match="P is empty: a point needs at least one tensor"):
            function({})


def test_axpy_is_entry_by_entry_in_the_dtype_of_y():
    X, Y = point(1), point(2)
    found = axpy(-0.5, X, Y)
    for name in X:
        assert torch.equal(found[name], -0.5 * X[name] + Y[name])
    wide = torch.tensor(2.0, dtype=torch.float64)
    found = axpy(wide, point(1, torch.float32), point(2, torch.float32))
    assert {p.dtype for p in found.values()} == {torch.float32}


def test_flatten_and_unflatten_are_inverse():
    P = point()
    P["half"] = torch.ones(2, dtype=torch.float32)
    back = unflatten(flatten(P), like=P)
    assert list(back) == list(P)
    for name, p in P.items():
        assert torch.equal(back[name], p)
        assert back[name].dtype == p.dtype
    with pytest.raises(ValueError, match=r"vector has shape \(24,\); `like` needs \(25,\)"):
        unflatten(torch.zeros(24), like=P)
    with pytest.raises(ValueError, match=r"vector has shape \(5, 5\)"):
        unflatten(torch.zeros(5, 5), like=P)


def test_check_alike_lists_every_mismatch_in_one_message():
    P = {"a": torch.zeros(2), "b": torch.zeros(3), "only": torch.zeros(1), "m": torch.zeros(1)}
    Q = {
        "a": torch.zeros(2, 1),
        "b": torch.zeros(3, dtype=torch.float64),
        "extra": torch.zeros(1),
        "m": torch.zeros(1, device="meta"),
    }
    with pytest.raises(ValueError, match="W0 and W1 are not points of the same space") as caught:
        check_alike(P, Q)
    for part in (
        "'only' is only in W0",
        "'extra' is only in W1",
        "'a' has shape (2,) in W0, (2, 1) in W1",
        "'b' is float32 in W0, float64 in W1",
        "'m' is on cpu in W0, on meta in W1",
    ):
        assert part in str(caught.value)


def test_check_alike_can_let_dtypes_differ_and_refuses_the_empty_point():
    P, Q = point(1), point(1, torch.float32)
    check_alike(P, Q, same_dtype=False)
    with pytest.raises(ValueError, match="float64 in P, float32 in Q"):
        check_alike(P, Q, ("P", "Q"))
    with pytest.raises(ValueError, match="W0 is empty"):
        check_alike({}, {})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.tensor([1, 2]), "'w' is int64"),
        (torch.tensor([True]), "'w' is bool"),
        (torch.tensor([1j]), "'w' is complex64"),
        (torch.empty(2, device="meta"), "'w' is on the meta device"),
        (torch.eye(2).to_sparse(), "'w' is sparse_coo"),
        (3.0, "'w' is a float"),
        (None, "'w' is a NoneType"),
    ],
)
def test_check_finite_refuses_what_is_no_real_tensor(value, said):
    with pytest.raises(TypeError, match="P must be dense and floating-point") as caught:
        check_finite({"fine": torch.ones(1), "w": value}, "P")
    assert said in str(caught.value)
    assert "fine" not in str(caught.value)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_check_finite_names_the_tensors_with_broken_entries(bad):
    P = {"x": torch.tensor([0.0, bad]), "y": torch.zeros(2), "z": torch.tensor(bad)}
    with pytest.raises(ValueError, match="W0 has NaN or infinite entries in 'x', 'z'"):
        check_finite(P, "W0")
    check_finite({"y": torch.zeros(2), "empty": torch.empty(0)}, "W0")


def test_check_finite_refuses_what_is_no_dict():
    with pytest.raises(TypeError, match="W0 is a Tensor; it must be a dict of tensors"):
        check_finite(torch.ones(2), "W0")


def test_long_lists_of_names_are_cut():
    P = {f"w{i}": torch.tensor([1]) for i in range(20)}
    with pytest.raises(TypeError, match="and 12 more"):
        check_finite(P, "P")

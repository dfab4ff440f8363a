"""The comparisons still run, and what they count, rather than time, is as it should be."""

import importlib
import json
import math
from pathlib import Path

import pytest
import torch

from geolessons.saved import Saved

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def quick(script, out, capsys):
    """Its rows, after a look at the table and the file."""
    rows = script.main(["--quick", "--device", "cpu", "--out", str(out)])
    printed, written = capsys.readouterr().out, json.loads(out.read_text())
    assert "no GPU" in printed
    assert written["about"]["threads"] == torch.get_num_threads()
    assert [r["what"] for r in written["rows"]] == [r.what for r in rows]
    assert [r["kept"] for r in written["rows"]] == [r.kept for r in rows]
    assert all(r.what in printed for r in rows)
    assert all(math.isfinite(r.value) for r in rows)
    assert [p.name for p in out.parent.iterdir()] == [out.name]
    return rows


@pytest.mark.filterwarnings("ignore")  # peft's own
def test_adapters_keep_and_compute_no_more_than_they_must(load, tmp_path, capsys):
    rows = quick(load("adapters"), tmp_path / "out.json", capsys)
    of = {r.what: r for r in rows}
    assert of["Swin-T step"].value <= 88
    assert of["  the same by parametrize"].value == pytest.approx(107, abs=2)
    assert of["merged MLP: same graph and types"].value == 1
    lora = rows[:3]
    assert lora[1].ratio == 1
    assert lora[2].ratio == 1
    geodesic, velocity = (next(i for i, r in enumerate(rows) if r.what.startswith(k)) for k in ("geo", "vel"))
    bytes_ = rows[geodesic + 1]
    assert bytes_.other < bytes_.value <= bytes_.other + 4 * 64 * 8 + 16  # g·B, and two numbers
    assert 1.2 < rows[velocity + 3].ratio < 1.5


def test_merging_agrees_with_float64_in_few_kernel_calls(load, tmp_path, capsys):
    rows = quick(load("merging"), tmp_path / "out.json", capsys)
    errors = [r for r in rows if r.what == "  error of geolessons"]
    assert len(errors) == 2
    assert all(r.kept for r in errors)
    assert all(r.value < 1e-3 for r in rows if "error" in r.what)
    calls = [r for r in rows if "kernel calls of geolessons" in r.what or "not cut" in r.what]
    assert [r.kept for r in calls] == [True, True]


def test_curvature_takes_fewer_products_and_the_planes_agree(load, tmp_path, capsys):
    rows = quick(load("curvature"), tmp_path / "out.json", capsys)
    of = {r.what: r for r in rows}
    assert of["share of products, worst"].value < 1
    assert all(r.value < 1e-3 for r in rows if r.what == "  apart by")
    ours, anew = (of[f"  standard error of {k}"] for k in ("geolessons", "graph each draw"))
    assert (ours.value, ours.other) == pytest.approx((anew.value, anew.other), rel=1e-3)
    errors = [r.value for r in rows if r.what.startswith("  error of")]
    assert len(errors) == 3
    assert max(errors) < 1e-5


def test_what_is_counted(load):
    timing = load("timing")
    x, W = torch.ones(3, 4, requires_grad=True), torch.ones(4, 4, requires_grad=True)
    with Saved() as saved:
        y = (x @ W).exp()
    assert saved.bytes == 4 * (3 * 4 + 4 * 4 + 3 * 4)  # x and W for the product, exp's own result
    with Saved(besides=[W]) as saved:
        y = (x @ W).exp()
    assert saved.bytes == 4 * (3 * 4 + 3 * 4)
    with timing.Calls() as calls:
        (y.detach().view(4, 3).T + 1).sum()
    assert dict(calls.kernels) == {"aten.add.Tensor": 1, "aten.sum.default": 1}


def test_rounds_are_interleaved_and_ratios_are_of_rounds(load):
    timing, seen = load("timing"), []
    jobs = {name: lambda name=name: seen.append(name) for name in "abc"}
    times = timing.rounds(jobs, 2, "cpu")
    assert "".join(seen) == "abcbcacab"
    assert {len(t) for t in (*times.wall.values(), *times.cpu.values())} == {2}
    times = timing.Rounds({"a": [2.0, 9.0, 4.0], "b": [1.0, 3.0, 4.0]}, {"a": [1.0], "b": [2.0]})
    assert times.ratio("a", "b", "wall") == 2
    assert times.ratio("a", "b", "cpu") == 0.5
    assert timing.row_of_times("", times, "a", "b", "wall", 1.9)[1:7] == (4000, "ms", "b", 3000, 2, 1.9)


@pytest.mark.parametrize(
    ("value", "ratio", "bound", "at_least", "kept"),
    [
        (5.0, None, 5.0, False, True),
        (5.1, None, 5.0, False, False),
        (9.0, 1.0, 1.02, False, True),
        (9.0, 1.03, 1.02, False, False),
        (0.0, 2.1, 2.0, True, True),
        (9.0, 1.9, 2.0, True, False),
        (9.0, 1.9, None, False, None),
    ],
)
def test_a_bound_is_on_the_ratio_or_else_on_the_value(load, value, ratio, bound, at_least, kept):
    assert load("timing").Row("", value, "", "", None, ratio, bound, at_least).kept is kept


def test_noise_keeps_no_more_than_lora_and_moves_nothing(load, tmp_path, capsys):
    rows = quick(load("noise"), tmp_path / "out.json", capsys)
    kept = next(r for r in rows if "bytes kept" in r.what)
    assert kept.ratio <= 1.02
    drifts = [r for r in rows if r.what.startswith("drift")]
    assert [r.value for r in drifts] == [0, 0]
    assert all(r.other > 0 for r in drifts)
    passes = next(r for r in rows if "two passes" in r.what)
    assert passes.ratio > 1.2


@pytest.mark.parametrize(("name", "least"), [("scenes", 5), ("loader", 4), ("grading", 4)])
def test_rendering_and_reading_are_counted_by_the_second(load, tmp_path, capsys, name, least):
    rows = quick(load(name), tmp_path / "out.json", capsys)
    assert len(rows) >= least
    assert all(row.value > 0 for row in rows)


def test_four_tasks_take_one_inference(load, tmp_path, capsys):
    rows = quick(load("multitask"), tmp_path / "out.json", capsys)
    of = {r.what: r for r in rows}
    assert of["kept, single"].ratio < 1 < of["kept, mtlora"].ratio  # a decoder less, and streams of its own
    assert of["kept, full"].ratio == of["step, lora"].ratio == of["four networks"].ratio == 1

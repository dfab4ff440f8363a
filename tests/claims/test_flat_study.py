"""The checks on Flat-LoRA as training, F6, F9, F10, F14 to F19 and F22, on three data sets and five seeds."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from geolessons.data.digits import Split
from geolessons.models import mlp
from geolessons.studies import flat_lora_digits as study
from geolessons.studies import glra, noisy_line
from geolessons.studies.flat_arms import ready
from geolessons.studies.record import interval, read

RESULTS = Path(__file__).parents[2] / "book" / "results"
STUDIES = {data: read(RESULTS / f"flat_lora_{data}.json") for data in ("digits", "mnist", "fashion")}
PAPER = ("0.05", "0.15")  # the paper's σ
LARGER = ("0.5", "1")
KEYS = ("test loss", "test accuracy", "train loss", "sharpness", "top eigenvalue")
RANKS = ("1", "4", "8", "16", "64")


def less(data: str, name: str, other: str, key: str) -> dict[str, Any]:
    """An arm less another, paired by seed, with its 95 % interval."""
    one, two = (STUDIES[data][f"{arm}.{key}"]["each"] for arm in (name, other))
    return interval([a - b for a, b in zip(one, two, strict=True)])


def compared(pairs: list[tuple[str, str, str]], key: str, sign: int) -> tuple[int, int]:
    """Of some (data, arm, control), in how many the arm is better, and in how many worse: 0 is left out."""
    found = [less(*pair, key) for pair in pairs]
    ends = [(sign * i["low"], sign * i["high"]) for i in found]
    return sum(min(pair) > 0 for pair in ends), sum(max(pair) < 0 for pair in ends)


def by_chance(count: int, n: int) -> float:
    """How likely so many of n 95 % intervals or more lie on one given side of an effect that is 0."""
    return 1 - sum(math.comb(n, i) * 0.025**i * 0.975 ** (n - i) for i in range(count))


def verdict(better: int, worse: int, n: int) -> dict[str, str]:
    """The ledger's word for better and worse in n settings; what chance alone may do (5 %) is nothing."""
    if better == n:
        return {"verdict": "holds"}
    if better and by_chance(better, n) < 0.05:
        return {"verdict": "within limits", "limits": f"in {better} of {n} settings"}
    return {"verdict": "does not hold here" if worse and by_chance(worse, n) < 0.05 else "not shown here"}


def said(found: dict[str, Any], digits: int = 4, unit: float = 1.0) -> str:
    """An interval in words."""
    mean, low, high = (f"{unit * found[key]:+.{digits}f}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


@pytest.mark.claim("F6", paper="Flat-LoRA", source="Flat-LoRA, 3.3 and 3.4", expected="passes and memory")
def test_what_a_step_costs(measured) -> None:
    """A step costs one forward and one backward pass, and hardly more time and memory than LoRA's."""
    g, sizes, n = torch.Generator().manual_seed(0), (48, 32, 24, 10), 256
    model = mlp(sizes, g).requires_grad_(False)
    x = torch.randn(n, sizes[0], generator=g, dtype=torch.float64)
    y = torch.randint(0, 10, (n,), generator=g)
    work: dict[str, int] = {}
    for name in ("r8.0", "r8.0.15", "sam full"):
        arm = ready(model, Split(x, y, x, y), name, 0)
        with FlopCounterMode(display=False) as counter:
            arm.loss(x, y, 1, 2).backward()
        work[name] = counter.get_total_flops()
    lengths = 2 * 8 * (sizes[0] * sizes[1] + sizes[1] * sizes[2])
    assert work["r8.0.15"] == work["r8.0"] + lengths  # of the rows of W0 + s·B·A
    assert work["sam full"] > 1.8 * work["r8.0"]
    times, more = [], set()
    for data, rows in {"digits": 128 + 128, "mnist": 128 + 64, "fashion": 128 + 64}.items():
        costs = read_costs(data)
        plain, noisy = costs["r8.0"], costs["r8.0.15"]
        times.append(noisy["step ms"] / plain["step ms"])
        more.add((noisy["kept bytes"] - plain["kept bytes"]) / rows)
    assert max(more) < 8  # a number of 4 bytes a row, and a seed for each of two layers
    few = f"{min(study.BATCH.values())} to {max(study.BATCH.values())}"
    sam = work["sam full"] / work["r8.0"]
    measured(
        f"the matrix products of a LoRA step, and B·A once a layer for the rows' lengths (SAM: "
        f"{sam:.1f} times LoRA's); up to {max(more):.1f} bytes more a row of weights; on "
        f"batches of {few} the step takes {min(times):.1f} to {max(times):.1f} times LoRA's time",
        verdict="within limits",
        limits="products and memory; the time of small batches is the draw's",
    )


def read_costs(data: str) -> dict[str, dict[str, float]]:
    """What a step of each arm took when the study was run."""
    return json.loads((RESULTS / f"flat_lora_{data}.json").read_text(encoding="utf8"))["costs"]


@pytest.mark.claim(
    "F9",
    paper="ours",
    source="Flat-LoRA, 1 and Fig. 1, as a number",
    expected="down at each step (toy: .318, .300, .241)",
)
def test_sharpness_falls_as_the_noise_of_training_grows(measured) -> None:
    """S(0.3) on training data falls from σ = 0 to 0.15 and from there to 0.5."""
    steps = [(d, *s) for d in STUDIES for s in (("r8.0.15", "r8.0"), ("r8.0.5", "r8.0.15"))]
    for data, values in STUDIES.items():
        means = [values[f"r8.{sigma}.sharpness"]["mean"] for sigma in ("0", "0.15", "0.5")]
        measured(f"{data}: " + ", ".join(f"{mean:.4f}" for mean in means))
    better, worse = compared(steps, "sharpness", -1)
    measured(
        f"{better} of {len(steps)} steps down, {worse} up, by 95 % intervals",
        **verdict(better, worse, len(steps)),
    )
    model, split = glra.task("digits", 0)
    again = {}
    for name in ("r8.0", "r8.0.5"):
        again[name] = study.measured(model, split, study.train(model, split, name, 0, "digits"))
        for key in ("sharpness", "test loss"):
            assert again[name][key] == pytest.approx(STUDIES["digits"][f"{name}.{key}"]["each"][0], rel=2e-3)
    assert again["r8.0.5"]["sharpness"] < again["r8.0"]["sharpness"]


@pytest.mark.claim("F10", paper="ours", source="Flat-LoRA, Tables 1 and 2", expected="holds")
def test_noise_of_the_papers_size_costs_no_accuracy(measured) -> None:
    """With σ up to 0.15 Flat-LoRA's test accuracy is at most half a point below LoRA's."""
    settings = [(data, sigma) for data in ("mnist", "fashion") for sigma in PAPER]
    within = []
    for data, sigma in settings:
        found = less(data, f"r8.{sigma}", "r8.0", "test accuracy")
        within.append(found["low"] > -0.005)
        measured(f"{data}, σ = {sigma}: {said(found, 2, 100)} points")
    for sigma in PAPER:
        measured(f"digits, σ = {sigma}: test loss {said(less('digits', f'r8.{sigma}', 'r8.0', 'test loss'))}")
    beyond = sum(
        less(data, f"r8.{sigma}", "r8.0", "test accuracy")["high"] < -0.005 for data, sigma in settings
    )
    assert beyond == 0
    assert all(within), "the book says that it costs no accuracy"
    measured(
        f"{sum(within)} of {len(settings)} intervals above −0.5 points",
        **verdict(sum(within), beyond, len(settings)),
    )


@pytest.mark.claim("F14", paper="Flat-LoRA", source="Flat-LoRA, 1 and 3", expected="lower, by little")
def test_it_ends_in_a_flatter_place(measured) -> None:
    """With the paper's σ, Flat-LoRA ends with a lower sharpness than LoRA: S(0.3) and the top eigenvalue."""
    pairs = [(data, f"r8.{sigma}", "r8.0") for data in STUDIES for sigma in PAPER]
    total = [0, 0]
    for key, name in (("sharpness", "S(0.3)"), ("top eigenvalue", "top eigenvalue")):
        better, worse = compared(pairs, key, -1)
        total = [total[0] + better, total[1] + worse]
        change = [
            100 * less(*pair, key)["mean"] / STUDIES[pair[0]][f"r8.0.{key}"]["mean"]
            for pair in pairs
            if pair[1] == "r8.0.15"
        ]
        measured(f"{name}: lower in {better} and higher in {worse} of {len(pairs)} settings")
        measured("at σ = 0.15 by " + ", ".join(f"{c:+.1f} %" for c in change))
    assert total[0] > 0
    assert total[1] == 0, "if it is sharper somewhere, a verdict of limits hides that"
    measured("digits, MNIST, Fashion-MNIST", **verdict(*total, 2 * len(pairs)))


@pytest.mark.claim(
    "F15",
    paper="Flat-LoRA",
    source="Flat-LoRA, Tables 1 and 2",
    expected="not in small nets",
)
def test_it_is_more_accurate(measured) -> None:
    """With the paper's σ, Flat-LoRA's test accuracy is above LoRA's."""
    by_size = {}
    for size, sigmas in (("paper", PAPER), ("larger", LARGER)):
        pairs = [(data, f"r8.{sigma}", "r8.0") for data in ("mnist", "fashion") for sigma in sigmas]
        by_size[size] = (*compared(pairs, "test accuracy", 1), len(pairs))
    assert by_size["paper"][0] == 0
    assert by_size["larger"][1] > by_size["larger"][0]
    for data in ("mnist", "fashion"):
        points = said(less(data, "r8.0.15", "r8.0", "test accuracy"), 2, 100)
        measured(f"{data}, σ = 0.15: {points} points")
    measured("at σ of 0.5 and 1 better in {} and worse in {} of {}".format(*by_size["larger"]))
    measured(
        "at the paper's better in {} and worse in {} of {}".format(*by_size["paper"]),
        **verdict(*by_size["paper"]),
    )


ON_TEST = {"digits": ("test loss", -1), "mnist": ("test accuracy", 1), "fashion": ("test accuracy", 1)}


def on_test(pairs: list[tuple[str, str]]) -> tuple[str, dict[str, str]]:
    """Arms beside their controls on each data set, by accuracy (digits: loss): the count and the verdict."""
    better = worse = 0
    for data, (key, sign) in ON_TEST.items():
        up, down = compared([(data, *pair) for pair in pairs], key, sign)
        better, worse = better + up, worse + down
    n = len(ON_TEST) * len(pairs)
    return f"better in {better} and worse in {worse} of {n} settings, by 95 % intervals", verdict(
        better, worse, n
    )


@pytest.mark.claim("F18", paper="Flat-LoRA", source="Flat-LoRA, Table 3", expected="not shown in small nets")
def test_it_helps_other_adapters(measured) -> None:
    """PiSSA, DoRA and LoRA-GA trained under noise of σ = 0.15 are better on the test than without."""
    pairs = [(f"{kind}.0.15", f"{kind}.0") for kind in ("pissa", "dora", "ga")]
    for arm, other in pairs:
        points = said(less("mnist", arm, other, "test accuracy"), 2, 100)
        measured(f"{other.partition('.')[0]}: {points} points on MNIST")
    counted, ledger = on_test(pairs)
    measured(f"{counted}; accuracy, and on digits the loss", **ledger)


@pytest.mark.claim("F19", paper="Flat-LoRA", source="Flat-LoRA, Fig. 2", expected="not shown in small nets")
def test_it_helps_at_all_ranks(measured) -> None:
    """At ranks 1 to 64, Flat-LoRA with σ = 0.15 is better on the test than LoRA."""
    pairs = [(f"r{rank}.0.15", f"r{rank}.0") for rank in RANKS]
    for rank, (arm, other) in zip(RANKS, pairs, strict=True):
        measured(f"rank {rank}: {said(less('mnist', arm, other, 'test accuracy'), 2, 100)} points on MNIST")
    counted, ledger = on_test(pairs)
    measured(f"{counted}; accuracy, and on digits the loss", **ledger)


def test_the_stored_differences_are_those_of_the_stored_runs() -> None:
    """Each difference in the results is its arm's value less the other's, seed by seed, over five seeds."""
    checked = 0
    for data, values in STUDIES.items():
        for name, entry in values.items():
            arm, minus, rest = name.partition(".minus ")
            assert entry["n"] == 5
            if minus:
                key = next(k for k in KEYS if rest.endswith(k))
                other = rest.removesuffix(f".{key}")
                assert entry["each"] == pytest.approx(less(data, arm, other, key)["each"], abs=1e-12)
                checked += 1
    assert checked > 100


def test_the_rules_of_these_verdicts() -> None:
    """Better everywhere holds, better above chance has limits, worse above chance and no better does not."""
    assert verdict(3, 0, 3) == {"verdict": "holds"}
    assert verdict(4, 1, 12) == {"verdict": "within limits", "limits": "in 4 of 12 settings"}
    assert verdict(0, 3, 15) == {"verdict": "does not hold here"}
    assert verdict(0, 0, 3) == {"verdict": "not shown here"}
    assert verdict(1, 0, 9) == verdict(0, 1, 15) == {"verdict": "not shown here"}
    assert by_chance(0, 5) == pytest.approx(1)
    assert by_chance(1, 2) == pytest.approx(1 - 0.975**2)
    assert by_chance(3, 3) == pytest.approx(0.025**3)


@pytest.mark.claim("F22", paper="ours", source="ours, on Flat-LoRA, Eq. 4", expected="towards Flat-LoRA")
def test_the_lowest_point_walks_to_flat_lora(measured) -> None:
    """On the line from LoRA to Flat-LoRA, the lowest point of the average loss moves with σ to Flat-LoRA."""
    values = read(RESULTS / "noisy_line.json")
    sigmas = [sigma for sigma in noisy_line.SIGMAS if sigma <= noisy_line.TRAINED]
    steps = list(itertools.pairwise(sigmas))
    each = {sigma: values[f"{sigma:g}.lowest"]["each"] for sigma in noisy_line.SIGMAS}
    walks = [all(b >= a for a, b in zip(each[s], each[t], strict=True)) for s, t in steps]
    start, trained = (interval(each[s]) for s in (0.0, noisy_line.TRAINED))
    assert len(each[0.0]) >= 5
    assert all(walks)
    assert start["high"] < 0.5 < trained["low"]
    test = values["test.lowest"]
    measured(
        f"Flat-LoRA trained at σ = {noisy_line.TRAINED}, t = 0 is LoRA and t = 1 Flat-LoRA: lowest at "
        f"t = {start['mean']:.2f} [{start['low']:.2f}, {start['high']:.2f}] without noise and at "
        f"{trained['mean']:.2f} [{trained['low']:.2f}, {trained['high']:.2f}] at σ = {noisy_line.TRAINED}, "
        f"further at each step of σ up to there in each seed; the test loss at {test['mean']:.2f} "
        f"[{test['low']:.2f}, {test['high']:.2f}]; n = {len(each[0.0])}"
    )

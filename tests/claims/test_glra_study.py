"""The checks on GLRA as training, G9 and G12, on what the studies measured: three data sets, five seeds."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest

from geolessons.studies.glra import RATES
from geolessons.studies.record import read

RESULTS = Path(__file__).parents[2] / "book" / "results"
FILES = {"digits": "glra.json", "mnist": "glra_mnist.json", "fashion": "glra_fashion.json"}
STUDIES = {data: read(RESULTS / file) for data, file in FILES.items()}
SETTINGS = [
    (data, f"{optimiser}.{lr:g}")
    for data in STUDIES
    for optimiser, rates in RATES[data].items()
    for lr in rates
]


def each(what: str) -> list[tuple[str, str, list[float]]]:
    """A value of every setting: (data, setting, one number a seed)."""
    return [(data, at, STUDIES[data][f"{at}.{what}"]["each"]) for data, at in SETTINGS]


def signs(metric: str, control: str, sign: int) -> tuple[int, int]:
    """In how many settings GLRA is better than a control, and worse: the 95 % interval leaves 0 out."""
    found = [STUDIES[data][f"{at}.glra-{control}.{metric}"] for data, at in SETTINGS]
    ends = [(sign * i["low"], sign * i["high"]) for i in found]
    return sum(min(pair) > 0 for pair in ends), sum(max(pair) < 0 for pair in ends)


def supported(metric: str, sign: int) -> int:
    """In how many settings GLRA is better than LoRA and than ramped LoRA."""
    intervals = [
        [STUDIES[data][f"{at}.glra-{control}.{metric}"] for control in ("lora", "ramped")]
        for data, at in SETTINGS
    ]
    return sum(all(min(sign * i["low"], sign * i["high"]) > 0 for i in pair) for pair in intervals)


def report(measured, metric: str, sign: int) -> None:
    """Record a comparison by the rule of the specs: it must hold against both controls."""
    n, both = len(SETTINGS), supported(metric, sign)
    parts = [
        f"in {n} settings, better and worse than LoRA: {'{} and {}'.format(*signs(metric, 'lora', sign))}"
    ]
    parts.append("than the ramped control: {} and {}".format(*signs(metric, "ramped", sign)))
    parts.append(f"better than both: {both}")
    if both == n:
        outcome = {"verdict": "holds"}
    elif both:
        outcome = {"verdict": "within limits", "limits": f"in {both} of {n} settings"}
    else:
        worse = signs(metric, "lora", sign)[1]
        outcome = {"verdict": "does not hold here" if worse else "not shown here"}
    measured("; ".join(parts), **outcome)


@pytest.mark.claim(
    "G9",
    paper="ours",
    source="GLRA, Eq. 2, expanded",
    expected="within 5 % or twice the chaos floor; LoRA over 20 %",
)
def test_at_small_angles_it_is_ramped_lora(measured) -> None:
    """Up to an angle of 0.4, GLRA and LoRA with a ramped scale end at the same place; LoRA ends elsewhere."""
    small, far, large = [], [], []
    rows = zip(
        each("glra.largest omega"),
        each("gap to ramped"),
        each("gap to lora"),
        each("chaos floor"),
        strict=True,
    )
    for (_, _, omegas), (_, _, gaps), (_, _, to_lora), (_, _, floors) in rows:
        for omega, gap, lora, floor in zip(omegas, gaps, to_lora, floors, strict=True):
            if omega <= 0.4:
                assert gap <= max(0.05, 2 * floor), (omega, gap, floor)
                small.append(gap)
                far.append(lora)
            elif omega > 0.8:
                large.append(gap)
    assert len(small) >= 15
    assert min(far) > 0.2
    assert fmean(large) > 0.05
    measured(
        f"{len(small)} runs with ω up to 0.4: gap at most {100 * max(small):.1f} % of the move, LoRA "
        f"at least {100 * min(far):.0f} % away; {len(large)} runs with ω over 0.8: gap "
        f"{100 * min(large):.0f} to {100 * max(large):.0f} %"
    )


@pytest.mark.claim(
    "G12a", paper="GLRA", source="GLRA, 6.4", expected="the sign changes; nothing against the ramp"
)
def test_it_converges_faster(measured) -> None:
    """GLRA's training loss, averaged over the run, is below LoRA's and below the ramped control's."""
    reached = [r for _, _, values in each("glra.reached LoRA's loss") for r in values]
    measured(f"{sum(map(int, reached))} of {len(reached)} runs reach LoRA's final training loss")
    report(measured, "mean train loss", -1)


@pytest.mark.claim("G12b", paper="GLRA", source="GLRA, 6.4", expected="nothing against the ramp")
def test_it_is_slightly_more_accurate(measured) -> None:
    """GLRA ends with a better test accuracy than LoRA and than the ramped control."""
    report(measured, "test accuracy", 1)


@pytest.mark.claim("G12c", paper="GLRA", source="GLRA, 6.4", expected="the sign changes with the optimiser")
def test_its_gradient_norms_are_steadier(measured) -> None:
    """GLRA's gradient norm varies less over the run, for its mean, than LoRA's and the ramped control's."""
    report(measured, "gradient steadiness", -1)


@pytest.mark.claim(
    "G12d", paper="GLRA", source="GLRA, 6.4", expected="smaller with slow SGD, larger with Adam"
)
def test_it_shifts_the_parameters_less(measured) -> None:
    """GLRA ends nearer to the pre-trained weights than LoRA and than the ramped control."""
    report(measured, "distance", -1)


@pytest.mark.claim("G12e", paper="GLRA", source="GLRA, 3.4", expected="not shown")
def test_it_ends_in_a_flatter_place(measured) -> None:
    """Under noise of 0.3 of each row's size the loss rises less after GLRA than after its controls."""
    report(measured, "sharpness", -1)

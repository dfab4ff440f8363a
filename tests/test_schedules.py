"""Schedules go from 0 to 1, never back; each has its shape."""

import math
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geolessons.schedules import cosine, linear, plateau, stages

ALL = {
    "linear": linear,
    "cosine": cosine,
    "stages": partial(stages, count=3),
    "plateau": plateau(cosine, 0.2),
    "plateau of stages": plateau(partial(stages, count=2), 0.5),
}


@pytest.mark.parametrize("schedule", ALL.values(), ids=ALL)
@settings(deadline=None, max_examples=30, derandomize=True)
@given(N=st.integers(6, 300))
def test_from_zero_to_one_and_never_back(schedule, N):
    values = [schedule(i, N) for i in range(N + 1)]
    assert values[0] == 0
    assert values[-1] == 1
    assert values == sorted(values)
    assert values[1] > 0
    for i in (-1, N + 1):
        with pytest.raises(ValueError, match=rf"step i={i} of N={N}"):
            schedule(i, N)
    with pytest.raises(ValueError, match="N must be positive"):
        schedule(0, 0)


def test_shapes():
    assert [linear(i, 4) for i in range(5)] == [0, 0.25, 0.5, 0.75, 1]
    for i in range(11):
        assert cosine(i, 10) == pytest.approx((1 - math.cos(math.pi * i / 10)) / 2, abs=1e-15)
    assert cosine(5, 10) == 0.5
    assert [stages(i, 20) for i in (1, 2, 3, 18, 19, 20)] == [0.1, 0.1, 0.2, 0.9, 1, 1]
    assert [stages(i, 7, count=2) for i in range(1, 8)] == [0.5, 0.5, 0.5, 1, 1, 1, 1]
    held = plateau(linear, 0.3)
    assert [held(i, 10) for i in range(11)] == [min(i / 7, 1) for i in range(11)]
    assert [plateau(linear, 0.3)(i, 4) for i in range(5)] == [0, 0.5, 1, 1, 1]  # rounded up
    assert plateau(linear, 0.9)(1, 1) == 1


@pytest.mark.parametrize("count", [0, 11, -1])
def test_stages_refuse(count):
    with pytest.raises(ValueError, match=f"count={count} must be from 1 to N=10"):
        stages(1, 10, count=count)


@pytest.mark.parametrize("share", [0, 1, -0.5, 2, math.nan])
def test_plateau_refuses(share):
    with pytest.raises(ValueError, match=r"share=.* must be between 0 and 1"):
        plateau(linear, share)

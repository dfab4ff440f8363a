"""Schedules: how far along the road to be at step i of N, from 0 at i = 0 to 1 at i = N.

In a training loop count steps from 1: at t = 0 the gradients of a low-rank adapter are exactly zero::

    for i in range(1, N + 1):
        set_t(model, stages(i, N))

As factors of a strength of noise they may count from 0, as Flat-LoRA's code does: `sigma * cosine(i - 1, N)`.

GLRA says "0 to 1 over a fixed number of stages" and gives no number; ten, the others and `plateau` are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

__all__ = ["Schedule", "constant", "cosine", "linear", "plateau", "stages"]

Schedule = Callable[[int, int], float]


def constant(i: int, N: int) -> float:
    """1 at every step; for a strength of noise, not for a road.

    Raises:
        ValueError: If i is not from 0 to N, or N not positive.
    """
    _check(i, N)
    return 1.0


def linear(i: int, N: int) -> float:
    """The share of the steps done, i/N.

    Raises:
        ValueError: If i is not from 0 to N, or N not positive.
    """
    _check(i, N)
    return i / N


def cosine(i: int, N: int) -> float:
    """Half a turn of the cosine, (1 − cos(π·i/N))/2: slow, fast, slow.

    Raises:
        ValueError: If i is not from 0 to N, or N not positive.

    Example:
        >>> cosine(5, 10)
        0.5
    """
    _check(i, N)
    return math.sin(math.pi / 2 * (i / N)) ** 2 if 2 * i != N else 0.5


def stages(i: int, N: int, *, count: int = 10) -> float:
    """Equal stages: 1/count in the first N/count steps, then 2/count, … and 1 in the last.

    Raises:
        ValueError: If i is not from 0 to N, N not positive, or `count` not from 1 to N.

    Example:
        >>> [stages(i, 6, count=3) for i in (1, 2, 3, 6)] == [1 / 3, 1 / 3, 2 / 3, 1]
        True
    """
    _check(i, N)
    if not 1 <= count <= N:
        raise ValueError(f"count={count} must be from 1 to N={N}: a stage takes at least one step")
    return -(-i * count // N) / count


def plateau(schedule: Schedule, share: float = 0.1) -> Schedule:
    """The schedule made to end early: it reaches 1 and stays there for the last `share` of the steps.

    Args:
        schedule: E.g. `cosine`, which is walked in the steps before.
        share: Of the N steps, rounded up; in (0, 1).

    Raises:
        ValueError: If `share` is not between 0 and 1.

    Example:
        >>> [plateau(linear, 0.5)(i, 8) for i in (0, 2, 4, 8)]
        [0.0, 0.5, 1.0, 1.0]
    """
    if not 0 < share < 1:
        raise ValueError(f"share={share} must be between 0 and 1: the part of the steps spent at t = 1")
    return partial(_held, schedule, share)


def _held(schedule: Schedule, share: float, i: int, N: int) -> float:
    _check(i, N)
    walked = max(1, N - math.ceil(round(share * N, 9)))
    return schedule(min(i, walked), walked)


def _check(i: int, N: int) -> None:
    if N < 1 or not 0 <= i <= N:
        raise ValueError(f"step i={i} of N={N}: N must be positive and i from 0 to N")

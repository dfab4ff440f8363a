"""From answers to sentences: what came from a submission beside what came from the solution.

It runs in the grader's own process, on data alone; a submission never meets it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from geolessons.coursework.assignments import Exercise

__all__ = ["CHANGED", "DIFFERS", "KIND", "faults"]

KIND = "The answer is not of the kind that was asked."
SHAPE = "The shape of the answer is not the one asked."
DTYPE = "The number type (dtype) of the answer is not the one asked."
FINITE = "The answer holds NaN or infinity where it must be a number."
LARGE = "The answer is larger than what was asked."
DIFFERS = "On other inputs than the notebook's the answer differs from the one expected."
CHANGED = "The inputs were to stay as they were; the call changed them."
FLOAT32, FLOAT64 = 1e-5, 1e-9  # relative tolerance


def faults(exercise: Exercise, got: Any, want: Any, *, dtype: str = "") -> list[str]:
    """What is wrong with an answer, in sentences; none if it is right.

    Without a judge, a key with the word "afterwards" holds inputs once the call is over: a difference there
    is said to be a change of the inputs, and no looser tolerance of the exercise applies.

    Args:
        exercise: With its judge, or its tolerances.
        got: What the probe returned beside the submission.
        want: What it returned beside the solution.
        dtype: "float32" if the probe was given it; numbers without a type of their own are then compared so.
    """
    if not isinstance(got, dict) or not isinstance(want, dict) or got.keys() != want.keys():
        return [KIND]
    for key, value in want.items():
        if sum(_sizes(got[key])) > 10 * sum(_sizes(value)) + 100_000:
            return [LARGE]
        if not all(_finite(got[key])) and all(_finite(value)):
            return [FINITE]
    if exercise.judge is not None:
        return _judged(exercise, got, want)
    loose = FLOAT32 if dtype == "float32" else FLOAT64
    found = []
    for key, value in want.items():
        if "afterwards" in key:  # inputs, once the call is over
            found.append(CHANGED if _apart(got[key], value, None, None, loose) else None)
        else:
            found.append(_apart(got[key], value, _of(exercise.rtol, key), _of(exercise.atol, key), loose))
    return list(dict.fromkeys(sentence for sentence in found if sentence))


def _judged(exercise: Exercise, got: Any, want: Any) -> list[str]:
    try:
        said = _judge(exercise.judge or "")(got, want)
        return [str(sentence) for sentence in said]
    except Exception:  # a judge takes for granted what a solution returns; here is something else
        return [KIND]


@functools.lru_cache(1000)
def _judge(source: str) -> Callable[[Any, Any], list[str]]:
    space: dict[str, Any] = {"__name__": "judge"}
    exec(compile(source, "<judge>", "exec"), space)
    return space["judge"]


def _of(tolerance: float | Mapping[str, float] | None, key: str) -> float | None:
    return tolerance.get(key) if isinstance(tolerance, Mapping) else tolerance


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _leaves(part)
    else:
        yield value


def _sizes(value: Any) -> Iterator[int]:
    for leaf in _leaves(value):
        yield leaf.numel() if isinstance(leaf, Tensor) else len(leaf) if isinstance(leaf, str) else 1


def _finite(value: Any) -> Iterator[bool]:
    for leaf in _leaves(value):
        if isinstance(leaf, Tensor):
            yield bool(leaf.isfinite().all())
        elif isinstance(leaf, float):
            yield bool(torch.isfinite(torch.tensor(leaf)))


def _apart(got: Any, want: Any, rtol: float | None, atol: float | None, loose: float) -> str | None:
    """The first difference between two values, in a sentence."""
    if isinstance(want, dict | list):
        if type(got) is not type(want) or len(got) != len(want):
            return KIND
        if isinstance(want, dict) and (not isinstance(got, dict) or got.keys() != want.keys()):
            return KIND
        keys: Iterable[Any] = want if isinstance(want, dict) else range(len(want))
        parts = (_apart(got[key], want[key], rtol, atol, loose) for key in keys)
        return next((sentence for sentence in parts if sentence), None)
    if isinstance(want, Tensor):
        return _tensors_apart(got, want, rtol, atol)
    if isinstance(want, bool) or not isinstance(want, int | float):
        if type(got) is not type(want):
            return KIND
        return None if got == want else DIFFERS
    if isinstance(got, Tensor) and got.numel() == 1 and got.dtype is not torch.bool:
        got = got.item()
    if isinstance(got, bool) or not isinstance(got, int | float):
        return KIND
    a, b = (torch.tensor(x, dtype=torch.float64) for x in (got, want))
    return _tensors_apart(a, b, loose if rtol is None else rtol, atol)


def _tensors_apart(got: Any, want: Tensor, rtol: float | None, atol: float | None) -> str | None:
    if not isinstance(got, Tensor):
        return KIND
    if got.shape != want.shape:
        return SHAPE
    if got.dtype != want.dtype:
        return DTYPE
    if not (want.is_floating_point() or want.is_complex()) or not want.numel():
        return None if torch.equal(got, want) else DIFFERS
    if rtol is None:
        rtol = FLOAT64 if want.dtype in (torch.float64, torch.complex128) else FLOAT32
    if atol is None:  # entries that are small beside others carry the others' rounding
        finite = want[want.isfinite()].abs()
        atol = rtol * float(finite.max()) if finite.numel() else 0.0
    return None if torch.allclose(got, want, rtol=rtol, atol=atol, equal_nan=True) else DIFFERS

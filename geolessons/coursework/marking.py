"""Marks for one student's cells: put into a clean copy of the assignment, and run on other cases too.

For each exercise a probe runs beside the student's function, where it can do no harm, and beside the
solution; here the two answers, which are data, are compared.  What is right is never told to a submission.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import functools
import io
import json
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch

from geolessons.coursework import answers, isolation
from geolessons.coursework.assignments import Assignment, Exercise
from geolessons.coursework.isolation import Jail, Limits
from geolessons.coursework.judging import faults

__all__ = ["MISSING", "UNWRITTEN", "Outcome", "expected", "grade_source", "modules", "outcomes"]

Case = tuple[dict[str, Any], Any]  # facts and a value, as the worker sends them
Wanted = Mapping[str, list[Any]]  # exercise to what its probe returns beside the solution, case by case
UNWRITTEN, MISSING = "It is not written yet.", "No cell that answers it was found."
CHECK = "The check in the notebook does not pass."
ENDED = "It ended its own process, or broke it, before it had answered."
MEMORY = "It took more memory than it may, and was stopped."


class Outcome(NamedTuple):
    """The verdict on an exercise, and what is wrong, in sentences that a student may read."""

    right: bool
    sentences: list[str]


class Answers(NamedTuple):
    """How an exercise ended ("" if by itself), the seconds it took, and what it sent."""

    why: str
    seconds: float
    sent: list[Case]


def grade_source(
    assignment: Assignment,
    sources: Mapping[str, str],
    *,
    seed: int = 0,
    isolated: bool = False,
    only: Iterable[str] | None = None,
) -> dict[str, Outcome]:
    """Grade the cells of one student.

    Args:
        assignment: To which they belong.
        sources: Number of an exercise to the source of the whole solution cell.
        seed: Of the hidden cases.
        isolated: Run them apart, in the best isolation there is; otherwise here, quickly and without any
            limit, which is for answers that you wrote.
        only: Numbers of the exercises to grade; all if None.

    Returns:
        Number to outcome.

    Raises:
        ValueError: If the assignment's own solution does not pass.
    """
    numbers = list(assignment.exercises) if only is None else list(only)
    if isolated:
        with Jail(isolation.best(), Limits(), modules=modules([assignment])) as jail:
            return outcomes(assignment, sources, seed, expected(assignment, seed, jail, numbers), jail)
    return outcomes(assignment, sources, seed, expected(assignment, seed, None, numbers), None)


def expected(
    assignment: Assignment, seed: int, jail: Jail | None = None, only: Iterable[str] | None = None
) -> dict[str, list[Any]]:
    """What the probes return beside the assignment's own solutions.

    Args:
        assignment: With its solutions.
        seed: Of the hidden cases.
        jail: Where to run them; here if None.
        only: Numbers of exercises; all if None.

    Raises:
        ValueError: If a solution does not pass its own checks; the message names the exercise.
    """
    solutions = {n: e.solution for n, e in assignment.exercises.items()}
    found = {}
    for number in assignment.exercises if only is None else only:
        run = _run(assignment, solutions, number, seed, jail)
        wanted = [value for about, value in run.sent if "case" in about and "error" not in about]
        outcome = _outcome(assignment.exercises[number], run, seed, wanted, jail)
        if not outcome.right:
            said = [about for about, _ in run.sent if "error" in about or "cell" in about]
            raise ValueError(
                f"{assignment.path}: the solution of {number} does not pass: {outcome.sentences} {said}"
            )
        found[number] = wanted
    return found


def outcomes(
    assignment: Assignment, sources: Mapping[str, str], seed: int, wanted: Wanted, jail: Jail | None
) -> dict[str, Outcome]:
    """The verdicts on one student's cells, for all exercises in `wanted`, which `expected` has returned."""
    found = {}
    for number, want in wanted.items():
        exercise = assignment.exercises[number]
        if number in sources:
            found[number] = _outcome(
                exercise, _run(assignment, sources, number, seed, jail), seed, want, jail
            )
        else:
            found[number] = Outcome(False, [MISSING])
    return found


def _outcome(exercise: Exercise, run: Answers, seed: int, want: list[Any], jail: Jail | None) -> Outcome:
    """The verdict on one exercise."""
    if run.why == "time":
        seconds = jail.limits.seconds if jail else 0
        return Outcome(False, [f"It took longer than {seconds:.3g} s and was stopped."])
    if run.why:
        return Outcome(False, [MEMORY if run.why == "memory" else ENDED])
    cases = _cases(exercise, seed)
    by_case: dict[int, Case] = {}
    sentences: list[str] = []
    for about, value in run.sent:
        if "cell" in about:
            return Outcome(False, [_stops("The cell", about["cell"], about.get("line"))])
        if isinstance(case := about.get("case"), int):
            by_case.setdefault(case, (about, value))  # the first one counts
    for i, keywords in enumerate(cases):
        about, value = by_case.get(i, ({"error": None}, None))
        if "error" not in about:
            sentences += faults(
                exercise, value, want[i] if i < len(want) else None, dtype=keywords.get("dtype", "")
            )
        elif about["error"] is None:
            sentences.append(ENDED)
        elif about["error"] == "Unwritten":
            sentences.append(UNWRITTEN)
        else:
            sentences.append(_stops("It", about["error"], about.get("line")))
    checks = [about["check"] for about, _ in run.sent if "check" in about]
    if checks != [True]:
        sentences.insert(0, CHECK)
    sentences = list(dict.fromkeys(sentences))
    return Outcome(not sentences, [UNWRITTEN] if UNWRITTEN in sentences else sentences)


def _stops(what: str, kind: Any, line: Any) -> str:
    """A sentence on an exception; its kind and line come from where the submission ran."""
    known = isinstance(kind, str) and isinstance(getattr(builtins, kind, None), type)
    where = f" in line {line} of its cell" if isinstance(line, int) and 0 < line < 10000 else ""
    return f"{what} stops with {kind if known else 'an exception'}{where}."


def _run(
    assignment: Assignment, sources: Mapping[str, str], number: str, seed: int, jail: Jail | None
) -> Answers:
    """Run the probe and the check of one exercise beside a student's cells."""
    exercise = assignment.exercises[number]
    probe = ast.parse(exercise.probe)
    function = probe.body[0]
    assert isinstance(function, ast.FunctionDef)
    takes = [a.arg for a in function.args.args]
    called = {node.id for node in ast.walk(ast.parse(exercise.check)) if isinstance(node, ast.Name)}
    names = {n: e.name for n, e in assignment.exercises.items()}
    first = {
        "setup": assignment.setup,
        "cells": {n: [names[n], sources[n]] for n in assignment.exercises if n in sources},
        "number": number,
        "also": [n for n, name in names.items() if n != number and name in (*takes, *called)],
    }
    second = {
        "probe": ast.unparse(probe),  # without comments
        "takes": takes,
        "cases": _cases(exercise, seed),
        "check": exercise.check,
    }
    if jail is None:
        return Answers("", 0.0, list(_here(json.dumps(first), json.dumps(second))))
    ended = jail.run(first, second)
    return Answers(ended.why, ended.seconds, list(answers.frames(ended.answers)))


def _cases(exercise: Exercise, seed: int) -> list[dict[str, Any]]:
    """The keywords that a probe is called with, call by call."""
    function = ast.parse(exercise.probe).body[0]
    assert isinstance(function, ast.FunctionDef)
    keywords = {a.arg for a in function.args.kwonlyargs}
    seeded = {"seed": seed} if "seed" in keywords else {}
    if "dtype" in keywords:
        return [{**seeded, "dtype": dtype} for dtype in ("float32", "float64")]
    return [seeded]


@functools.lru_cache(64)
def _here(first: str, second: str) -> tuple[Case, ...]:
    """What the worker would send, in this process; its generator and its output are left alone."""
    sent = io.BytesIO()

    def emit(about: dict[str, Any], value: Any) -> None:
        sent.write(answers.frame(about, value))

    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    try:
        with torch.random.fork_rng(devices=[]), quiet[0], quiet[1], warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in a process of its own, where they are not errors
            answers.evaluate(json.loads(first), lambda: json.loads(second), emit, {"__name__": "__main__"})
    finally:
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
    return tuple(answers.frames(sent.getvalue()))


def modules(assignments: Iterable[Assignment]) -> set[str]:
    """The modules that imported in cells of assignments: a jail imports them once."""
    found = set()
    for assignment in assignments:
        cells = (e for e in assignment.exercises.values())
        for source in (*assignment.setup, *(s for e in cells for s in (e.solution, e.check, e.probe))):
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Import):
                    found |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    found.add(node.module)
    return found

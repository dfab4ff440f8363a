"""Marks for a folder of submissions: each runs apart, some side by side; a run that was stopped goes on."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import queue
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from geolessons.coursework import isolation, reports
from geolessons.coursework.assignments import Assignment, read_assignment
from geolessons.coursework.handed_in import Submission, read_submissions
from geolessons.coursework.isolation import Jail, Limits
from geolessons.coursework.marking import UNWRITTEN, Outcome, expected, grade_source, modules, outcomes
from geolessons.coursework.reports import Result
from geolessons.files import replacing

__all__ = ["Outcome", "grade_folder", "grade_source", "main"]

CODE = sorted(Path(__file__).parent.glob("*.py"))


def grade_folder(
    submissions: str | Path,
    out: str | Path,
    assignments: str | Path,
    *,
    jobs: int = 1,
    seed: int = 0,
    seconds: float = 120.0,
    limits: Limits = Limits(),  # noqa: B008 (a tuple of numbers)
    kind: str = "auto",
    fresh: bool = False,
) -> list[Result]:
    """Grade a folder of submissions; write the table of marks, and a report for each.

    What is done is kept beside the table, so that a run that was stopped goes on; a submission is graded
    again when it, its assignment, the seed or a limit has changed.

    Args:
        submissions: One notebook a student, or one folder a student with notebooks in it.
        out: The table, CSV; reports come to `NAME_reports` beside it, results to `NAME_results`.
        assignments: Folder of the assignments' folders, or one such folder.
        jobs: Submissions to run side by side.
        seed: Of the hidden cases.
        seconds: Processor time that a submission may take; each of its exercises has an equal part, and four
            times as long on the clock.
        limits: On memory, files and processes; its `seconds` are for one exercise, if less than that part.
        kind: Of isolation, see `isolation`.
        fresh: Grade also what was graded before.

    Returns:
        One result a student and assignment, in the order of the table.

    Raises:
        NotADirectoryError: If a folder is not there.
        ValueError: If there is nothing to grade, or an assignment does not pass its own checks.
    """
    from tqdm import tqdm

    submissions, out, assignments = Path(submissions), Path(out), Path(assignments)
    known = read_assignments(assignments)
    handed_in = read_submissions(submissions, known)
    kind = isolation.best(kind)
    used = {s.assignment: known[s.assignment] for s in handed_in if s.assignment is not None}
    allowed = {
        n: limits._replace(seconds=min(limits.seconds, seconds / len(a.exercises))) for n, a in used.items()
    }
    store = _Store(out, seed, kind)
    results: dict[int, Result] = {}
    for i, s in enumerate(handed_in):
        if s.assignment is None:
            results[i] = Result(s.student, None, {}, s.notes)
        elif not fresh and (kept := store.kept(s, used[s.assignment], allowed[s.assignment])):
            results[i] = kept
    todo = [i for i in range(len(handed_in)) if i not in results]
    wanted = _Wanted(seed)

    def grade(i: int, jails: queue.SimpleQueue[Jail]) -> tuple[int, Result]:
        submission, jail = handed_in[i], jails.get()
        try:
            assert submission.assignment is not None
            assignment, jail.limits = used[submission.assignment], allowed[submission.assignment]
            want = wanted.of(assignment, jail)
            jail.next_submission()
            found = outcomes(assignment, submission.sources, seed, want, jail)
            for number in submission.unwritten:
                found[number] = Outcome(False, [UNWRITTEN])
            result = Result(submission.student, assignment, found, submission.notes)
            store.keep(submission, allowed[submission.assignment], result)
            return i, result
        finally:
            jails.put(jail)

    masked = [assignments, submissions, out.parent]
    with _jails(min(jobs, len(todo)), kind, limits, modules(used.values()), masked) as jails:
        bar = tqdm(total=len(handed_in), initial=len(results), desc="graded", unit="", disable=None)
        with bar, ThreadPoolExecutor(max(1, min(jobs, len(todo)))) as pool:
            try:
                for done in as_completed([pool.submit(grade, i, jails) for i in todo]):
                    i, results[i] = done.result()
                    bar.update()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for jail in jails.all:
                    jail.close()
                raise
    ordered = [results[i] for i in range(len(handed_in))]
    reports.write(ordered, out)
    return ordered


def main(options: argparse.Namespace) -> int:
    """What `geolessons grade` does; the exit status, 130 if it was stopped by the keyboard."""
    kind = isolation.best(getattr(options, "isolation", "auto"))
    print(isolation.sentence(kind))
    limits = Limits(memory=options.memory << 20)
    try:
        results = grade_folder(
            options.submissions,
            options.out,
            options.assignments,
            jobs=options.jobs,
            seed=options.seed,
            seconds=options.time,
            limits=limits._replace(seconds=getattr(options, "exercise_time", None) or options.time),
            kind=kind,
            fresh=getattr(options, "fresh", False),
        )
    except KeyboardInterrupt:
        print("Stopped. What was graded is kept: the same command goes on.", file=sys.stderr)
        return 130
    graded = [result for result in results if result.assignment is not None]
    unread, odd = len(results) - len(graded), sum(bool(result.notes) for result in graded)
    counts = f"{len(graded)} graded, {odd} with a note" + f", {unread} could not be read" * bool(unread)
    print(f"{counts}: {options.out}, reports in {reports.folder(options.out)}")
    return 0


def read_assignments(folder: Path) -> dict[str, Assignment]:
    """Number to assignment, of a folder of assignments' folders, or of one such folder.

    Raises:
        NotADirectoryError: If there is no such folder.
        ValueError: If no assignment is in it, or two have the same number.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: there is no such folder of assignments")
    paths = [p for p in (folder / "solved.ipynb", *sorted(folder.glob("*/solved.ipynb"))) if p.is_file()]
    found: dict[str, Assignment] = {}
    for path in paths:
        assignment = read_assignment(path)
        if assignment.number in found:
            raise ValueError(f"{path}: assignment {assignment.number} is {found[assignment.number].path} too")
        found[assignment.number] = assignment
    if not found:
        raise ValueError(f"{folder}: no assignment in it, which would be a folder with a solved.ipynb")
    return found


class _Jails(queue.SimpleQueue[Jail]):
    """Those that are free, and all of them."""

    all: tuple[Jail, ...] = ()


@contextlib.contextmanager
def _jails(count: int, kind: str, limits: Limits, imported: set[str], masked: list[Path]) -> Iterator[_Jails]:
    with contextlib.ExitStack() as stack:
        found = _Jails()
        jails = (Jail(kind, limits, modules=imported, masked=masked) for _ in range(count))
        found.all = tuple(stack.enter_context(jail) for jail in jails)
        for jail in found.all:
            found.put(jail)
        yield found


class _Wanted:
    """What the solutions answer, asked for once each."""

    def __init__(self, seed: int) -> None:
        self._seed, self._lock = seed, threading.Lock()
        self._found: dict[str, dict[str, list[Any]]] = {}

    def of(self, assignment: Assignment, jail: Jail) -> dict[str, list[Any]]:
        with self._lock:
            if assignment.number not in self._found:
                self._found[assignment.number] = expected(assignment, self._seed, jail)
            return self._found[assignment.number]


class _Store:
    """Results of submissions, a file each, beside the table of marks."""

    def __init__(self, out: Path, seed: int, kind: str) -> None:
        self._folder = out.with_name(f"{out.stem}_results")
        self._run = [seed, kind, *(hashlib.sha256(path.read_bytes()).hexdigest() for path in CODE)]

    def _digest(self, submission: Submission, assignment: Assignment, limits: Limits) -> str:
        notebook = hashlib.sha256(assignment.path.read_bytes()).hexdigest()
        facts = [submission.digest, submission.student, notebook, limits, self._run]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def _path(self, submission: Submission) -> Path:
        return self._folder / f"{reports.file_name(submission.student, submission.assignment)}.json"

    def kept(self, submission: Submission, assignment: Assignment, limits: Limits) -> Result | None:
        try:
            found: Mapping[str, Any] = json.loads(self._path(submission).read_text(encoding="utf8"))
            if found["digest"] != self._digest(submission, assignment, limits):
                return None
            found_outcomes = {n: Outcome(*found["outcomes"][n]) for n in assignment.exercises}
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Result(submission.student, assignment, found_outcomes, submission.notes)

    def keep(self, submission: Submission, limits: Limits, result: Result) -> None:
        assert result.assignment is not None
        self._folder.mkdir(parents=True, exist_ok=True)
        digest = self._digest(submission, result.assignment, limits)
        with replacing(self._path(submission)) as aside:
            aside.write_text(json.dumps({"digest": digest, "outcomes": result.outcomes}), encoding="utf8")

"""The table of marks and a page a student: fixed words, and nothing that a submission has printed."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from geolessons.coursework.assignments import Assignment
from geolessons.coursework.marking import Outcome
from geolessons.files import replacing

__all__ = ["Result", "file_name", "folder", "page", "table", "write"]

_NOTHING = "\n\nNothing was graded: "


class Result(NamedTuple):
    """What a student has for an assignment.

    Attributes:
        student: The name of the file or folder.
        assignment: None if it cannot be told which it is.
        outcomes: Number of an exercise to its outcome.
        notes: On the file, in sentences.
    """

    student: str
    assignment: Assignment | None
    outcomes: dict[str, Outcome]
    notes: list[str]

    def marks(self, number: str) -> int:
        """For one exercise."""
        assert self.assignment is not None
        return self.assignment.exercises[number].marks if self.outcomes[number].right else 0

    @property
    def total(self) -> int:
        """Marks in all."""
        return sum(self.marks(number) for number in self.outcomes)


def write(results: Sequence[Result], out: Path) -> None:
    """Write the pages and the table, each whole; the table last.

    A page of an earlier run goes if the same student has no such row any more: one that said "nothing was
    graded" before the file was handed in again, say.
    """
    where = folder(out)
    where.mkdir(parents=True, exist_ok=True)
    written = set()
    for result in results:
        path = where / f"{file_name(result.student, _number(result))}.md"
        with replacing(path) as aside:
            aside.write_text(page(result), encoding="utf8")
        written.add(path)
    for student in {result.student for result in results}:
        for number in {None, *map(_number, results)}:
            path = where / f"{file_name(student, number)}.md"
            if path not in written and _is_page(path, student, number):
                path.unlink()
    with replacing(out) as aside:
        aside.write_text(table(results), encoding="utf8", newline="")


def _number(result: Result) -> str | None:
    return result.assignment.number if result.assignment else None


def _is_page(path: Path, student: str, number: str | None) -> bool:
    """Whether a file is there and begins as `page` begins one for this student and assignment."""
    if path.is_symlink() or not path.is_file():
        return False
    then = _NOTHING if number is None else f": assignment {number}, "
    return path.read_bytes().startswith(f"# {_plain(student)}{then}".encode())


def folder(out: str | Path) -> Path:
    """Where the pages go."""
    return Path(out).with_name(f"{Path(out).stem}_reports")


def file_name(student: str, assignment: str | None) -> str:
    """A name for a file, from a student's name; different students have different ones.

    Example:
        >>> file_name("ada", "1")
        'ada_1'
    """
    plain = re.sub(r"[^\w-]+", "_", student)[:60].strip("_")
    if plain != student:
        plain += "_" + hashlib.sha256(student.encode("utf8", "surrogateescape")).hexdigest()[:8]
    return f"{plain}_{assignment or 'unknown'}"


def table(results: Iterable[Result]) -> str:
    """Comma-separated: student, assignment, the marks of each exercise, total, out of, note."""
    results = list(results)
    numbers = list(dict.fromkeys(n for r in results if r.assignment for n in r.assignment.exercises))
    numbers.sort(key=lambda n: [int(part) if part.isdigit() else 0 for part in n.split(".")])
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["student", "assignment", *numbers, "total", "out_of", "note"])
    for r in results:
        marks = [r.marks(n) if n in r.outcomes else "" for n in numbers]
        number, out_of = (r.assignment.number, r.assignment.marks) if r.assignment else ("", "")
        rows.writerow([_inert(r.student), number, *marks, r.total, out_of, _inert("; ".join(r.notes))])
    return text.getvalue()


def _inert(text: str) -> str:
    """A text that a spreadsheet does not take for a formula, on one line."""
    text = text.encode("utf8", "replace").decode("utf8")
    text = "".join(c if c.isprintable() else " " for c in text)
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text


def _plain(text: str) -> str:
    """A text on one line in which Markdown sees no sign of its own."""
    return re.sub(r"([\\`*_{}\[\]<>#|!&])", r"\\\1", _inert(text))


def page(result: Result) -> str:
    """What a student reads: of each exercise the verdict, the marks, what was expected, a hint."""
    name = _plain(result.student)
    if result.assignment is None:  # the notes name files, and a file's name may hold anything
        return f"# {name}{_NOTHING}{'; '.join(map(_plain, result.notes))}.\n"
    assignment = result.assignment
    lines = [f"# {name}: assignment {assignment.number}, {assignment.title}", ""]
    lines += [f"**{result.total} of {assignment.marks} marks.**", ""]
    lines += [f"- {note[:1].upper()}{note[1:]}." for note in result.notes] + [""] * bool(result.notes)
    for number, outcome in result.outcomes.items():
        exercise = assignment.exercises[number]
        verdict = "right" if outcome.right else "not right"
        lines += [f"## {number} {exercise.title}", ""]
        lines += [f"{verdict.capitalize()}: {result.marks(number)} of {exercise.marks} marks.", ""]
        if not outcome.right:
            lines += [f"- {sentence}" for sentence in outcome.sentences]
            lines += [f"- Expected: {exercise.expected}", f"- Hint: {exercise.hint}", ""]
    return "\n".join(lines).rstrip() + "\n"

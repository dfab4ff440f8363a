"""A folder of submissions, as data: which student, which assignment, which cells answer which exercise.

Files come from strangers: nothing is run here, nothing followed, and what cannot be read becomes a note.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import stat
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from geolessons.coursework.assignments import Assignment, Exercise

__all__ = ["Submission", "read_submissions"]

LARGEST = 20 << 20  # bytes of a notebook
LONGEST = 100_000  # characters of a cell that is parsed here: a tree takes far more memory than its text
Assignments = Mapping[str, Assignment]


class Submission(NamedTuple):
    """What a student handed in for an assignment.

    Attributes:
        student: The file's name, or the folder's.
        assignment: Its number; None if it cannot be told.
        sources: Number of an exercise to the student's cell; those that are missing or stubs are left out.
        unwritten: Numbers of those that are stubs.
        notes: What a reader of the table should know, in sentences.
        digest: Of the file.
    """

    student: str
    assignment: str | None
    sources: dict[str, str]
    unwritten: set[str]
    notes: list[str]
    digest: str


def read_submissions(folder: Path, assignments: Assignments) -> list[Submission]:
    """Every submission in a folder: at least one for each file or folder that is not hidden.

    Args:
        folder: With one notebook a student, or a folder a student with notebooks in it; a student may have
            both.
        assignments: Number to assignment.

    Raises:
        NotADirectoryError: If it is not a folder.
        ValueError: If nothing is in it.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: there is no such folder of submissions")
    pooled: dict[str, list[Path]] = {}  # the files of each student, also of one who has a file and a folder
    for path in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
        paths = pooled.setdefault(path.name.removesuffix(".ipynb"), [])
        if path.is_dir() and not path.is_symlink():
            paths += [p for p in path.glob("*.ipynb") if not p.name.startswith(".")]
        else:
            paths.append(path)
    if not pooled:
        raise ValueError(f"{folder}: no submission in it; there should be one notebook, or folder, a student")
    return [s for student, paths in pooled.items() for s in _of_one_student(student, paths, assignments)]


def _of_one_student(student: str, paths: list[Path], assignments: Assignments) -> list[Submission]:
    """One submission an assignment: the file that was changed last."""
    if not paths:
        return [_bad(student, "there is no notebook in the folder")]
    by_assignment: dict[str | None, Submission] = {}
    for path in sorted(paths, key=lambda p: (p.lstat().st_mtime, p.name, p)):
        new = _read(student, path, assignments)
        old = by_assignment.get(new.assignment)
        if old is not None and new.assignment is not None:
            new.notes.append("several notebooks for this assignment: the one changed last counts")
        elif old is not None:
            new.notes[:0] = old.notes
        by_assignment[new.assignment] = new
    return list(by_assignment.values())


def _read(student: str, path: Path, assignments: Assignments) -> Submission:
    """What a file holds; a note that names it if nothing in it can be graded."""
    found = _from_file(student, path, assignments)
    if found.assignment is None:
        return found._replace(notes=[f"{path.name}: {note}" for note in found.notes])
    return found


def _from_file(student: str, path: Path, assignments: Assignments) -> Submission:
    try:
        about = path.lstat()
        if stat.S_ISLNK(about.st_mode):
            return _bad(student, "a link, which is not followed")
        if not stat.S_ISREG(about.st_mode):
            return _bad(student, "not a file")
        if path.suffix != ".ipynb":
            return _bad(student, "not a notebook (.ipynb)")
        if about.st_size > LARGEST:
            return _bad(student, f"larger than {LARGEST >> 20} MB, which is not read")
        data = path.read_bytes()
    except OSError as error:
        return _bad(student, f"it cannot be read ({type(error).__name__})")
    digest = hashlib.sha256(data).hexdigest()
    try:
        notebook = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return _bad(student, "not text in UTF-8", digest)
    except (ValueError, RecursionError):
        return _bad(student, "not a notebook: broken JSON", digest)
    cells, metadata = list(_code_cells(notebook)), _get(notebook, "metadata", "coursework")
    if not cells:
        return _bad(student, "no code cell is in it", digest)
    number = _assignment(_get(metadata, "assignment"), cells, assignments)
    if number is None:
        return _bad(student, "it does not say which assignment it is", digest)
    if number not in assignments:
        return _bad(student, f"there is no assignment {number}", digest)
    sources, unwritten, notes = _answers(cells, assignments[number])
    if len(notebook.get("cells") or ()) == 0:
        notes.append("an old format of notebooks (nbformat 3)")
    return Submission(student, number, sources, unwritten, notes, digest)


def _bad(student: str, note: str, digest: str = "") -> Submission:
    return Submission(student, None, {}, set(), [note], digest)


def _get(value: Any, *keys: str) -> Any:
    """A part of a JSON value, or None."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


class _Cell(NamedTuple):
    source: str
    exercise: str  # as its metadata say, if they say that it is a solution
    id: str


def _code_cells(notebook: Any) -> Iterator[_Cell]:
    sheets = _get(notebook, "worksheets")
    lists = [
        _get(notebook, "cells"),
        *(_get(s, "cells") for s in (sheets if isinstance(sheets, list) else ())),
    ]
    for cell in (cell for cells in lists if isinstance(cells, list) for cell in cells):
        if _get(cell, "cell_type") != "code":
            continue
        source = next((s for key in ("source", "input") if (s := _get(cell, key)) is not None), "")
        if isinstance(source, list):
            source = "".join(line for line in source if isinstance(line, str))
        about = _get(cell, "metadata", "coursework")
        mine = _get(about, "exercise") if _get(about, "role") == "solution" else ""
        if isinstance(source, str):
            plain = source.encode("utf8", "replace").decode("utf8")
            yield _Cell(_python(plain), mine if isinstance(mine, str) else "", str(_get(cell, "id")))


def _python(source: str) -> str:
    """A cell without IPython's own lines: no more goes than must, for a line of Python may begin with % too.

    Lines at the margin go first; one that is indented may be all that its block has, so `pass` stays there.
    """
    if not re.search(r"^[ \t]*[%!]", source, re.M):
        return source
    margin = re.sub(r"^[%!].*$", "", source, flags=re.M)
    inside = re.sub(r"^([ \t]+)[%!].*$", r"\1pass", margin, flags=re.M)
    return next((text for text in (source, margin, inside) if _parses(text)), margin)


def _parses(source: str) -> bool:
    if len(source) > LONGEST:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on backslashes in texts
            ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _assignment(said: Any, cells: list[_Cell], assignments: Assignments) -> str | None:
    """The number in the notebook's metadata, or else what its cells say."""
    if isinstance(said, str | int) and re.fullmatch(r"[\w-]{1,20}", str(said)):
        return str(said)
    votes = [cell.exercise.partition(".")[0] for cell in cells if cell.exercise]
    votes = [number for number in votes if number in assignments]
    if not votes:
        for number, assignment in assignments.items():
            ids = _ids(assignment)
            votes += [number for cell in cells if cell.id in ids]
            votes += [n for n in (number,) for e in assignment.exercises.values() if _by_name(cells, e)]
    return max(votes, key=votes.count) if votes else None


def _ids(assignment: Assignment) -> dict[str, str]:
    """The id of each solution cell, to its exercise."""
    about = ((cell.get("id"), _get(cell, "metadata", "coursework")) for cell in assignment.notebook.cells)
    return {str(i): str(a["exercise"]) for i, a in about if i and a and a.get("role") == "solution"}


def _by_name(cells: list[_Cell], exercise: Exercise) -> list[_Cell]:
    pattern = re.compile(rf"^(?:async +)?(?:def|class) +{re.escape(exercise.name)}\b", re.M)
    return [cell for cell in cells if pattern.search(cell.source)]


def _answers(cells: list[_Cell], assignment: Assignment) -> tuple[dict[str, str], set[str], list[str]]:
    sources, unwritten, notes, ids = {}, set(), [], _ids(assignment)
    for number, exercise in assignment.exercises.items():
        stub = "".join(exercise.unwritten.split())
        ways = (
            [cell for cell in cells if cell.exercise == number],
            [cell for cell in cells if ids.get(cell.id) == number],
            _by_name(cells, exercise),
        )
        for way in ways:
            written = [c for c in way if c.source.strip() and "".join(c.source.split()) != stub]
            if written:
                if len(written) > 1:
                    notes.append(f"{number} is answered {len(written)} times: the last one counts")
                sources[number] = written[-1].source
                break
        else:
            if any(ways):
                unwritten.add(number)
    missing = [n for n in assignment.exercises if n not in sources and n not in unwritten]
    if missing:
        notes.append(f"no cell answers {', '.join(missing)}")
    return sources, unwritten, notes

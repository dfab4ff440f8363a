"""An assignment is one solved notebook; from it come the student's notebook, the checks, the grader's facts.

Each cell says its part in its metadata `coursework`: `role` is intro, setup, task, solution, check, probe,
judge or question, and `exercise` the number of the exercise that it belongs to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

from geolessons.coursework.cells import (
    HIDDEN,
    OF_AN_EXERCISE,
    Labelled,
    answer_name,
    asks,
    labelled,
    names,
    only_function,
    whole,
    words,
)
from geolessons.coursework.notebooks import new_notebook, node, read_notebook, write_notebook
from geolessons.coursework.stubs import IMPORT, IMPORT_BOTH, stubbed, with_unwritten, without_markers
from geolessons.coursework.variants import Variant, read_variants

__all__ = [
    "Assignment",
    "Exercise",
    "Variant",
    "read_assignment",
    "read_notebook",
    "read_variants",
    "solved_notebook",
    "student_notebook",
    "write_notebook",
]


@dataclass(frozen=True)
class Exercise:
    """One exercise, as its cells tell it.

    Attributes:
        number: "1.1".
        title: In words.
        minutes: That it should take.
        marks: That it gives.
        difficulty: 1, 2 or 3.
        expected: What a right answer does, in a sentence.
        hint: A sentence.
        stub: The sentence that stands where the answer goes.
        name: Of the function or class to write.
        solution: Source of the solution cell, markers and all.
        check: Source of the visible check.
        probe: Source of the hidden probe.
        judge: Source of the hidden judge, if there is one.
        rtol: Relative tolerance without a judge; one for all, or key to number; None is the default.
        atol: Absolute tolerance, likewise.
    """

    number: str
    title: str
    minutes: int
    marks: int
    difficulty: int
    expected: str
    hint: str
    stub: str
    name: str
    solution: str
    check: str
    probe: str
    judge: str | None = None
    rtol: float | Mapping[str, float] | None = None
    atol: float | Mapping[str, float] | None = None

    @property
    def unwritten(self) -> str:
        """The solution cell as a student gets it: the answer is a stub."""
        return stubbed(self.solution, self.stub)


@dataclass(frozen=True)
class Assignment:
    """An assignment, read and checked.

    Attributes:
        number: "1".
        title: In words.
        setup: Sources of the setup cells, in order, as a student has them.
        exercises: Number to exercise, in order.
        notebook: The solved notebook.
        path: Where it was read.
    """

    number: str
    title: str
    setup: list[str]
    exercises: dict[str, Exercise]
    notebook: NotebookNode
    path: Path

    @property
    def marks(self) -> int:
        """In all."""
        return sum(exercise.marks for exercise in self.exercises.values())

    @property
    def minutes(self) -> int:
        """In all."""
        return sum(exercise.minutes for exercise in self.exercises.values())


def read_assignment(path: str | Path) -> Assignment:
    """Read a solved notebook and check that it is whole.

    Args:
        path: Of the notebook, or of the folder with `solved.ipynb` in it.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is not whole; the message names the cell, what is wrong, and what would be right.
    """
    path = Path(path)
    path = path / "solved.ipynb" if path.is_dir() else path
    notebook = read_notebook(path)
    about = notebook.metadata.get("coursework", {})
    number, title = (str(about.get(key, "")) for key in ("assignment", "title"))
    if not number or not title:
        raise ValueError(
            f'{path}: no assignment: its metadata lack "coursework": {{"assignment": "1", "title": …}}'
        )
    _refuse_handed_out(path, notebook)
    cells = dict(labelled(path, notebook))
    for role in ("intro", "setup", "question"):
        if role not in (key[0] for key in cells):
            raise ValueError(f"{path}: no cell has the role {role!r}; an assignment has one")
    sources = [cell.source for (role, _, _), (_, cell) in cells.items() if role == "setup"]
    if not any(IMPORT in source.splitlines() for source in sources):
        raise ValueError(f"{path}: no setup cell has the line {IMPORT!r}")
    setup = [with_unwritten(source) for source in sources]
    numbers = dict.fromkeys(n for _, n, _ in cells if n)
    if not numbers:
        raise ValueError(f"{path}: no cell belongs to an exercise")
    exercises = {n: _exercise(path, number, n, cells) for n in numbers}
    known = {e.name for e in exercises.values()} | names("\n".join(setup))
    for n, e in exercises.items():
        where, _ = cells["probe", n, 0]
        unknown = [a.arg for a in only_function(where, e.probe, "probe").args.args if a.arg not in known]
        if unknown:
            raise ValueError(f"{where}: probe takes {unknown}, which no setup or solution cell defines")
    assignment = Assignment(number, title, setup, exercises, notebook, path)
    where, intro = cells["intro", "", 0]
    for line in (
        f"# Assignment {number}: {title}",
        f"{assignment.minutes} minutes",
        f"{assignment.marks} marks",
    ):
        if not re.search(rf"(?<![\w.]){re.escape(line)}(?!\w)", intro.source):
            raise ValueError(f"{where}: the intro must say {line!r}, which is what the exercises add up to")
    return assignment


def student_notebook(assignment: Assignment) -> NotebookNode:
    """What a student gets: stubs for solutions; no probe, no judge, no outputs."""
    return _handed_out(assignment, lambda exercise: exercise.unwritten)


def solved_notebook(assignment: Assignment) -> NotebookNode:
    """What may be handed out afterwards: as the student's, with the solutions."""
    return _handed_out(assignment, lambda exercise: without_markers(exercise.solution))


def _refuse_handed_out(path: Path, notebook: NotebookNode) -> None:
    """Say so if it is a notebook that was made from an assignment, which has no probes."""
    made = any(IMPORT_BOTH in cell.source.splitlines() for cell in notebook.cells)
    abouts = [cell.metadata.get("coursework") for cell in notebook.cells]
    if made and not any(isinstance(a, dict) and a.get("role") == "probe" for a in abouts):
        raise ValueError(f"{path}: this is a student's notebook; name the folder with solved.ipynb")


def _handed_out(assignment: Assignment, answer: Callable[[Exercise], str]) -> NotebookNode:
    notebook = new_notebook(coursework={"assignment": assignment.number, "title": assignment.title})
    setup = iter(assignment.setup)
    for original in assignment.notebook.cells:
        about = original.metadata.coursework
        if about.role in HIDDEN:
            continue
        cell = deepcopy(original)
        cell.metadata = node({"coursework": about})
        if about.role == "solution":
            cell.source = answer(assignment.exercises[about.exercise]).rstrip("\n")
            cell.metadata["deletable"] = False
        elif about.role == "setup":
            cell.source = next(setup)
        elif about.role in ("task", "check"):
            cell.metadata.update(deletable=False, editable=False)
        if cell.cell_type == "code":
            cell.execution_count, cell.outputs = None, []
        notebook.cells.append(cell)
    return notebook


def _exercise(path: Path, assignment: str, number: str, cells: Labelled) -> Exercise:
    if not re.fullmatch(rf"{re.escape(assignment)}\.[1-9]\d*", number):
        raise ValueError(f"{path}: exercise {number!r} must be {assignment}.1, {assignment}.2, …")
    missing = [role for role in OF_AN_EXERCISE[:-1] if (role, number, 0) not in cells]
    if missing:
        raise ValueError(f"{path}: exercise {number} has no cell with the role {' or '.join(missing)}")
    where, task = cells["task", number, 0]
    about = task.metadata.coursework
    text = {key: words(where, about, key) for key in ("title", "expected", "hint")}
    number_of = {key: whole(where, about, key) for key in ("minutes", "marks", "difficulty")}
    if number_of["difficulty"] > 3:
        raise ValueError(f"{where}: difficulty={number_of['difficulty']} must be 1, 2 or 3")
    dots = "●" * number_of["difficulty"] + "○" * (3 - number_of["difficulty"])
    marks = f"{number_of['marks']} mark{'s' * (number_of['marks'] > 1)}"
    for line in (f"## {number} {text['title']}", f"{number_of['minutes']} minutes · {marks} · {dots}"):
        if line not in task.source.splitlines():
            raise ValueError(f"{where}: the line {line!r} is missing, which is what the metadata say")
    where, solution = cells["solution", number, 0]
    name = answer_name(where, solution.source)
    stub = words(where, solution.metadata.coursework, "stub")
    where, check = cells["check", number, 0]
    if not asks(check.source, number):
        raise ValueError(f'{where}: no `with exercise("{number}"):` in it')
    where, probe = cells["probe", number, 0]
    extra = {a.arg for a in only_function(where, probe.source, "probe").args.kwonlyargs} - {"seed", "dtype"}
    if extra:
        raise ValueError(f"{where}: probe's keywords may be seed and dtype, not {', '.join(sorted(extra))}")
    about = probe.metadata.coursework
    where, judge = cells.get(("judge", number, 0), (where, None))
    if judge and [a.arg for a in only_function(where, judge.source, "judge").args.args] != ["got", "want"]:
        raise ValueError(f"{where}: judge must take got and want")
    return Exercise(
        number=number,
        title=text["title"],
        minutes=number_of["minutes"],
        marks=number_of["marks"],
        difficulty=number_of["difficulty"],
        expected=text["expected"],
        hint=text["hint"],
        stub=stub,
        name=name,
        solution=solution.source,
        check=check.source,
        probe=probe.source,
        judge=judge and judge.source,
        rtol=about.get("rtol"),
        atol=about.get("atol"),
    )

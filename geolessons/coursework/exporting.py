"""The same assignment for nbgrader: its source notebook, in which the probe is a hidden test.

nbgrader runs hidden tests in the student's own process, next to the answer; that is its way, and why
`grading` keeps the two apart.  An export is for courses that run on nbgrader already.
"""

from __future__ import annotations

from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import torch
from nbformat import NotebookNode

from geolessons.coursework.answers import frame, frames
from geolessons.coursework.assignments import Assignment, Exercise
from geolessons.coursework.checks import Wrong
from geolessons.coursework.judging import faults
from geolessons.coursework.notebooks import new_notebook, node
from geolessons.coursework.stubs import without_markers
from geolessons.coursework.variants import defined

__all__ = ["hidden_test", "nbgrader_notebook"]

BEGIN, END = "### BEGIN HIDDEN TESTS", "### END HIDDEN TESTS"
VERSION = 3  # of nbgrader's metadata


def nbgrader_notebook(assignment: Assignment) -> NotebookNode:
    """The source version for nbgrader: `source/NAME/NAME.ipynb` in a course's folder.

    Solution cells are marked as such and keep their markers, which `nbgrader generate_assignment` turns into
    stubs; check cells are locked tests with the exercise's marks, and hold the probe as hidden test.  The
    stub is nbgrader's own, unless the course's configuration names another (`ClearSolutions.code_stub`).

    References:
        nbgrader's documentation, "Creating and grading assignments"; metadata schema 3.
    """
    notebook = new_notebook(coursework={"assignment": assignment.number, "title": assignment.title})
    setup = iter(assignment.setup)
    for original in assignment.notebook.cells:
        about = original.metadata.coursework
        if about.role in ("probe", "judge"):
            continue
        cell = deepcopy(original)
        if cell.cell_type == "code":
            cell.execution_count, cell.outputs = None, []
        role, grade_id = str(about.role), f"{about.role}-{about.get('exercise', cell.id)}".replace(".", "-")
        marks: dict[str, Any] = {"grade": role == "check", "solution": role == "solution", "task": False}
        marks |= {"grade_id": grade_id, "locked": role != "solution", "schema_version": VERSION}
        if role == "setup":
            cell.source = next(setup)
        if role == "check":
            exercise = assignment.exercises[about.exercise]
            cell.source = f"{cell.source.rstrip()}\n{BEGIN}\n{_call(exercise)}\n{END}"
            marks["points"] = exercise.marks
        # "coursework" stays: `geolessons check` reads it in the students' version as well
        cell.metadata = node({"coursework": about, "nbgrader": marks})
        notebook.cells.append(cell)
    return notebook


def hidden_test(
    names: dict[str, Any],
    *,
    solution: str,
    probe: str,
    judge: str | None = None,
    rtol: Any = None,
    atol: Any = None,
    seed: int = 0,
) -> None:
    """Run a probe beside the answer and beside the solution, and compare; for notebooks of nbgrader.

    Args:
        names: The notebook's, `globals()`.
        solution: Source of the solution cell.
        probe: Source of the probe.
        judge: Source of the judge, if there is one.
        rtol: Relative tolerance without a judge.
        atol: Absolute tolerance, likewise.
        seed: Of the cases.

    Raises:
        Wrong: If the answer differs; the message does not tell the case.
    """
    _, defines = defined(solution)
    reference = dict(names)
    hidden: dict[str, Any] = {"__name__": "probe"}
    exec(compile(solution, "<solution>", "exec"), reference)
    exec(compile(probe, "<probe>", "exec"), hidden)
    function = hidden["probe"]
    code = function.__code__
    takes = code.co_varnames[: code.co_argcount]
    keywords = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    exercise: Any = SimpleNamespace(judge=judge, rtol=rtol, atol=atol)
    for dtype in (torch.float32, torch.float64)[: 2 if "dtype" in keywords else 1]:
        named = {key: value for key, value in {"seed": seed, "dtype": dtype}.items() if key in keywords}
        want = function(*(reference[name] for name in takes), **named)
        try:
            got = function(*(names[name] for name in takes), **named)
        except Exception as error:
            raise Wrong(f"`{defines.name}` stopped with {type(error).__name__} on other inputs") from None
        wrong = faults(
            exercise,
            _as_data(got),
            _as_data(want),
            dtype=str(dtype).partition(".")[2] if "dtype" in named else "",
        )
        if wrong:
            raise Wrong(" ".join(wrong)) from None


def _as_data(value: Any) -> Any:
    """What would come back from where `grading` runs a probe."""
    return next(frames(frame({}, value)))[1]


def _call(exercise: Exercise) -> str:
    """The call of `hidden_test` for an exercise, as source."""
    given = {key: getattr(exercise, key) for key in ("probe", "judge", "rtol", "atol")}
    given = {"solution": without_markers(exercise.solution), **given}
    lines = [f"    {key}={value!r}," for key, value in given.items() if value is not None]
    return "\n".join(
        [
            "from geolessons.coursework.exporting import hidden_test",
            "",
            "hidden_test(",
            "    globals(),",
            *lines,
            ")",
        ]
    )

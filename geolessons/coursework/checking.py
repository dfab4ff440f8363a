"""Run a student's notebook in a fresh kernel, as it stands, and say of each exercise whether it is right."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from geolessons.coursework.notebooks import read_notebook

__all__ = ["Found", "Report", "check_notebook", "table"]

RIGHT, WRONG, UNWRITTEN, MISSING, LATE = "right", "wrong", "not written", "no check", "not run"
TOLD = {WRONG: ("came", "expected", "hint"), MISSING: ("came",), LATE: ("came",)}  # under a verdict


@dataclass(frozen=True)
class Found:
    """What came of one exercise.

    Attributes:
        number: "1.1".
        title: In words.
        marks: That it can give.
        verdict: "right", "wrong", "not written", "no check" or "not run".
        came: What the check said, if it is not right.
        expected: What a right answer does.
        hint: A sentence.
    """

    number: str
    title: str
    marks: int
    verdict: str
    came: str = ""
    expected: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Report:
    """What came of a notebook.

    Attributes:
        title: "Assignment 1: Geodesics".
        exercises: In the notebook's order.
        notes: Sentences on cells that belong to no exercise and stopped.
    """

    title: str
    exercises: list[Found]
    notes: list[str] = field(default_factory=list)

    @property
    def all_right(self) -> bool:
        """Whether every exercise is."""
        return all(found.verdict == RIGHT for found in self.exercises)


def check_notebook(path: str | Path, *, timeout: int = 120) -> Report:
    """Run a student's notebook and collect what its own checks say.

    The cells run in the order they stand in, in a fresh kernel, in the notebook's folder; the file is left
    as it is.  What the file's checks say is believed: this is a student's tool, `grading` is the grader's.

    Args:
        path: Of the notebook.
        timeout: Seconds a cell may take; a setup cell, which imports, may take longer.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no notebook, or the notebook is no assignment.
    """
    path = Path(path)
    notebook = read_notebook(path)
    about = notebook.metadata.get("coursework", {})
    tasks = [cell for cell in notebook.cells if _role(cell)[0] == "task"]
    if "assignment" not in about or not tasks:
        raise ValueError(
            f"{path}: not an assignment: its metadata name none, or no cell holds a task. "
            "Take a fresh copy and paste your answers into it"
        )
    stopped = _run(notebook, path.parent, timeout)
    notes = [
        f"the {_role(cell)[0] or 'further'} cell number {i} stopped: {_error(cell)}"
        for i, cell in enumerate(notebook.cells)
        if _role(cell)[0] not in ("solution", "check") and _error(cell)
    ]
    title = f"Assignment {about['assignment']}: {about.get('title', '')}".removesuffix(": ")
    return Report(title, [_found(task, notebook, stopped) for task in tasks], [*stopped[1:], *notes])


def table(report: Report, width: int | None = None) -> str:
    """A report as text: a line an exercise, and under those that are wrong what to do about it.

    Args:
        report: From `check_notebook`.
        width: In characters; that of the terminal if None.
    """
    width = min(width or shutil.get_terminal_size((100, 24)).columns, 100)
    lines = [report.title, ""]
    for found in report.exercises:
        got = found.marks if found.verdict == RIGHT else 0
        right = f"{found.verdict:<11}  {got} of {found.marks}"
        head = textwrap.shorten(f"{found.number}  {found.title}", width - len(right) - 2, placeholder="…")
        lines.append(f"{head:<{width - len(right) - 2}}  {right}")
        for name in TOLD.get(found.verdict, ()):
            if getattr(found, name):
                lines += textwrap.wrap(
                    getattr(found, name),
                    width,
                    initial_indent=f"     {name:<8}  ",
                    subsequent_indent=" " * 15,
                )
    marks = sum(found.marks for found in report.exercises)
    got = sum(found.marks for found in report.exercises if found.verdict == RIGHT)
    lines += ["", f"{f'{got} of {marks} marks by the checks in this file':>{width}}"]
    for note in report.notes:
        lines += textwrap.wrap(f"Note: {note}", width, subsequent_indent="      ")
    return "\n".join(lines)


def _run(notebook: NotebookNode, folder: Path, timeout: int) -> list[str]:
    """Run all cells; nothing, or why it ended before the last one, twice: short and as a note."""
    from nbclient import NotebookClient
    from nbclient.exceptions import DeadKernelError
    from tqdm import tqdm

    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    silent = logging.getLogger(f"{__name__}.silent")  # what it would log is in the report
    silent.addHandler(logging.NullHandler())
    silent.propagate = False
    client = NotebookClient(
        notebook,
        timeout_func=lambda cell: timeout if _role(cell)[0] != "setup" else max(timeout, 600),
        interrupt_on_timeout=True,
        allow_errors=True,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
        log=silent,
    )
    with client.setup_kernel(stderr=subprocess.DEVNULL):  # what the kernel says of itself
        for i, cell in enumerate(tqdm(notebook.cells, "running", unit="cell", leave=False, disable=None)):
            try:
                client.execute_cell(cell, i)
            except DeadKernelError:
                return [
                    f"Python ended in cell {i}",
                    f"Python ended in cell {i}, and no cell after it ran: too much memory, or `os._exit`",
                ]
    return []


def _found(task: NotebookNode, notebook: NotebookNode, stopped: list[str]) -> Found:
    about = task.metadata.coursework
    number = str(about.get("exercise", "?"))
    mine = [c for c in notebook.cells if _role(c)[1] == number and c.cell_type == "code"]
    checks = [c for c in mine if _role(c)[0] == "check" and f"exercise({number!r})" in _quoted(c.source)]
    fails = [(c, _error(c)) for c in mine if _error(c)]
    answer = [e for c, e in fails if _role(c)[0] == "solution"]
    checked = [(c, e) for c, e in fails if _role(c)[0] == "check"]
    if not checks:
        verdict, came = MISSING, "the check cell is gone or changed: take it from a fresh copy"
    elif answer:
        verdict, came = WRONG, f"the cell with your answer stopped: {answer[0]}"
    elif checked:
        cell, came = checked[0]
        stub = any(o.get("ename") == "Unwritten" for o in cell.outputs)
        verdict, came = UNWRITTEN if stub else WRONG, came.removeprefix(f"{number}: ")
    elif all(f"{number}: right" in _printed(c) for c in checks):
        verdict, came = RIGHT, ""
    elif stopped:
        verdict, came = LATE, stopped[0]
    else:
        verdict, came = MISSING, "the check cell did not say that it is right: take it from a fresh copy"
    known = {key: str(about.get(key, "")) for key in ("title", "expected", "hint")}
    marks = about.get("marks", 0)
    return Found(number, marks=marks if isinstance(marks, int) else 0, verdict=verdict, came=came, **known)


def _role(cell: NotebookNode) -> tuple[str, str]:
    about: Any = cell.metadata.get("coursework", {})
    return str(about.get("role", "")), str(about.get("exercise", ""))


def _quoted(source: str) -> str:
    return source.replace('"', "'")


def _printed(cell: NotebookNode) -> list[str]:
    text = "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stdout")
    return text.splitlines()


def _error(cell: NotebookNode) -> str:
    """How a cell stopped, in a line; nothing if it did not."""
    if cell.cell_type != "code":
        return ""
    for output in cell.outputs:
        if output.output_type == "error":
            if output.ename in ("Wrong", "Unwritten"):
                return str(output.evalue)
            if output.ename == "KeyboardInterrupt":
                return "it took too long and was interrupted"
            said = re.sub(r"\(\S+, line (\d+)\)$", r"in line \1", " ".join(output.evalue.split()))[:300]
            return f"{output.ename}: {said}" if said else str(output.ename)
    return ""

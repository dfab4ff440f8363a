"""The command `geolessons`: make assignments, check one, grade a folder of them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

__all__ = ["main", "parser"]

KINDS = ("bubblewrap", "namespaces", "landlock", "limits")
NEEDED = ("nbformat", "nbclient", "ipykernel", "tqdm")
MAKE = """
Make what students get from solved notebooks: stubs where answers go, no hidden check, no outputs.

  geolessons make book/coursework/* --out handed_out
  geolessons make book/coursework/1_geodesics --out handed_out --solved
"""
CHECK = """
Run a student's notebook from top to bottom, in a fresh Python, and say of each exercise whether it is right:
its verdict and marks; for a wrong one what came, what was expected, and a hint.  The file is left as it is.

  geolessons check 1_geodesics.ipynb

The exit status is 0 if all is right, 1 if something is not, 2 if the file cannot be checked.
A grader runs further checks, on other cases.
"""
GRADE = """
Grade a folder of submissions: one notebook a student, named after the student, or one folder a student with
notebooks in it.  Answers are put into a clean copy of the assignment, each submission runs apart from the
others, and hidden checks are added.  A run that was stopped goes on where it was.

  geolessons grade submissions --out grades.csv
"""


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(
        prog="geolessons", description="Coursework for the book: make it, check it, grade it."
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="make | check | grade")

    def command(name: str, about: str, short: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=short, description=about, formatter_class=argparse.RawDescriptionHelpFormatter
        )

    make = command("make", MAKE, "from solved notebooks, those that students get")
    make.add_argument(
        "assignments", nargs="+", type=Path, help="folders with a solved.ipynb, or such notebooks"
    )
    make.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="where to write; made if missing"
    )
    make.add_argument(
        "--solved", action="store_true", help="write NAME_solved.ipynb too, to hand out afterwards"
    )
    make.add_argument(
        "--nbgrader", action="store_true", help="write source/NAME/NAME.ipynb too, for a course in nbgrader"
    )
    check = command("check", CHECK, "say of each exercise of a notebook whether it is right")
    check.add_argument("notebook", type=Path, help="your notebook")
    check.add_argument(
        "--timeout", type=_positive, default=120, metavar="S", help="seconds a cell may take (120)"
    )
    grade = command("grade", GRADE, "grade a folder of submissions, with hidden checks")
    grade.add_argument("submissions", type=Path, help="the folder")
    grade.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the table of marks, a CSV; reports beside it"
    )
    grade.add_argument(
        "--assignments",
        type=Path,
        default=Path("book/coursework"),
        metavar="DIR",
        help="folder of the assignments' folders (book/coursework)",
    )
    grade.add_argument(
        "--jobs", type=_positive, default=os.cpu_count() or 1, metavar="N", help="side by side"
    )
    grade.add_argument("--seed", type=int, default=0, metavar="N", help="of the hidden checks' cases (0)")
    grade.add_argument(
        "--isolation",
        choices=("auto", *KINDS),
        default="auto",
        help="how submissions are kept apart; the best that this machine has, if left out",
    )
    grade.add_argument("--fresh", action="store_true", help="grade also what was graded before")
    grade.add_argument(
        "--time",
        type=_positive,
        default=120,
        metavar="S",
        help="seconds of processor time for a submission, in equal parts for its exercises (120)",
    )
    grade.add_argument(
        "--memory", type=_positive, default=4096, metavar="MB", help="memory a submission may take (4096)"
    )
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: As typed after `geolessons`; those of the process if None.

    Returns:
        The exit status: 0 if all is well, 1 if an answer is not right, 2 if the work could not be done.
    """
    options = parser().parse_args(arguments)
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        return _refuse(f"{', '.join(missing)} is needed and not installed: pip install 'geolessons[book]'")
    try:
        if options.command == "make":
            return _make(options)
        if options.command == "check":
            return _check(options)
        from geolessons.coursework import grading

        return int(grading.main(options) or 0)
    except (OSError, ValueError) as error:
        return _refuse(str(error))


def _make(options: argparse.Namespace) -> int:
    from geolessons.coursework.assignments import (
        read_assignment,
        solved_notebook,
        student_notebook,
        write_notebook,
    )
    from geolessons.coursework.exporting import nbgrader_notebook

    # all is read before anything is written: a broken one leaves no half of a course behind
    assignments = [read_assignment(path) for path in options.assignments]
    for assignment in assignments:
        name = assignment.path.parent.name if assignment.path.name == "solved.ipynb" else assignment.path.stem
        todo = {options.out / f"{name}.ipynb": student_notebook}
        if options.solved:
            todo[options.out / f"{name}_solved.ipynb"] = solved_notebook
        if options.nbgrader:
            todo[options.out / "source" / name / f"{name}.ipynb"] = nbgrader_notebook
        for path, make in todo.items():
            write_notebook(make(assignment), path)
            print(path)
    return 0


def _check(options: argparse.Namespace) -> int:
    from geolessons.coursework.checking import check_notebook, table

    report = check_notebook(options.notebook, timeout=options.timeout)
    print(table(report))
    return 0 if report.all_right else 1


def _refuse(sentence: str) -> int:
    print(f"geolessons: {sentence}", file=sys.stderr)
    return 2


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 1")
    return value

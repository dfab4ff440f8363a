"""The assignments in `book/coursework`: solutions pass, stubs fail, wrong answers fail where they must."""

from __future__ import annotations

import ast
import contextlib
import csv
import functools
import io
import re
from pathlib import Path

import nbformat
import pytest
import torch

from geolessons.cli import main
from geolessons.coursework import Unwritten, Wrong
from geolessons.coursework.assignments import Assignment, read_assignment, read_variants, student_notebook
from geolessons.coursework.grading import grade_source
from geolessons.coursework.variants import Variant

BOOK = Path(__file__).parents[1] / "book"
FOLDERS = sorted(path.parent for path in (BOOK / "coursework").glob("*/solved.ipynb"))


@functools.cache
def load(folder: Path) -> Assignment:
    return read_assignment(folder)


@functools.cache
def variants(folder: Path) -> list[Variant]:
    return read_variants(folder / "variants.py", load(folder))


def cases() -> list:
    """(folder, number) of each exercise; a folder that cannot be read has a test of its own."""
    found = []
    for folder in FOLDERS:
        with contextlib.suppress(ValueError, OSError):
            found += [pytest.param(folder, number, id=number) for number in load(folder).exercises]
    return found


each_assignment = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
each_exercise = pytest.mark.parametrize(("folder", "number"), cases())


@pytest.fixture(autouse=True)
def as_it_was():
    """Threads, the default type and the global generator do not leak from one test into the next."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)


def in_one_namespace(assignment: Assignment, sources: dict[str, str]) -> dict[str, str]:
    """Run a notebook's cells in order, as a student does: exercise to what its check says, "" if right."""
    names: dict = {"__name__": "__main__"}
    said = {}
    with contextlib.redirect_stdout(io.StringIO()):
        for i, source in enumerate(assignment.setup):
            exec(compile(source, f"<setup {i}>", "exec"), names)
        for number, exercise in assignment.exercises.items():
            exec(compile(sources[number], f"<{number}>", "exec"), names)
            try:
                exec(compile(exercise.check, f"<check {number}>", "exec"), names)
                said[number] = ""
            except (Unwritten, Wrong) as error:
                said[number] = f"{type(error).__name__}: {error}"
    return said


def solutions(assignment: Assignment) -> dict[str, str]:
    return {number: exercise.solution for number, exercise in assignment.exercises.items()}


def touched(assignment: Assignment, number: str) -> list[str]:
    """The exercises whose marks can change with an answer: itself, and those that call it, by any way."""
    found = [number]
    for called in found:
        name = assignment.exercises[called].name
        for other, e in assignment.exercises.items():
            nodes = list(ast.walk(ast.parse(f"{e.solution}\n{e.check}\n{e.probe}")))
            words = {node.id for node in nodes if isinstance(node, ast.Name)}
            words |= {node.arg for node in nodes if isinstance(node, ast.arg)}
            if other not in found and name in words:
                found.append(other)
    return found


def test_there_are_assignments():
    assert FOLDERS


@each_assignment
def test_it_is_whole(folder):
    """Reading checks that minutes and marks add up to what the intro says."""
    assignment = load(folder)
    assert folder.name.startswith(f"{assignment.number}_")
    assert 5 <= len(assignment.exercises) <= 8
    assert list(assignment.exercises) == [
        f"{assignment.number}.{i}" for i in range(1, len(assignment.exercises) + 1)
    ]
    for e in assignment.exercises.values():
        assert 4 <= e.minutes / e.marks <= 6  # about five minutes a mark
        for sentence in (e.expected, e.hint, e.stub):
            assert sentence.endswith((".", "?")), sentence
            assert not re.match("[a-z]", sentence), sentence
    assert re.search(r"geolessons check|nbval-lax", assignment.notebook.cells[0].source)


@each_assignment
def test_the_page_on_coursework_says_the_same(folder):
    assignment = load(folder)
    page = (BOOK / "coursework.md").read_text(encoding="utf8")
    rows = {cells[0]: cells[1:] for cells in map(_cells, page.splitlines()) if len(cells) == 5}
    for number, e in assignment.exercises.items():
        dots = "●" * e.difficulty + "○" * (3 - e.difficulty)
        assert rows[number] == [e.title, dots, str(e.minutes), str(e.marks)]
    whole = rows[f"{assignment.number} · {assignment.title}"][1:]
    assert whole == [str(n) for n in (len(assignment.exercises), assignment.minutes, assignment.marks)]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []


@each_assignment
def test_nothing_hidden_is_handed_out(folder):
    assignment = load(folder)
    text = "\n".join(cell.source for cell in student_notebook(assignment).cells)
    for e in assignment.exercises.values():
        inside = e.solution.partition("### BEGIN SOLUTION\n")[2].partition("### END SOLUTION")[0].strip()
        assert inside not in text
        hidden = (e.probe + (e.judge or "")).splitlines()
        shown = set(text.splitlines())
        long = [line for line in hidden if len(line.strip()) > 60 and "import" not in line]
        assert not [line for line in long if line in shown]


@each_assignment
@pytest.mark.parametrize("threads", [1, 2])
def test_solutions_pass(folder, threads):
    """In one namespace, and by the grader, with its probes in float32 and float64; on one thread and two."""
    assignment = load(folder)
    torch.set_num_threads(threads)
    sources = solutions(assignment)
    assert set(in_one_namespace(assignment, sources).values()) == {""}
    found = grade_source(assignment, sources, seed=threads)
    assert {n: o.sentences for n, o in found.items()} == {n: [] for n in sources}


@each_assignment
def test_stubs_fail_with_their_sentence(folder):
    assignment = load(folder)
    sources = {number: e.unwritten for number, e in assignment.exercises.items()}
    said = in_one_namespace(assignment, sources)
    for number, e in assignment.exercises.items():
        assert said[number] == f"Unwritten: {number}: {e.stub}"
    assert not any(outcome.right for outcome in grade_source(assignment, sources).values())


@each_exercise
def test_there_are_enough_answers(folder, number):
    mine = [v.right for v in variants(folder) if v.exercise == number]
    assert mine.count(False) >= 3
    assert mine.count(True) >= 1


def slips(folder: Path, number: str, *, right: bool) -> list[str]:
    """What goes otherwise than it should with the other answers to an exercise."""
    assignment, found = load(folder), []
    callers = [n for n in touched(assignment, number) if n != number]
    for variant in (v for v in variants(folder) if v.exercise == number and v.right is right):
        sources = {**solutions(assignment), number: variant.source}
        outcomes = grade_source(assignment, sources, only=[number, *callers])
        said = in_one_namespace(assignment, sources) if callers else {}
        if outcomes[number].right is not right:
            found.append(f"{variant.name!r} gets {outcomes[number]}")
        for n in callers:
            if not outcomes[n].right or said[n]:
                found.append(f"{variant.name!r} changes {n}: {outcomes[n].sentences} {said[n]}")
    return found


@each_exercise
def test_wrong_answers_fail_for_their_exercise_only(folder, number):
    """No exercise that does not call it can change: the grader runs each in a process of its own."""
    assert slips(folder, number, right=False) == []


@each_exercise
def test_other_right_answers_pass(folder, number):
    assert slips(folder, number, right=True) == []


def test_handed_out_solved_by_a_script_and_graded_they_get_full_marks(tmp_path):
    """The whole way round, by the commands: make, write each answer where its stub was, grade."""
    handed_out, table = tmp_path / "handed_out", tmp_path / "grades.csv"
    assert main(["make", *map(str, FOLDERS), "--out", str(handed_out)]) == 0
    for folder in FOLDERS:
        answers = load(folder).exercises
        path = handed_out / f"{folder.name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            about = cell.metadata["coursework"]
            if about["role"] == "solution":
                assert "raise Unwritten" in cell.source
                cell.source = answers[about["exercise"]].solution
        nbformat.write(notebook, path)
    (tmp_path / "submissions").mkdir()
    handed_out.rename(tmp_path / "submissions" / "ada")
    command = [
        "grade",
        str(tmp_path / "submissions"),
        "--out",
        str(table),
        "--assignments",
        str(BOOK / "coursework"),
    ]
    assert main([*command, "--jobs", "1"]) == 0
    with table.open(encoding="utf8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["student"] for row in rows] == ["ada"] * len(FOLDERS)
    assert [row["note"] for row in rows] == [""] * len(FOLDERS)
    assert [row["total"] for row in rows] == [row["out_of"] for row in rows]
    assert sum(int(row["out_of"]) for row in rows) == 112

"""Assignments: a solved notebook is read and made into what students get; its checks speak in sentences."""

from __future__ import annotations

import ast
import copy
import importlib
import json
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from small_assignment import ANGLE, VARIANTS, small_notebook, write_small

from geolessons.cli import main, parser
from geolessons.coursework import Unwritten, Wrong, exercise
from geolessons.coursework.assignments import (
    read_assignment,
    read_notebook,
    read_variants,
    solved_notebook,
    student_notebook,
    write_notebook,
)
from geolessons.coursework.checking import Found, Report, check_notebook, table
from geolessons.coursework.exporting import nbgrader_notebook

STUB = "Write the body of `angle`: two tensors in, one angle out."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_small(tmp_path_factory.mktemp("coursework") / "9_small")


@pytest.fixture(scope="module")
def assignment(folder):
    return read_assignment(folder)


def cell_of(notebook, role, number=None):
    """The first cell with a role."""
    return next(
        c
        for c in notebook.cells
        if c.metadata.coursework.role == role and c.metadata.coursework.get("exercise") in (number, None)
    )


def run_cell(source, names, file):
    exec(compile(source, file, "exec"), names)


# -- reading ---------------------------------------------------------------------------------------------


def test_an_assignment_is_read(assignment, folder):
    assert (assignment.number, assignment.title) == ("9", "Odds and ends")
    assert (assignment.minutes, assignment.marks) == (20, 4)
    assert assignment.path == folder / "solved.ipynb"
    first, second = assignment.exercises.values()
    assert (first.number, first.name, first.minutes, first.marks, first.difficulty) == (
        "9.1",
        "angle",
        15,
        3,
        2,
    )
    assert first.solution == ANGLE.rstrip("\n")
    assert first.rtol == {"wide": 1e-5, "near": 1e-3}
    assert first.atol == 1e-6
    assert first.judge is None
    assert second.name == "Coin"
    assert second.judge.startswith("def judge(got, want)")
    assert (second.rtol, second.atol) == (None, None)


def test_a_file_serves_as_well_as_its_folder(folder, assignment):
    assert read_assignment(folder / "solved.ipynb").exercises == assignment.exercises


def without(role):
    def change(notebook):
        notebook.cells.remove(cell_of(notebook, role, "9.1"))

    return change


def source(role, old, new, number="9.1"):
    def change(notebook):
        cell = cell_of(notebook, role, number)
        assert old in cell.source
        cell.source = cell.source.replace(old, new)

    return change


def about(part, number="9.1", **changed):
    def change(notebook):
        cell_of(notebook, part, number).metadata.coursework.update(changed)

    return change


def twice(role):
    def change(notebook):
        cell = copy.deepcopy(cell_of(notebook, role, "9.1"))
        cell.id += "-again"
        notebook.cells.append(cell)

    return change


def unlabelled(notebook):
    notebook.metadata.pop("coursework")


def as_code(notebook):
    cell_of(notebook, "task", "9.1").cell_type = "code"
    cell_of(notebook, "task", "9.1").update(outputs=[], execution_count=None)


def intro_last(notebook):
    notebook.cells.append(notebook.cells.pop(0))


BROKEN = [
    (unlabelled, "its metadata lack"),
    (without("intro"), "no cell has the role 'intro'"),
    (without("setup"), "no cell has the role 'setup'"),
    (without("question"), "no cell has the role 'question'"),
    (without("task"), "exercise 9.1 has no cell with the role task"),
    (without("solution"), "exercise 9.1 has no cell with the role solution"),
    (without("check"), "exercise 9.1 has no cell with the role check"),
    (without("probe"), "exercise 9.1 has no cell with the role probe"),
    (twice("task"), r"cell 12 \(task of 9.1\): a second cell of this kind"),
    (twice("check"), r"cell 12 \(check of 9.1\): a second cell of this kind"),
    (intro_last, r"cell 11 \(intro\): the intro must be the first cell"),
    (
        about("task", role="riddle"),
        r"cell 2 \(riddle of 9.1\): the role 'riddle' must be one of intro, setup",
    ),
    (about("task", exercise=""), r"cell 2 \(task\): an exercise goes with this role"),
    (about("setup", exercise="9.1"), r"cell 1 \(setup of 9.1\): no exercise goes with this role"),
    (about("task", exercise="8.1"), "exercise '8.1' must be 9.1, 9.2"),
    (as_code, r"cell 2 \(task of 9.1\): a code cell; this role has markdown"),
    (about("task", title=""), r"cell 2 \(task of 9.1\): 'title' must be in the metadata, in words"),
    (about("task", expected=None), "'expected' must be in the metadata"),
    (about("task", hint=3), "'hint' must be in the metadata"),
    (about("solution", stub=" "), r"cell 3 \(solution of 9.1\): 'stub' must be in the metadata"),
    (about("task", minutes="15"), "minutes='15' must be a whole number from 1"),
    (about("task", marks=0), "marks=0 must be a whole number from 1"),
    (about("task", marks=True), "marks=True must be a whole number from 1"),
    (about("task", difficulty=4), "difficulty=4 must be 1, 2 or 3"),
    (about("task", title="A bend"), "the line '## 9.1 A bend' is missing"),
    (about("task", difficulty=3), "the line '15 minutes · 3 marks · ●●●' is missing"),
    (source("intro", "20 minutes", "25 minutes"), r"cell 0 \(intro\): the intro must say '20 minutes'"),
    (source("intro", "4 marks", "14 marks"), "the intro must say '4 marks'"),
    (source("intro", "# Assignment 9: Odds", "# Odds"), "must say '# Assignment 9: Odds and ends'"),
    (source("setup", "import exercise", "import exercise as e"), "no setup cell has the line"),
    (
        source("solution", "import math", "import math; a = 1"),
        r"cell 3 \(solution of 9.1\): must hold imports",
    ),
    (
        source("solution", "def angle", "async = 1\ndef angle"),
        r"cell 3 \(solution of 9.1\): not Python, line 4",
    ),
    (source("solution", 'a float."""', ""), r"cell 3 \(solution of 9.1\): not Python"),
    (
        source(
            "solution", '    """The angle between two tensors of one shape, in radians; a float."""\n', ""
        ),
        "`angle` has no docstring",
    ),
    (source("solution", "    ### BEGIN SOLUTION\n", ""), "must stand between '### BEGIN SOLUTION'"),
    (source("solution", "    ### END SOLUTION", ""), "must stand between '### BEGIN SOLUTION'"),
    (source("check", '"9.1"', '"9.2"'), r'cell 4 \(check of 9.1\): no `with exercise\("9.1"\):` in it'),
    (
        source("probe", "def probe", "x = 1\ndef probe"),
        r"cell 5 \(probe of 9.1\): must hold the function probe",
    ),
    (source("probe", "def probe", "def prob"), "must hold the function probe and nothing else"),
    (source("probe", "seed, dtype", "seed, device"), "may be seed and dtype, not device"),
    (source("probe", "probe(angle", "probe(angel"), r"probe takes \['angel'\], which no setup or solution"),
    (source("judge", "got, want", "got", "9.2"), r"cell 10 \(judge of 9.2\): judge must take got and want"),
    (source("judge", "def judge", "def judged", "9.2"), "must hold the function judge"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN, ids=[m for _, m in BROKEN])
def test_a_broken_assignment_is_refused_and_the_cell_named(tmp_path, change, message):
    notebook = small_notebook()
    change(notebook)
    nbformat.write(notebook, tmp_path / "solved.ipynb")
    with pytest.raises(ValueError, match=message):
        read_assignment(tmp_path)


def test_a_file_that_is_no_notebook_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_assignment(tmp_path)
    for name, text in {
        "list": "[1, 2]",
        "future": '{"nbformat": 99, "nbformat_minor": 0, "metadata": {}, "cells": []}',
        "cells": '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": 3}',
        "deep": "[" * 100_000,
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=f"{name}: not a notebook that can be read"):
            read_notebook(tmp_path / name)
    for text in ('{"cells": [', "hello", ""):
        (tmp_path / "cut").write_text(text)
        with pytest.raises(ValueError, match=r"cut: not a notebook: broken JSON\. Save or download it again"):
            read_notebook(tmp_path / "cut")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ValueError, match="not a notebook that can be read"):
        read_notebook(tmp_path / "bytes")


# -- making ----------------------------------------------------------------------------------------------


def test_students_get_stubs_and_nothing_hidden(assignment):
    notebook = student_notebook(assignment)
    nbformat.validate(notebook)
    text = nbformat.writes(notebook)
    for hidden in ("probe", "judge", "SOLUTION", "atan2", "self.g", "the coin is not fair", "rtol"):
        assert hidden not in text, hidden
    roles = [c.metadata.coursework.role for c in notebook.cells]
    one = ["task", "solution", "check"]
    assert roles == ["intro", "setup", *one, *one, "question"]
    kept = {c.id: c.source for c in assignment.notebook.cells}
    for cell in notebook.cells:
        if cell.metadata.coursework.role not in ("solution", "setup"):
            assert cell.source == kept[cell.id]
    angle, coin = (cell_of(notebook, "solution", n).source for n in ("9.1", "9.2"))
    assert angle.endswith(f'in radians; a float."""\n    raise Unwritten("{STUB}")')
    assert angle == assignment.exercises["9.1"].unwritten.rstrip("\n")
    assert "    def __init__(self, *values, **named):\n        raise Unwritten(" in coin
    assert "import Unwritten, exercise" in cell_of(notebook, "setup").source


def test_making_leaves_the_assignment_as_it_is_and_drops_outputs(folder):
    assignment = read_assignment(folder)
    check = cell_of(assignment.notebook, "check", "9.1")
    check.outputs = [nbformat.v4.new_output("stream", text="9.1: right")]
    check.execution_count = 3
    before = nbformat.writes(assignment.notebook)
    for make in (student_notebook, solved_notebook):
        made = make(assignment)
        assert nbformat.writes(make(assignment)) == nbformat.writes(made)
        assert all(not c.outputs and c.execution_count is None for c in made.cells if c.cell_type == "code")
    assert nbformat.writes(assignment.notebook) == before


def test_a_long_stub_stays_within_the_line(folder, tmp_path):
    notebook = small_notebook()
    stub = 'Write "all" of it, ' + "and a little more, " * 5 + "here."
    cell_of(notebook, "solution", "9.1").metadata.coursework.stub = stub
    nbformat.write(notebook, tmp_path / "solved.ipynb")
    source = read_assignment(tmp_path).exercises["9.1"].unwritten
    (call,) = (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Raise))
    assert ast.literal_eval(call.exc.args[0]) == stub
    assert "raise Unwritten(\n" in source


def test_the_solved_notebook_has_no_marker_and_nothing_hidden(assignment):
    notebook = solved_notebook(assignment)
    text = nbformat.writes(notebook)
    assert "atan2" in text
    for hidden in ("SOLUTION", "def probe", "def judge"):
        assert hidden not in text
    names = {}
    for i, cell in enumerate(c for c in notebook.cells if c.cell_type == "code"):
        run_cell(cell.source, names, f"<cell {i}>")  # its checks pass


def test_stubs_fail_in_their_checks_with_their_sentence(assignment, capsys):
    names = {}
    for i, cell in enumerate(c for c in student_notebook(assignment).cells if c.cell_type == "code"):
        if cell.metadata.coursework.role != "check":
            run_cell(cell.source, names, f"<cell {i}>")
            continue
        number = cell.metadata.coursework.exercise
        with pytest.raises(Unwritten) as caught:
            run_cell(cell.source, names, f"<cell {i}>")
        stub = cell_of(assignment.notebook, "solution", number).metadata.coursework.stub
        assert caught.value._render_traceback_() == [f"{number}: {stub}"]
    assert capsys.readouterr().out == ""


def test_solving_a_student_notebook_gives_back_the_solved_one(assignment, tmp_path):
    """Round trip: the file a student would hand in, read from disk, holds the solutions."""
    write_notebook(student_notebook(assignment), tmp_path / "deep" / "anna.ipynb")
    handed_in = read_notebook(tmp_path / "deep" / "anna.ipynb")
    for number, e in assignment.exercises.items():
        cell_of(handed_in, "solution", number).source = e.solution
    for cell in handed_in.cells:
        if cell.metadata.coursework.role == "solution":
            cell.source = "\n".join(
                line for line in cell.source.splitlines() if "SOLUTION" not in line
            ).rstrip()
    assert nbformat.writes(handed_in) == nbformat.writes(solved_notebook(assignment))
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["anna.ipynb"]


# -- nbgrader --------------------------------------------------------------------------------------------

KEYS = {"schema_version", "grade", "locked", "solution", "task", "grade_id", "points"}


def test_the_source_notebook_for_nbgrader_keeps_what_it_reads(assignment):
    notebook = nbgrader_notebook(assignment)
    nbformat.validate(notebook)
    ids = set()
    for cell in notebook.cells:
        about, marks = cell.metadata.coursework, cell.metadata.nbgrader
        assert set(marks) == KEYS - (set() if about.role == "check" else {"points"})
        assert re.fullmatch(r"[a-zA-Z0-9_\-]+", marks.grade_id)
        assert marks.grade_id not in ids
        ids.add(marks.grade_id)
        assert (marks.grade, marks.solution) == (about.role == "check", about.role == "solution")
        assert marks.locked == (about.role != "solution")
        assert marks.schema_version == 3
        lines = cell.source.splitlines()
        assert [line.strip() for line in lines if "SOLUTION" in line] == (
            ["### BEGIN SOLUTION", "### END SOLUTION"] if about.role == "solution" else []
        )
        if about.role == "check":
            assert marks.points == assignment.exercises[about.exercise].marks
            begin, end = (lines.index(f"### {word} HIDDEN TESTS") for word in ("BEGIN", "END"))
            # what a student keeps
            assert lines[:begin] + lines[end + 1 :] == assignment.exercises[about.exercise].check.splitlines()


def test_the_hidden_tests_of_the_export_tell_right_from_wrong(assignment, folder, capsys):
    notebook = nbgrader_notebook(assignment)

    def run(number, answer):
        names = {}
        for cell in (c for c in notebook.cells if c.cell_type == "code"):
            about = cell.metadata.coursework
            if about.get("exercise") in (number, None):
                run_cell(answer if about.role == "solution" else cell.source, names, f"<{about.role}>")

    for number, e in assignment.exercises.items():
        run(number, e.solution)
    for variant in read_variants(folder / "variants.py", assignment):
        if variant.right:
            run(variant.exercise, variant.source)
        else:
            with pytest.raises(Wrong) as caught:
                run(variant.exercise, variant.source)
            assert "def probe" not in str(caught.value)
    only_hidden = ANGLE.replace("return 2", "assert len(u) == 2\n    return 2")  # the check has two numbers
    with pytest.raises(Wrong, match=r"^`angle` stopped with AssertionError on other inputs$"):
        run("9.1", only_hidden)


# -- variants --------------------------------------------------------------------------------------------


def test_variants_are_whole_cells(assignment, folder):
    variants = read_variants(folder / "variants.py", assignment)
    assert [(v.exercise, v.right) for v in variants] == [
        *[("9.1", False)] * 3,
        ("9.1", True),
        *[("9.2", False)] * 3,
        ("9.2", True),
    ]
    arccos = variants[0]
    assert arccos.name == "arccos"
    assert arccos.source.startswith("import math\n\n\ndef angle(u, v):\n    # loses small angles\n")
    assert "import torch" not in arccos.source  # the file's own imports are for editors
    for variant in variants:
        assert "@" not in variant.source.replace("u @ v", "")
        names = {}
        run_cell("\n".join(assignment.setup), names, "<setup>")
        run_cell(variant.source, names, "<answer>")
        assert assignment.exercises[variant.exercise].name in names


def test_a_variant_keeps_its_other_decorators_and_may_change_kind(assignment, tmp_path):
    (tmp_path / "variants.py").write_text(
        '@right("9.1", "kept")\n@functools.cache\ndef angle(u, v):\n    return 0\n'
        '@right("9.2", "a function")\ndef Coin(g):\n    return g\n'
    )
    kept, function = read_variants(tmp_path / "variants.py", assignment)
    assert kept.source.endswith("@functools.cache\ndef angle(u, v):\n    return 0\n")
    assert function.source == "def Coin(g):\n    return g\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def angle(u, v): return 0", "line 1: `angle` has 0 marks"),
        ("@right('9.1', 'a')\n@wrong('9.1', 'b')\ndef angle(u, v): return 0", "has 2 marks"),
        ("@wrong('9.1')\ndef angle(u, v): return 0", "has 0 marks"),
        ("@wrong('9.7', 'a')\ndef angle(u, v): return 0", "no exercise '9.7'; there are 9.1, 9.2"),
        ("@wrong('9.1', 'a')\ndef angel(u, v): return 0", r"does not look like .* def angle\(u, v\)"),
        ("@wrong('9.1', 'a')\ndef angle(u, w): return 0", r"does not look like .* def angle\(u, v\)"),
        ("@wrong('9.1', 'a')\ndef angle(u, *, v): return 0", "does not look like"),
        ("@wrong('9.2', 'a')\nclass Penny: pass", "does not look like .* class Coin"),
        (VARIANTS + VARIANTS, "exercise 9.1 has an answer named 'arccos' already"),
        ("def angle(u, v) return 0", "line 1: not Python"),
    ],
)
def test_a_broken_file_of_variants_is_refused(assignment, tmp_path, text, message):
    (tmp_path / "variants.py").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_variants(tmp_path / "variants.py", assignment)


# -- checks ----------------------------------------------------------------------------------------------

CELL = '''
def angle(u, v):
    """An answer."""
    {body}
'''


def says(check, answer=None):
    """What a check with this body says of an answer with that body, each in a cell of its own."""
    names = {"exercise": exercise}
    if answer is not None:
        run_cell(CELL.format(body=answer), names, "<answer>")
    body = "\n".join(f"    {line}" for line in check.splitlines())
    with pytest.raises((Wrong, Unwritten)) as caught:
        run_cell(f'with exercise("1.1"):\n{body}', names, "<check>")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert caught.value._render_traceback_() == [str(caught.value)]
    return str(caught.value)


def test_a_check_that_holds_prints_a_line(capsys):
    with exercise("1.1"):
        assert True
    assert capsys.readouterr().out == "1.1: right\n"


@pytest.mark.parametrize(
    ("check", "answer", "sentence"),
    [
        ('assert angle(1, 2) == 3, "asked: 3; came: another"', "return 4", "1.1: asked: 3; came: another"),
        ("angle(1, 2)", "return 1 / 0", r"1.1: `angle` stopped in line 4 of its cell with ZeroDiv\w+: div.*"),
        (
            "angle(1, 2)",
            "raise SystemExit(3)",
            "1.1: `angle` stopped in line 4 of its cell with SystemExit: 3",
        ),
        ("angle(1, 2)", "assert u is v", "1.1: `angle` stopped in line 4 of its cell with AssertionError"),
        (
            "angle(1, 2)",
            "return (lambda: v.x)()",
            "1.1: `angle` stopped in line 4 of its cell with Attr.*'x'",
        ),
        ("angle(1, 2)", "return json", "1.1: `angle` stopped in line 4 .* NameError: name 'json' is not.*"),
        (
            "angle(1, 2)",
            "import json; json.loads('{')",
            "1.1: `angle` stopped in line 4 .* JSONDecodeError.*",
        ),
        ("angle(1, 2)", "raise KeyError('a\\n b  c')", r"1.1: `angle` stopped .* KeyError: 'a\\n b c'"),
        ("angle(1)", "return 1", "1.1: the check could not go on with what it got: TypeError: .*missing 1.*"),
        ("angle(1, 2) + 1", "return None", "1.1: the check could not go on with .* TypeError: unsupported.*"),
        ("angle(1, 2)", None, "1.1: `angle` is not defined: run the cell that defines it, and keep its name"),
        ("def f():\n    assert False, 'not so'\nangle(f, 2)", "u()", "1.1: not so"),
        ("assert angle(1, 2) == 3", "return 4", "1.1: this does not hold: line 2"),
        (
            "import torch\ntorch.testing.assert_close(angle(1, 2), 5)",
            "return 4",
            "1.1: Scalars are not equal.*",
        ),
    ],
)
def test_whatever_goes_wrong_is_one_sentence(check, answer, sentence):
    said = says(check, answer)
    assert re.fullmatch(sentence, said), said
    assert "\n" not in said


def test_a_long_message_is_cut():
    assert len(says("angle(1, 2)", "raise ValueError('x' * 10_000)")) < 400


def test_a_stub_is_told_apart_from_a_wrong_answer():
    names = {"exercise": exercise, "Unwritten": Unwritten}
    run_cell(CELL.format(body='raise Unwritten("Write it.")'), names, "<answer>")
    with pytest.raises(Unwritten, match=r"^1\.1: Write it\.$") as caught:
        run_cell('with exercise("1.1"):\n    angle(1, 2)', names, "<check>")
    assert not isinstance(caught.value, Wrong)


def test_a_stub_of_another_tool_is_one_too():
    assert says("angle(1, 2)", "raise NotImplementedError()") == "1.1: the body is not written yet"


def test_the_keyboard_still_interrupts():
    with pytest.raises(KeyboardInterrupt), exercise("1.1"):
        raise KeyboardInterrupt


# -- geolessons check ------------------------------------------------------------------------------------


def a_student_file(folder, answers, *, checks=None):
    """A file with one exercise an answer: each is the body of a function `f`, and should give 4."""
    notebook = nbformat.v4.new_notebook(metadata={"coursework": {"assignment": "7", "title": "Mixed"}})

    def add(make, source, **about):
        cell = make(source)
        cell.metadata["coursework"] = nbformat.from_dict(about)
        notebook.cells.append(cell)

    code = nbformat.v4.new_code_cell
    add(code, "from geolessons.coursework import Unwritten, exercise", role="setup")
    for i, answer in enumerate(answers, 1):
        task = {"title": f"Four {i}", "marks": i, "expected": "It gives four.", "hint": "Two and two."}
        add(nbformat.v4.new_markdown_cell, "Four", role="task", exercise=f"7.{i}", **task)
        add(code, f"def f{i}():\n    {answer}", role="solution", exercise=f"7.{i}")
        check = f'with exercise("7.{i}"):\n    assert f{i}() == 4, "asked: 4; came: another number"'
        check = (checks or {}).get(i, check)
        if check is not None:
            add(code, check, role="check", exercise=f"7.{i}")
    nbformat.write(notebook, folder / "mixed.ipynb")
    return folder / "mixed.ipynb"


def test_check_says_of_each_exercise_what_came(tmp_path, capsys):
    path = a_student_file(
        tmp_path,
        [
            "return 4",
            'raise Unwritten("Write it.")',
            "return 5",
            "return 1 / 0",
            "return 4 +* 2",
            "import time; time.sleep(60)",
            "return 4",
            "return 5",
            "return open('beside.txt').read() and 4",
        ],
        checks={7: None, 8: "pass"},
    )
    (tmp_path / "beside.txt").write_text("there")
    before = path.read_bytes()
    assert main(["check", str(path), "--timeout", "3"]) == 1
    assert path.read_bytes() == before
    out = capsys.readouterr().out
    assert "Traceback" not in out
    assert "\x1b" not in out
    assert "10 of 45 marks by the checks in this file" in out
    text = " ".join(out.split())
    assert "Assignment 7: Mixed" in text
    for line in (
        "7.1 Four 1 right 1 of 1",
        "7.2 Four 2 not written 0 of 2 7.3 Four 3 wrong 0 of 3 came asked: 4; came: another number "
        "expected It gives four. hint Two and two. 7.4",
        "7.4 Four 4 wrong 0 of 4 came `f4` stopped in line 2 of its cell with ZeroDivisionError: division by",
        "7.5 Four 5 wrong 0 of 5 came the cell with your answer stopped: SyntaxError: invalid syntax in",
        "7.6 Four 6 wrong 0 of 6 came it took too long and was interrupted",
        "7.7 Four 7 no check 0 of 7 came the check cell is gone or changed: take it from a fresh copy",
        "7.8 Four 8 no check 0 of 8 came the check cell is gone or changed",
        "7.9 Four 9 right 9 of 9",
    ):
        assert line in text, line


def test_check_survives_the_end_of_python(tmp_path):
    path = a_student_file(tmp_path, ["return 4", "import os; os._exit(3)", "return 4"])
    report = check_notebook(path)
    assert [found.verdict for found in report.exercises] == ["right", "not run", "not run"]
    assert report.exercises[2].came == "Python ended in cell 6"
    assert report.notes == [
        "Python ended in cell 6, and no cell after it ran: too much memory, or `os._exit`"
    ]
    assert not report.all_right


def test_the_command_makes_and_a_stub_fails_under_nbval_by_a_sentence(folder, tmp_path, capsys):
    assert main(["make", str(folder), "--out", str(tmp_path / "new"), "--solved", "--nbgrader"]) == 0
    written = ["9_small.ipynb", "9_small_solved.ipynb", "source/9_small/9_small.ipynb"]
    assert sorted(str(p.relative_to(tmp_path / "new")) for p in (tmp_path / "new").rglob("*.*")) == written
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "new" / name) for name in written]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "--nbval-lax",
            "-p",
            "no:cacheprovider",
            "--color=no",
            "9_small.ipynb",
        ],
        cwd=tmp_path / "new",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "2 failed, 3 passed" in done.stdout
    assert f"\n9.1: {STUB}\n" in done.stdout
    assert "most recent call last" not in done.stdout
    assert "File " not in done.stdout


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "there is no such file"),
        ('{"cells": [', "not a notebook: broken JSON. Save or download it again."),
        (nbformat.writes(nbformat.v4.new_notebook()), "not an assignment"),
        (
            json.dumps(
                {
                    "nbformat": 4,
                    "nbformat_minor": 5,
                    "metadata": {"coursework": {"assignment": "1"}},
                    "cells": [],
                }
            ),
            "no cell holds a task",
        ),
    ],
)
def test_check_says_clearly_what_it_cannot_read(tmp_path, capsys, text, sentence):
    path = tmp_path / "mine.ipynb"
    if text is not None:
        path.write_text(text)
    assert main(["check", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"geolessons: {path}: ")
    assert sentence in err
    assert err.count("\n") == 1


def test_make_writes_nothing_if_one_assignment_is_broken(folder, tmp_path, capsys):
    (tmp_path / "bad").mkdir()
    assert main(["make", str(folder), str(tmp_path / "bad"), "--out", str(tmp_path / "new")]) == 2
    assert not (tmp_path / "new").exists()
    assert "solved.ipynb: there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize("made", [student_notebook, solved_notebook])
def test_make_says_that_a_notebook_is_a_students(assignment, tmp_path, capsys, made):
    path = tmp_path / "mine.ipynb"
    write_notebook(made(assignment), path)
    assert main(["make", str(path), "--out", str(tmp_path / "new")]) == 2
    said = "this is a student's notebook; name the folder with solved.ipynb"
    assert capsys.readouterr().err == f"geolessons: {path}: {said}\n"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "arguments", [["--help"], ["make", "--help"], ["check", "--help"], ["grade", "--help"]]
)
def test_help_shows_how(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for command in ("make", "check", "grade") if len(arguments) == 1 else arguments[:1]:
        assert command in out
    if len(arguments) == 2:
        assert f"geolessons {arguments[0]} " in out.partition("usage:")[2].partition("\n\n")[2]  # an example


@pytest.mark.parametrize("arguments", [[], ["check"], ["grade", "x"], ["check", "x", "--timeout", "0"]])
def test_a_command_that_lacks_something_says_so(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(arguments)
    assert caught.value.code == 2
    assert "usage: geolessons" in capsys.readouterr().err


def test_the_table_fits_a_narrow_terminal():
    found = Found(
        "1.1", "A title that is long " * 5, 3, "wrong", "came " * 30, "expected " * 20, "hint " * 20
    )
    text = table(Report("Assignment 1: Long", [found], ["note " * 40]), width=60)
    assert max(map(len, text.splitlines())) <= 60
    assert "wrong        0 of 3" in text
    assert "0 of 3 marks" in text


def test_python_m_geolessons_is_the_command(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "geolessons.__main__", raising=False)  # runpy warns of a second one
    monkeypatch.setattr(sys, "argv", ["geolessons", "--help"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("geolessons", run_name="__main__")
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("usage: geolessons")
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["geolessons"].partition(":")
    assert getattr(importlib.import_module(module), function) is main

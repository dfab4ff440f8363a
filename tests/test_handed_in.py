"""What is handed in, before anything of it runs: whose it is, which cells count, and what stays of a run."""

import json
import os
from types import SimpleNamespace

import pytest
from submissions import RIGHT, notebook, write_assignment

from geolessons.coursework import grading, reports
from geolessons.coursework.assignments import read_assignment
from geolessons.coursework.handed_in import LONGEST, read_submissions
from geolessons.coursework.marking import Outcome
from geolessons.coursework.reports import Result


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_assignment(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def known(small):
    return {"9": read_assignment(small / "9_small")}


def hand_in(path, small, answers=RIGHT, when=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook(small, answers)))
    os.utime(path, (when, when))


@pytest.mark.parametrize(("of_file", "of_folder"), [(1, 2), (2, 1)])
def test_a_file_and_a_folder_of_one_name_are_one_students(tmp_path, small, known, of_file, of_folder):
    hand_in(tmp_path / "ada.ipynb", small, RIGHT, of_file)
    hand_in(tmp_path / "ada" / "x.ipynb", small, {}, of_folder)
    hand_in(tmp_path / "bob.ipynb", small)
    ada, bob = read_submissions(tmp_path, known)
    assert (ada.student, ada.assignment, bob.student, bob.notes) == ("ada", "9", "bob", [])
    assert ada.notes == ["several notebooks for this assignment: the one changed last counts"]
    assert set(ada.sources) == (set(RIGHT) if of_file > of_folder else set())


def read(tmp_path, small, known, answer):
    """What is kept of an answer to 9.2."""
    hand_in(tmp_path / "ada.ipynb", small, {"9.2": answer})
    return read_submissions(tmp_path, known)[0].sources.get("9.2")


LONG = "\nx = 1" * LONGEST


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ("%matplotlib inline\n!ls\ndef spread(x):\n    return 1", "\n\ndef spread(x):\n    return 1"),
        (
            "%load x\ndef spread(x):\n    %time y = 1\n    if y:\n    \t!ls\n    return 1",
            "\ndef spread(x):\n    pass\n    if y:\n    \tpass\n    return 1",
        ),
        ("def spread(x):\n    return (7\n% 4)", None),
        ("def spread(x):\n    return (7\n    % 4)", None),
        ('def spread(x):\n    """\n%time\n!ls\n"""', None),
        ("def spread(x):\n    a = '\\d'\n    return (7\n% 4)", None),
        ("%time\ndef spread(x):\n    return (7\n    % 4)", "\ndef spread(x):\n    return (7\n    % 4)"),
        ("%time\ndef spread(x):\n    return +*", "\ndef spread(x):\n    return +*"),
        ("%time\nx = " + "-" * 90_000 + "1", "\nx = " + "-" * 90_000 + "1"),
        ("%time" + LONG, LONG),
    ],
    ids=["margin", "inside", "rest", "rest_inside", "text", "backslash", "both", "wrong", "deep", "long"],
)
def test_lines_of_ipython_go_and_lines_of_python_stay(tmp_path, small, known, answer, kept):
    assert read(tmp_path, small, known, answer) == (answer if kept is None else kept)


def test_a_stub_below_a_magic_is_a_stub(tmp_path, small, known):
    stub = known["9"].exercises["9.2"].unwritten
    assert read(tmp_path, small, known, "%matplotlib inline\n" + stub) is None


def test_pages_that_no_longer_hold_go_and_nothing_else(tmp_path, known):
    out, where = tmp_path / "g.csv", tmp_path / "g_reports"
    ada = Result("ada", None, {}, ["ada.ipynb: not a notebook: broken JSON"])
    bob = Result("bob", None, {}, ["bob.ipynb: not a notebook: broken JSON"])
    reports.write([ada, bob], out)
    (where / "eve_unknown.md").write_text("# notes of my own\n")
    (where / "zoe_unknown.md").symlink_to(where / "bob_unknown.md")
    (where / "ada_unknown.txt").write_text("# ada\n\nNothing was graded: x.\n")
    (where / "cyd_unknown.md").write_text("# cyd\n\nNothing was graded: x.\n")  # of no student of this run
    found = {n: Outcome(False, ["x"]) for n in known["9"].exercises}
    again = [Result(student, known["9"], found, []) for student in ("ada", "eve", "zoe")]
    reports.write([*again, bob], out)
    names = ["ada_9.md", "ada_unknown.txt", "bob_unknown.md", "cyd_unknown.md"]
    names += ["eve_9.md", "eve_unknown.md", "zoe_9.md", "zoe_unknown.md"]
    assert sorted(path.name for path in where.iterdir()) == names
    reports.write([ada, *again[1:], bob], out)
    assert not (where / "ada_9.md").exists()
    assert (where / "ada_unknown.md").exists()


def test_a_file_that_cannot_be_read_is_named_and_counted(tmp_path, small, known, monkeypatch, capsys):
    (tmp_path / "in" / "ada").mkdir(parents=True)
    (tmp_path / "in" / "ada" / "2_<b>.ipynb").write_text('{"cells": [')
    hand_in(tmp_path / "in" / "bob.ipynb", small)
    found = read_submissions(tmp_path / "in", known)
    assert [s.notes for s in found] == [["2_<b>.ipynb: not a notebook: broken JSON"], []]
    results = [Result(s.student, known.get(s.assignment or ""), {}, s.notes) for s in found]
    assert r"Nothing was graded: 2\_\<b\>.ipynb: not a n" in reports.page(results[0])
    monkeypatch.setattr(grading, "grade_folder", lambda *values, **named: results)
    options = {"submissions": "in", "out": tmp_path / "g.csv", "assignments": small, "jobs": 1, "seed": 0}
    grading.main(SimpleNamespace(**options, time=60, memory=1024, isolation="limits"))
    assert "\n1 graded, 0 with a note, 1 could not be read: " in capsys.readouterr().out

"""Marks for sources, runs that go on, and the comparison of answers."""

import csv
import io
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from submissions import RIGHT, notebook, write_assignment

from geolessons.coursework import answers, grading, isolation, judging, processes
from geolessons.coursework.assignments import Exercise, read_assignment
from geolessons.coursework.grading import grade_folder, grade_source
from geolessons.coursework.marking import expected


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_assignment(tmp_path_factory.mktemp("small"))


def test_sources_are_graded_here_and_apart(small):
    assignment, state = read_assignment(small / "9_small"), torch.random.get_rng_state()
    solutions = {n: e.solution for n, e in assignment.exercises.items()}
    for sources in (solutions, RIGHT):
        assert all(o.right for o in grade_source(assignment, sources).values())
    in_place = "def grown(x, factor):\n    return x.mul_(factor)\n"
    wrong = {"9.1": in_place, "9.2": "def spread(x):\n    print(x)\n    return x.max()\n"}
    for isolated in (False, True):
        found = grade_source(assignment, wrong, seed=3, isolated=isolated)
        assert found["9.1"].sentences == ["The input was changed."]
        assert judging.DIFFERS in found["9.2"].sentences
        assert found["9.3"].sentences == ["No cell that answers it was found."]
    assert list(grade_source(assignment, solutions, only=["9.3"])) == ["9.3"]
    other = {**solutions, "9.3": "def twice(x):\n    raise ValueError\n"}
    assert (
        grade_source(assignment, other)["9.3"].sentences[-1]
        == "It stops with ValueError in line 2 of its cell."
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_default_dtype() == torch.float32


def test_a_solution_that_does_not_pass_is_refused(tmp_path):
    broken = 'def twice(x):\n    """Two."""\n    ### BEGIN SOLUTION\n    return 3 * x\n    ### END SOLUTION\n'
    assignment = read_assignment(write_assignment(tmp_path, changed={"9.3": broken}) / "9_small")
    with pytest.raises(ValueError, match=r"solution of 9\.3 does not pass"):
        expected(assignment, 0)


def keep(folder, names):
    folder.mkdir(exist_ok=True)
    return {name: folder / f"{name}.ipynb" for name in names}


def test_a_run_goes_on_and_does_again_what_has_changed(tmp_path, small, monkeypatch, capsys):
    files = keep(tmp_path / "in", "abc")
    for path in files.values():
        path.write_text(json.dumps(notebook(small)))
    done, grade = [], grading.outcomes

    def counted(*values):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(1)
        return grade(*values)

    monkeypatch.setattr(grading, "outcomes", counted)
    out = tmp_path / "g.csv"
    options = SimpleNamespace(submissions=tmp_path / "in", out=out, assignments=small, jobs=1, seed=0)
    options = SimpleNamespace(**vars(options), time=60, memory=1024, isolation="limits", fresh=False)
    others = set(processes.offspring(os.getpid()))  # of tests before this one
    assert grading.main(options) == 130
    assert "goes on" in capsys.readouterr().err
    assert not out.exists()
    assert set(processes.offspring(os.getpid())) <= others
    done[:] = [1]
    assert grading.main(options) == 0  # one was left
    assert len(done) == 2
    first = out.read_text()
    assert [row["total"] for row in csv.DictReader(io.StringIO(first))] == ["6", "6", "6"]

    monkeypatch.setattr(grading, "Jail", None)
    assert grading.main(options) == 0
    assert out.read_text() == first
    monkeypatch.undo()
    monkeypatch.setattr(grading, "outcomes", lambda *values: done.append(1) or grade(*values))
    done.clear()
    files["b"].write_text(json.dumps(notebook(small, {})))
    assert grading.main(options) == 0
    assert [row["total"] for row in csv.DictReader(io.StringIO(out.read_text()))] == ["6", "0", "6"]
    assert len(done) == 1
    options.seed = 1
    assert grading.main(options) == 0
    assert len(done) == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["g.csv", "g_reports", "g_results", "in"]


def test_what_cannot_be_graded_is_refused(tmp_path, small):
    (tmp_path / "in").mkdir()
    out = tmp_path / "g.csv"
    with pytest.raises(ValueError, match="no submission in it"):
        grade_folder(tmp_path / "in", out, small)
    with pytest.raises(NotADirectoryError, match="folder of submissions"):
        grade_folder(tmp_path / "none", out, small)
    with pytest.raises(NotADirectoryError, match="folder of assignments"):
        grade_folder(tmp_path / "in", out, tmp_path / "none")
    with pytest.raises(ValueError, match=r"solved\.ipynb"):
        grade_folder(tmp_path / "in", out, tmp_path / "in")
    with pytest.raises(ValueError, match="must be auto, bubblewrap"):
        isolation.best("trust")


def test_each_kind_of_isolation_is_told_in_a_line():
    for kind in isolation.KINDS:
        told = isolation.sentence(kind)
        assert told.startswith("Isolation: ")
        assert "Not covered: " in told
        assert "\n" not in told
    assert isolation.best() in isolation.KINDS


def test_a_sandbox_hides_what_is_named():
    inside = str(Path(isolation.__file__).parents[1] / "data")
    command = " ".join(isolation._python("bubblewrap", [inside, "/nowhere"], "worker.py"))
    assert "--unshare-all --die-with-parent --new-session" in command
    assert f"--tmpfs {inside}" in command
    assert "/nowhere" not in command
    assert command.index("--ro-bind /") < command.index(f"--tmpfs {inside}")
    assert command.endswith(f"-- {sys.executable} -I -B worker.py")


def test_answers_go_there_and_back_as_data():
    class Plain(torch.Tensor):
        pass

    value = {
        "a": torch.arange(6.0).view(2, 3).T,
        "b": [1, 2.5, None, True, "x", (torch.tensor(1 + 2j), {})],
        "c": torch.zeros(0, dtype=torch.bfloat16),
        "d": torch.ones(2).as_subclass(Plain),
        "e": float("inf"),
        "f": object(),
        "g": 1 << 70,
        "h": torch.zeros(1).expand(1 << 40),
    }
    data = answers.frame({"case": 0}, value) + answers.frame({"check": True})
    (about, back), (end, none) = answers.frames(data + b"rest")
    assert (about, end, none) == ({"case": 0}, {"check": True}, None)
    assert torch.equal(back["a"], value["a"])
    assert back["b"][:5] == value["b"][:5]
    assert back["b"][5] == [torch.tensor(1 + 2j), {}]
    assert back["c"].dtype is torch.bfloat16
    assert type(back["d"]) is torch.Tensor
    assert back["e"] == float("inf")
    assert [type(back[key]) for key in "fgh"] == [answers.Other] * 3
    for cut in (3, 20, len(data) - 1):
        assert len(list(answers.frames(data[:cut]))) < 2
    for broken in (
        b"{",
        b"[]",
        b'{"value": {"tensor": "0", "complex": false}}',
        b'{"value": {"odd": 1}}',
        b"[" * 9999,
    ):
        assert list(answers.frames(answers.LENGTHS.pack(len(broken), 0) + broken)) == []


def exercise(**options):
    words = dict.fromkeys(
        ("number", "title", "expected", "hint", "stub", "name", "solution", "check", "probe"), ""
    )
    return Exercise(**words, minutes=1, marks=1, difficulty=1, **options)


NAN, ONE = float("nan"), torch.ones(3)


@pytest.mark.parametrize(
    ("got", "want", "said"),
    [
        (ONE, ONE, ""),
        (ONE + 5e-6, ONE, ""),
        (ONE + 5e-5, ONE, judging.DIFFERS),
        (ONE.double() + 1e-10, ONE.double(), ""),
        (ONE.double() + 1e-8, ONE.double(), judging.DIFFERS),
        (torch.tensor([1.0, 1e-6]), torch.tensor([1.0, 0.0]), ""),  # beside 1
        (ONE.double(), ONE, judging.DTYPE),
        (ONE[None], ONE, judging.SHAPE),
        (1.0, ONE, judging.KIND),
        (ONE * NAN, ONE, judging.FINITE),
        (ONE * NAN, ONE * NAN, ""),
        (ONE, ONE * NAN, judging.DIFFERS),
        (torch.ones(10**6), ONE, judging.LARGE),
        (torch.tensor([1, 2]), torch.tensor([1, 2]), ""),
        (torch.tensor([1, 3]), torch.tensor([1, 2]), judging.DIFFERS),
        (torch.tensor(2.0), 2.0, ""),
        (2, 2.0, ""),
        (True, 1, judging.KIND),
        (1, True, judging.KIND),
        (2.1, 2.0, judging.DIFFERS),
        (NAN, 2.0, judging.FINITE),
        (None, None, ""),
        (0, None, judging.KIND),
        (answers.Other("x"), "x", judging.KIND),
        ("y", "x", judging.DIFFERS),
        ([1, "x"], [1, "x"], ""),
        ([1], [1, "x"], judging.KIND),
        ({"a": 1}, {"a": 1}, ""),
        ({"b": 1}, {"a": 1}, judging.KIND),
        ([("a", 1)], {"a": 1}, judging.KIND),
    ],
)
def test_answers_are_compared_by_kind_shape_type_and_value(got, want, said):
    assert judging.faults(exercise(), {"k": got}, {"k": want}) == [said] * bool(said)


def test_inputs_that_a_call_changed_are_told_as_such_at_no_looser_tolerance():
    loose, want = exercise(atol=0.1), {"k": 1.0, "k afterwards": [ONE]}
    assert judging.faults(loose, {"k": 1.05, "k afterwards": [ONE]}, want) == []
    assert judging.faults(loose, {"k": 1.05, "k afterwards": [ONE + 0.05]}, want) == [judging.CHANGED]


def test_tolerances_and_judges():
    assert judging.faults(exercise(rtol=0.1), {"k": 1.05}, {"k": 1.0}) == []
    assert judging.faults(exercise(atol={"k": 0.1}), {"k": 1.05, "l": 1.0}, {"k": 1.0, "l": 1.0}) == []
    assert judging.faults(exercise(atol={"k": 0.1}), {"k": 1.0, "l": 1.05}, {"k": 1.0, "l": 1.0}) == [
        judging.DIFFERS
    ]
    assert judging.faults(exercise(), {"k": 1 + 1e-7}, {"k": 1.0}, dtype="float32") == []
    assert judging.faults(exercise(), {}, {"k": 1.0}) == [judging.KIND]
    assert judging.faults(exercise(), None, {"k": 1.0}) == [judging.KIND]
    sign = exercise(judge="def judge(got, want):\n    return ['Sign.'] if got['k'] * want['k'] < 0 else []\n")
    assert judging.faults(sign, {"k": 3.0}, {"k": 1.0}) == []
    assert judging.faults(sign, {"k": -3.0}, {"k": 1.0}) == ["Sign."]
    assert judging.faults(sign, {"k": None}, {"k": 1.0}) == [judging.KIND]
    assert judging.faults(sign, {"k": NAN}, {"k": 1.0}) == [judging.FINITE]

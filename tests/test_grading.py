"""Broken and hostile submissions beside honest ones: marks, and what must not come out or stay behind."""

import csv
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest
import submissions_broken  # noqa: F401 (fills the table)
import torch
from submissions import (
    CASES,
    HIDDEN,
    INSIDE,
    hostile,
    left_running,
    notebook,
    write_all,
    write_assignment,
)

from geolessons.coursework import answers, isolation, judging, processes, reports
from geolessons.coursework.grading import grade_folder
from geolessons.coursework.isolation import Jail, Limits

ALL = [*CASES, *hostile()]
SECRET = "s3cret-0f-the-env1ronment"
SMALL = Limits(seconds=1.5, memory=1 << 30)
SHUT = ("bubblewrap", "namespaces")  # kinds without network, where other files are not there


def works(kind):
    try:
        return isolation.best(kind)
    except ValueError:
        return None


def digests(*folders):
    paths = (p for folder in folders for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def graded(folder, cases, kind="auto"):
    """Everything about a run over these submissions."""
    token, others = "t" + uuid.uuid4().hex[:12], set(processes.offspring(os.getpid()))
    outside = folder / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    assignments, raw, seen = write_assignment(folder / "assignments"), [], {}
    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        room = {"assignments": assignments, "outside": outside, "token": token, "port": port}
        write_all(cases, folder / "submissions", **room)
        before = digests(folder)
        patch.setenv("GRADING_SECRET", SECRET)
        run = Jail.run

        def recorded(jail, first, second):
            ended = run(jail, first, second)
            raw.append(ended.answers)
            seen[ended.why] = ended
            return ended

        patch.setattr(Jail, "run", recorded)
        out = folder / "out" / "grades.csv"
        results = grade_folder(folder / "submissions", out, assignments, jobs=2, limits=SMALL, kind=kind)
    after = digests(folder / "submissions", folder / "assignments", outside)
    return SimpleNamespace(
        kind=isolation.best(kind),
        results={r.student: r for r in results},
        raw=b"\0".join(raw),
        table=out.read_text(encoding="utf8"),
        written=b"".join(p.read_bytes() for p in out.parent.rglob("*") if p.is_file()),
        before=before,
        after=after,
        token=token,
        left=set(processes.offspring(os.getpid())) - others,
        out=out,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return graded(tmp_path_factory.mktemp("all"), ALL)


def right(result):
    return "".join(number[-1] for number, outcome in result.outcomes.items() if outcome.right)


def test_there_are_fifty_and_more():
    assert len({case.name for case in ALL}) == len(ALL) >= 50


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_each_gets_its_marks_and_note(run, case):
    result = run.results[case.student.removesuffix(".ipynb")]
    assert right(result) == case.right, {n: o.sentences for n, o in result.outcomes.items()}
    assert case.note in "; ".join(result.notes)


def test_none_changes_anothers_marks_or_stops_the_run(run):
    assert len(run.results) == len(ALL) + 2
    assert [run.results[name].total for name in ("aaa_honest", "zzz_honest")] == [6, 6]


def test_nothing_hidden_comes_out(run):
    assert HIDDEN.encode() not in run.raw + run.written
    assert INSIDE.encode() in run.raw  # one submission did send it, and there it ends
    assert INSIDE.encode() not in run.written
    assert INSIDE.replace("-", "_").encode() not in run.written
    assert SECRET.encode() not in run.raw + run.written


def test_nothing_outside_is_read_or_written_and_nobody_is_called(run):
    assert run.after == run.before
    for place in ("/tmp", "/var/tmp", "/dev/shm", "/", Path.home(), Path(torch.__file__).parent):
        assert not list(Path(place).glob(f"*{run.token}*"))
    if run.kind in (*SHUT, "landlock"):
        assert b'"SEARCHED' in run.raw
        assert b"FOUND" not in run.raw
        assert b"SILENT" in run.raw
        assert b"CONNECTED" not in run.raw


def test_no_process_is_left(run):
    assert left_running(run.token) == []
    assert run.left == set()
    assert not list(Path(run.out.parents[1] / "outside").glob("daemon"))


def test_the_table_is_whole_and_inert(run):
    rows = list(csv.DictReader(io.StringIO(run.table)))
    assert list(rows[0]) == ["student", "assignment", "9.1", "9.2", "9.3", "total", "out_of", "note"]
    assert len(rows) == len(ALL) + 2
    by = {row["student"]: row for row in rows}
    honest = ["aaa_honest", "9", "1", "2", "3", "6", "6", ""]
    assert list(by["aaa_honest"].values()) == honest
    assert list(by["empty_file"].values()) == [
        "empty_file",
        *[""] * 4,
        "0",
        "",
        "empty_file.ipynb: not a notebook: broken JSON",
    ]
    assert "'=HYPERLINK(1)" in by
    assert not any(value.startswith(tuple("=+-@")) for row in rows for value in row.values())


def test_a_page_says_what_was_asked_and_nothing_else(run):
    pages = reports.folder(run.out)
    assert len(list(pages.iterdir())) == len(run.results)
    page = (pages / "forges_frames_9.md").read_text()
    assert page.startswith("# forges\\_frames: assignment 9, Small\n\n**1 of 6 marks.**\n")
    assert "## 9.1 Grown\n\nRight: 1 of 1 marks.\n" in page
    assert f"## 9.2 Spread\n\nNot right: 0 of 2 marks.\n\n- {judging.DIFFERS}\n- Expected: What the d" in page
    assert "Nothing was graded: utf16.ipynb: not text in UTF-8." in (pages / "utf16_unknown.md").read_text()
    sentences = {s for r in run.results.values() for o in r.outcomes.values() for s in o.sentences}
    assert {"It took longer than 1.5 s and was stopped.", "It is not written yet."} <= sentences


WEAKER = ["ends_its_parent", "ends_while_defined", "forges_frames", "leaves_a_daemon", "memory_of_children"]
APART = ["writes_outside", "reads_the_disk", "deletes"]


@pytest.mark.parametrize("kind", list(isolation.KINDS))
def test_every_kind_of_isolation_keeps_marks_apart_and_leaves_no_process(tmp_path, kind):
    if not works(kind):
        pytest.skip(f"{kind} is not to be had here")
    cases = [case for case in ALL if case.name in WEAKER + APART * (kind != "limits")]
    run = graded(tmp_path, cases, kind)
    for case in cases:
        if (case.name, kind) != ("leaves_a_daemon", "limits"):
            assert right(run.results[case.name]) == case.right, case.name
    assert [run.results[name].total for name in ("aaa_honest", "zzz_honest")] == [6, 6]
    assert left_running(run.token) == []
    assert run.left == set()
    assert HIDDEN.encode() not in run.raw + run.written
    assert run.after == run.before
    assert b"FOUND" not in run.raw


@pytest.mark.parametrize("kind", SHUT)
def test_solutions_that_lie_within_the_library_are_not_seen(kind):
    if not works(kind):
        pytest.skip(f"{kind} is not to be had here")
    library = Path(isolation.__file__).parents[1]
    folder, file, other = library / "studies", library / "sweep.css", library / "sweep.js"
    assert file.stat().st_size
    look = f"def f():\n    sizes = [os.path.getsize(p) for p in {[str(file), str(other)]}]\n"
    look += f"    return os.listdir({str(folder)!r}), *sizes"
    first = {"setup": ["import os"], "cells": {"1": ["f", look]}, "number": "1", "also": []}
    second = {"probe": "def probe(f):\n    return f()", "takes": ["f"], "cases": [{}], "check": ""}
    with Jail(kind, SMALL, masked=[folder, file]) as jail:
        (_, seen), _ = answers.frames(jail.run(first, second).answers)
    assert list(seen[0]) == []
    assert list(seen[1:]) == [0, other.stat().st_size]


@pytest.mark.parametrize("kind", list(isolation.KINDS))
def test_a_jail_ends_at_once_what_stays_behind_and_what_is_late(kind):
    if not works(kind):
        pytest.skip(f"{kind} is not to be had here")
    token = "t" + uuid.uuid4().hex[:12]
    stays = (
        "if not os.fork():\n    os.setsid()\n"
        f"    ctypes.CDLL(None).prctl(15, b'{token}', 0, 0, 0)\n    time.sleep(100)\n"
        "def f():\n    time.sleep(0.3)\n    return 1"
    )
    second = {"probe": "def probe(f):\n    return f()", "takes": ["f"], "cases": [{}], "check": ""}
    with Jail(kind, SMALL._replace(seconds=0.5)) as jail:

        def run(source):
            first = {"setup": ["import ctypes, os, time"], "cells": {"1": ["f", source]}}
            return jail.run({**first, "number": "1", "also": []}, second)

        assert run(stays).why == ""
        assert left_running(token) == []  # and not only when the jail is closed
        late = run("def f():\n    time.sleep(100)")
        assert late.why == "time"
        assert late.seconds < isolation.PATIENCE * 0.5 + isolation.GRACE / 2


def test_what_lies_in_a_temporary_folder_can_be_shown(tmp_path):
    """A course whose Python is installed below /tmp."""
    if not works("namespaces"):
        pytest.skip("namespaces are not to be had here")
    (tmp_path / "seen").write_text("seen")
    order = {
        "rung": "namespaces",
        "place": str(tmp_path / "place"),
        "masked": [],
        **isolation.Limits()._asdict(),
    }
    order["readable"] = [*isolation._readable(), str(tmp_path / "seen")]
    (tmp_path / "place").mkdir()
    script = (
        "import json, os, sys\n"
        "from geolessons.coursework.confinement import confine, leave\n"
        "own = leave()\n"
        "if not os.fork():\n"
        "    confine(json.loads(sys.argv[1]), own=own)\n"
        "    print(open(sys.argv[2]).read(), os.listdir(os.path.dirname(sys.argv[2])), os.getcwd())\n"
        "    sys.exit()\n"
        "os.wait()\n"
    )
    command = [sys.executable, "-c", script, json.dumps(order), str(tmp_path / "seen")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert (said.stdout, said.stderr) == ("seen ['seen'] /desk\n", "")


def test_the_end_of_the_grader_ends_all(tmp_path):
    token = "t" + uuid.uuid4().hex[:12]
    assignments = write_assignment(tmp_path / "assignments")
    (tmp_path / "in").mkdir()
    name = f"import ctypes, time\nctypes.CDLL(None).prctl(15, b'{token}', 0, 0, 0)\ntime.sleep(100)\n"
    (tmp_path / "in" / "a.ipynb").write_text(json.dumps(notebook(assignments, {"9.2": name})))
    script = "import sys; from geolessons.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [
        "grade",
        tmp_path / "in",
        "--out",
        tmp_path / "g.csv",
        "--assignments",
        assignments,
        "--jobs",
        "1",
    ]
    grader = subprocess.Popen([sys.executable, "-c", script, *map(str, command)], stdout=subprocess.PIPE)
    assert grader.stdout is not None
    assert grader.stdout.readline().startswith(b"Isolation: ")
    until = time.monotonic() + 300
    while not left_running(token) and time.monotonic() < until:
        time.sleep(0.05)
    assert left_running(token)
    grader.send_signal(signal.SIGKILL)
    grader.wait()
    grader.stdout.close()
    while left_running(token) and time.monotonic() < until:
        time.sleep(0.05)
    assert left_running(token) == []

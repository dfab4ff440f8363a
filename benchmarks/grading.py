"""Grading a folder of submissions: time, and memory of all processes together.

    python benchmarks/grading.py [--quick] [--repeat 1] [--jobs 2] [--submissions 30] [--out FILE.json]

The submissions are the solutions of the largest assignment of the book, each a file of its own, in the best
isolation that the machine has.  Memory is the proportional set size, in which a page that several processes
share is counted once, looked at four times a second; and the largest resident size of a single worker.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from timing import Row, arguments, circumstances, report

from geolessons.coursework import isolation
from geolessons.coursework.assignments import read_assignment, solved_notebook, write_notebook
from geolessons.coursework.grading import grade_folder, read_assignments
from geolessons.coursework.processes import offspring

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import submissions

BOOK = Path(__file__).parents[1] / "book" / "coursework"


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Measure, print, write."""
    parser = arguments(__doc__)
    parser.add_argument("--jobs", type=int, default=2, help="submissions side by side")
    parser.add_argument("--submissions", type=int, help="how many (default: 30)")
    options = parser.parse_args(argv)
    options.clock, options.device = "wall", "cpu"
    count = options.submissions or (2 if options.quick else 30)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        if options.quick or not BOOK.is_dir():
            folder = submissions.write_assignment(root / "assignments") / "9_small"
        else:
            found = read_assignments(BOOK).values()
            folder = max(found, key=lambda a: (len(a.exercises), a.marks)).path.parent
        assignment = read_assignment(folder)
        for i in range(count):
            write_notebook(solved_notebook(assignment), root / "in" / f"student{i:02}.ipynb")
        size = f"{len(assignment.exercises)} exercises, {options.jobs} jobs, {isolation.best()}"
        for _ in range(options.repeat or 1):
            rows += once(root, folder, count, assignment.marks, size, options)
    report("Grading", rows, circumstances(options, ["torch", "nbformat"]), options.out)
    return rows


def once(root: Path, folder: Path, count: int, marks: int, size: str, options: Any) -> list[Row]:
    """One run over the folder, nothing of it known before."""
    done, peak = threading.Event(), [0]

    def watch() -> None:
        while not done.wait(0.25):
            peak[0] = max(peak[0], sum(map(shared_fairly, [os.getpid(), *offspring(os.getpid())])))

    watcher, started = threading.Thread(target=watch), time.perf_counter()
    watcher.start()
    try:
        jobs = {"jobs": options.jobs, "fresh": True}
        found = grade_folder(root / "in", root / "grades.csv", folder, **jobs, seconds=600)
    finally:
        done.set()
        watcher.join()
    seconds = time.perf_counter() - started
    assert [result.total for result in found] == [marks] * count, json.dumps([r.total for r in found])
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return [
        Row(f"{count} submissions, {size}", seconds, "s", "", None, None, None),
        Row("  one of them", seconds / count, "s", "", None, None, None),
        Row("  peak memory of all processes", peak[0] / 1e6, "MB", "", None, None, None),
        Row("  largest worker", largest / 1e6, "MB", "", None, None, None),
    ]


def shared_fairly(process: int) -> int:
    """Bytes of a process, those that it shares divided by how many share them; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0


if __name__ == "__main__":
    main()

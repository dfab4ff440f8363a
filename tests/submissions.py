"""A small assignment, and submissions to it that are broken or mean harm: a table of each and what must hold.

The assignment holds canaries.  `HIDDEN` stands where no submission may get at it: in the judge, in a comment
of the probe, in a solution.  `INSIDE` is a constant of the probe, which the code that it calls can find; it
must not come out of the grader.  Broken files are in `submissions_broken`, hostile answers in a text.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nbformat

from geolessons.coursework.assignments import read_assignment, student_notebook

HIDDEN, INSIDE = "CANARY-h1dd3n", "CANARY-in51de"
IMPORTS = "import ctypes, gc, os, re, signal, sys, threading, time\nimport torch\n"
SETUP = "from geolessons.coursework import exercise\n\nimport torch\n"
SOLUTIONS = {
    "9.1": '''def grown(x, factor):
    """The tensor x, factor times as large; x stays as it is."""
    ### BEGIN SOLUTION
    return x * factor  # CANARY-h1dd3n
    ### END SOLUTION
''',
    "9.2": '''def spread(x):
    """The largest entry of x minus the smallest."""
    ### BEGIN SOLUTION
    return x.max() - x.min()
    ### END SOLUTION
''',
    "9.3": '''def twice(x):
    """The tensor x, twice as large."""
    ### BEGIN SOLUTION
    return x + x
    ### END SOLUTION
''',
}
CHECKS = {
    "9.1": "assert torch.equal(grown(torch.ones(2), 3.0), torch.full((2,), 3.0)), 'asked: 3; came: another'",
    "9.2": "assert spread(torch.tensor([1.0, 4.0])) == 3, 'asked: 3; came: another'",
    "9.3": "assert twice(torch.ones(1)).item() == 2, 'asked: 2; came: another'",
}
PROBES = {
    "9.1": '''def probe(grown, *, seed, dtype):
    """CANARY-h1dd3n."""
    import torch

    here = "CANARY-in51de"  # CANARY-h1dd3n
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    y = grown(x, 3.0)
    return {"out": y, "x": x}
''',
    "9.2": """def probe(spread, *, seed, dtype):
    import torch

    here = "CANARY-in51de"
    x = torch.randn(40, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return {"all": spread(x), "some": spread(x[3:9])}
""",
    "9.3": """def probe(twice):
    import torch

    return {"out": twice(torch.arange(5.0))}
""",
}
JUDGE = """def judge(got, want):
    import torch

    wrong = []
    if not torch.allclose(got["out"], want["out"]):
        wrong.append("The answer is not x times the factor.")
    if not torch.equal(got["x"], want["x"]):
        wrong.append("The input was changed.")
    assert "CANARY-h1dd3n"
    return wrong
"""
RIGHT = {
    "9.1": "def grown(x, factor):\n    return factor * x\n",
    "9.2": "def spread(x):\n    low, high = x.aminmax()\n    return high - low\n",
    "9.3": "def twice(x):\n    return grown(x, 2)\n",  # by the student's own function
}


def write_assignment(folder: Path, *, changed: Mapping[str, str] | None = None) -> Path:
    """Write the solved notebook, 9_small/solved.ipynb, perhaps with other solutions; return the folder."""
    new = nbformat.v4
    notebook = new.new_notebook()
    notebook.metadata = {
        "coursework": {"assignment": "9", "title": "Small"},
        "kernelspec": {"name": "python3", "display_name": "Python 3"},
    }

    def add(cell: nbformat.NotebookNode, role: str, **about: object) -> None:
        cell.metadata["coursework"] = {"role": role, **about}
        cell["id"] = f"{role}-{about.get('exercise', '')}".replace(".", "-")
        notebook.cells.append(cell)

    intro = "# Assignment 9: Small\n\n12 minutes, 6 marks. Run `geolessons check small.ipynb`."
    add(new.new_markdown_cell(intro), "intro")
    add(new.new_code_cell(SETUP), "setup")
    for i, number in enumerate(SOLUTIONS):
        marks, title = i + 1, ("Grown", "Spread", "Twice")[i]
        line = f"4 minutes · {marks} mark{'s' * (marks > 1)} · ●○○"
        about = {"title": title, "minutes": 4, "marks": marks, "difficulty": 1}
        words = {"expected": "What the docstring says.", "hint": "One line is enough."}
        task = new.new_markdown_cell(f"## {number} {title}\n\n{line}\n\nWrite it.")
        add(task, "task", exercise=number, **about, **words)
        solution = (changed or {}).get(number, SOLUTIONS[number])
        add(new.new_code_cell(solution), "solution", exercise=number, stub=f"Write `{title.lower()}`.")
        check = f'with exercise("{number}"):\n    {CHECKS[number]}\n'
        add(new.new_code_cell(check), "check", exercise=number)
        add(new.new_code_cell(PROBES[number]), "probe", exercise=number)
        if number == "9.1":
            add(new.new_code_cell(JUDGE), "judge", exercise=number)
    add(new.new_markdown_cell("What surprised you?"), "question")
    (folder / "9_small").mkdir(parents=True)
    (folder / "9_small" / "solved.ipynb").write_text(nbformat.writes(notebook), encoding="utf8")
    return folder


def notebook(assignments: Path, answers: Mapping[str, str] = RIGHT) -> dict[str, Any]:
    """A student's notebook with these cells as answers, as JSON."""
    found = json.loads(nbformat.writes(student_notebook(read_assignment(assignments / "9_small"))))
    for cell in found["cells"]:
        about = cell["metadata"]["coursework"]
        if about["role"] == "solution" and about["exercise"] in answers:
            cell["source"] = answers[about["exercise"]]
    return found


class Room(NamedTuple):
    """What a submission is made with: a path for it without ending, and what it may aim at."""

    path: Path
    assignments: Path
    outside: Path  # a folder that nothing may change
    token: str  # a name for processes and files, to find those that are left
    port: int  # of a server on this machine

    @property
    def file(self) -> Path:
        return self.path.with_name(self.path.name + ".ipynb")

    def write(self, found: object) -> None:
        self.file.write_text(json.dumps(found), encoding="utf8")

    def right(self) -> dict[str, Any]:
        return notebook(self.assignments)


class Case(NamedTuple):
    """A submission; what must hold is the exercises that get marks, and a word of the note."""

    name: str
    make: Callable[[Room], None]
    right: str  # the last digits of the exercises that are right
    note: str
    student: str  # the name of the file or folder


CASES: list[Case] = []  # those of `submissions_broken`


def case(
    right: str = "", note: str = "", student: str = ""
) -> Callable[[Callable[[Room], None]], Callable[[Room], None]]:
    """Puts a function that makes a submission into the table."""

    def add(make: Callable[[Room], None]) -> Callable[[Room], None]:
        CASES.append(Case(make.__name__, make, right, note, student or make.__name__))
        return make

    return add


def hostile() -> list[Case]:
    """Those of `hostile_answers.txt`: an answer to 9.2 each, beside a right one to 9.1."""
    text = Path(__file__).with_name("hostile_answers.txt").read_text(encoding="utf8")
    parts = re.split(r"^=== (\w+) (\d*)\n", text, flags=re.M)[1:]
    return [_hostile(*parts[i : i + 3]) for i in range(0, len(parts), 3)]


def _hostile(name: str, right: str, answer: str) -> Case:
    def make(room: Room) -> None:
        source = IMPORTS + answer
        for word, meant in (("OUTSIDE", room.outside), ("TOKEN", room.token), ("PORT", room.port)):
            source = source.replace(word, str(meant))
        room.write(notebook(room.assignments, {"9.1": RIGHT["9.1"], "9.2": source}))

    return Case(name, make, right, "", name)


def write_all(cases: Iterable[Case], folder: Path, **room: Any) -> None:
    """Write submissions, and an honest one before and after them; a `Room` needs what is named."""
    folder.mkdir()
    for name in ("aaa_honest", "zzz_honest"):
        (folder / f"{name}.ipynb").write_text(json.dumps(notebook(room["assignments"])), encoding="utf8")
    for one in cases:
        one.make(Room(folder / one.student, **room))


def left_running(token: str) -> list[str]:
    """Processes that a submission has named, and that are there still."""
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            found += [path.parent.name] if path.read_text().strip() == token else []
    return found

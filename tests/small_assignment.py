"""A small assignment, made up for tests: an angle, and a well that takes a generator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

ANGLE = '''import math


def angle(u, v):
    """The angle between two tensors of one shape, in radians; a float."""
    ### BEGIN SOLUTION
    u, v = u.double() / u.double().norm(), v.double() / v.double().norm()
    return 2 * math.atan2(float((u - v).norm()), float((u + v).norm()))
    ### END SOLUTION
'''
COIN = '''class Coin:
    """Tosses of a coin: `Coin(g).toss(n)` gives n zeros and ones, drawn from the generator g."""

    ### BEGIN SOLUTION
    def __init__(self, g):
        self.g = g

    def toss(self, n):
        return torch.randint(0, 2, (n,), generator=self.g)

    ### END SOLUTION
'''
VARIANTS = '''"""Wrong answers, and other right ones."""
import torch
from geolessons.coursework import right, wrong


@wrong("9.1", "arccos")
def angle(u, v):
    # loses small angles
    return float(torch.acos((u @ v / u.norm() / v.norm()).clamp(-1, 1)))


@wrong("9.1", "in degrees")
def angle(u, v):
    return math.degrees(2 * math.atan2(float((u / u.norm() - v / v.norm()).norm()), 2))


@wrong("9.1", "writes on its input")
def angle(u, v):
    u /= u.norm()
    v /= v.norm()
    return 2 * math.atan2(float((u - v).norm().double()), float((u + v).norm().double()))


@right(
    "9.1",
    "by a part at right angles",
)
def angle(u, v):
    u, v = u.double(), v.double()
    along = float(u @ v / u.norm())
    return math.atan2(float((v - along * u / u.norm()).norm()), along)


@wrong("9.2", "the global generator")
class Coin:
    def __init__(self, g):
        pass

    def toss(self, n):
        return torch.randint(0, 2, (n,))


@wrong("9.2", "always heads")
class Coin:
    def __init__(self, g):
        self.g = g

    def toss(self, n):
        return torch.ones(n, dtype=torch.long)


@wrong("9.2", "one too few")
class Coin:
    def __init__(self, g):
        self.g = g

    def toss(self, n):
        return torch.randint(0, 2, (n - 1,), generator=self.g)


@right("9.2", "one draw a toss")
class Coin:
    def __init__(self, g):
        self.g = g

    def toss(self, n):
        return torch.stack([torch.randint(0, 2, (), generator=self.g) for _ in range(n)])
'''
CELLS: list[tuple[str, str, dict[str, Any]]] = [
    (
        "# Assignment 9: Odds and ends\n\n20 minutes, 4 marks. Measure, then toss.",
        "intro",
        {},
    ),
    ("from geolessons.coursework import exercise\nimport torch", "setup", {}),
    (
        "## 9.1 An angle\n\n15 minutes · 3 marks · ●●○\n\nWrite an angle that survives.",
        "task",
        {
            "title": "An angle",
            "minutes": 15,
            "marks": 3,
            "difficulty": 2,
            "expected": "The angle in radians, also when it is small.",
            "hint": "Look at the difference and the sum of the unit vectors.",
        },
    ),
    (ANGLE, "solution", {"stub": "Write the body of `angle`: two tensors in, one angle out."}),
    (
        """with exercise("9.1"):
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([2.0, 2e-4])
    assert abs(angle(a, b) - 1e-4) < 1e-8, "asked: an angle of 0.0001; came: another one"
    assert b[0] == 2, "asked: inputs left as they are; came: changed ones\"""",
        "check",
        {},
    ),
    (
        """def probe(angle, *, seed, dtype):
    import torch

    g = torch.Generator().manual_seed(seed)
    u, v = torch.randn(2, 5, generator=g, dtype=torch.float64).to(dtype)
    near = u + 1e-3 * v
    return {"wide": angle(u, v), "near": angle(u, near), "u": u}""",
        "probe",
        {"rtol": {"wide": 1e-5, "near": 1e-3}, "atol": 1e-6},
    ),
    (
        "## 9.2 A coin\n\n5 minutes · 1 mark · ●○○\n\nToss it.",
        "task",
        {
            "title": "A coin",
            "minutes": 5,
            "marks": 1,
            "difficulty": 1,
            "expected": "Zeros and ones from the generator.",
            "hint": "Pass the generator on.",
        },
    ),
    (COIN, "solution", {"stub": "Write the two methods of `Coin`."}),
    (
        """with exercise("9.2"):
    tosses = Coin(torch.Generator().manual_seed(0)).toss(100)
    assert len(tosses) == 100, "asked: 100 tosses; came: another number\"""",
        "check",
        {},
    ),
    (
        """def probe(Coin, *, seed):
    import torch

    g = torch.Generator().manual_seed(seed)
    before = g.get_state()
    tosses = Coin(g).toss(400)
    return {"mean": float(tosses.double().mean()), "drawn": bool((g.get_state() != before).any())}""",
        "probe",
        {},
    ),
    (
        """def judge(got, want):
    wrong = [] if 0.3 < got["mean"] < 0.7 else ["the coin is not fair"]
    return wrong if got["drawn"] else [*wrong, "nothing was drawn from the generator"]""",
        "judge",
        {},
    ),
    ("## A question\n\nWhich one surprised you?", "question", {}),
]


def small_notebook() -> NotebookNode:
    """The solved notebook."""
    notebook = nbformat.v4.new_notebook(
        metadata={
            "coursework": {"assignment": "9", "title": "Odds and ends"},
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        }
    )
    number = ""
    for i, (source, role, more) in enumerate(CELLS):
        if role == "task":
            number = source.split()[1]
        about = {"role": role, **more}
        if role not in ("intro", "setup", "question"):
            about["exercise"] = number
        kind = nbformat.v4.new_markdown_cell if role in ("intro", "task", "question") else None
        cell = (kind or nbformat.v4.new_code_cell)(source.rstrip("\n"), id=f"{role}-{i}")
        cell.metadata["coursework"] = nbformat.from_dict(about)
        notebook.cells.append(cell)
    return notebook


def write_small(folder: Path) -> Path:
    """Write it and its variants; the folder of the assignment."""
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(small_notebook(), folder / "solved.ipynb")
    (folder / "variants.py").write_text(VARIANTS, encoding="utf8")
    return folder

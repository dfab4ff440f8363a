"""Every number in the book's prose is re-computed, and the prose keeps to the book's voice.

A number is marked where it stands: `0.72<!--=moves["crossing"].mean-->`.  The expression may use the results
of the studies by name and functions of `math`; the number must be its value at the digits printed.
"""

from __future__ import annotations

import json
import math
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

BOOK = Path(__file__).parents[1] / "book"
NOTEBOOKS = sorted(BOOK.glob("*.ipynb"))
ASSIGNMENTS = sorted(BOOK.glob("coursework/*/solved.ipynb"))
CHAPTERS = [path for path in NOTEBOOKS if path.name[0].isdigit()]
UNIT = r"(?: %|°| rad| points)?"
MARK = re.compile(rf"(?P<sign>[−-]?)(?P<number>\d+(?:\.\d+)?){UNIT}<!--=(?P<expression>.*?)-->")
FORBIDDEN = ["simply", "clearly", "obviously", "just", "novel", "powerful", "elegant", "state of the art"]
RESULTS = {
    path.stem: {
        key: SimpleNamespace(**value) for key, value in json.loads(path.read_text())["values"].items()
    }
    for path in BOOK.glob("results/*.json")
    if path.stem != "claims"
}
COSTS = {path.stem: json.loads(path.read_text()).get("costs") for path in BOOK.glob("results/*.json")}
NAMES = {
    **RESULTS,
    "costs": COSTS,
    "abs": abs,
    "max": max,
    "min": min,
    **{
        name: getattr(math, name)
        for name in ("acos", "asin", "cos", "degrees", "pi", "radians", "sin", "sqrt")
    },
}


def problems(path: Path) -> list[str]:
    """What `book/store_outputs.py --check` says of a notebook."""
    namespace = runpy.run_path(str(BOOK / "store_outputs.py"))
    return namespace["problems"](path)


def markdown(path: Path) -> str:
    return "\n\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown")


def prose(path: Path) -> str:
    """The running text: no code, mathematics, directives' names, marks or list of numbers in tables."""
    text = re.sub(r"<!--.*?-->", "", markdown(path))
    text = re.sub(r"```\{strip\}.*?```", "", text, flags=re.S)
    text = re.sub(r"\$\$.*?\$\$|\$[^$]*\$", "", text, flags=re.S)
    text = re.sub(r"\{\w+(?::\w+)?\}`[^`]*`|`[^`]*`", "X", text)
    text = re.sub(r"^(:::+|```).*$|^:\w[\w-]*:.*$|^#.*$|^\|.*$|^ {4}.*$", "", text, flags=re.M)
    return re.sub(r"\]\([^)]*\)", "]", text)


def value_of(expression: str) -> float:
    return float(eval(expression, {"__builtins__": {}}, NAMES))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_marked_numbers_are_what_the_results_say(path: Path) -> None:
    wrong = []
    text = markdown(path)
    marks = list(MARK.finditer(text))
    assert len(marks) == text.count("<!--="), "a mark does not follow a number directly"
    for mark in marks:
        digits = len(mark["number"].partition(".")[2])
        value = value_of(mark["expression"])
        printed = f"{'-' if mark['sign'] else ''}{mark['number']}"
        if f"{value:.{digits}f}" != printed:
            wrong.append(f"{mark[0]}: it is {value:.{digits + 2}f}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_decimals_in_prose_are_marked_or_printed(path: Path) -> None:
    """A decimal number in prose is marked, printed by a cell of the page, or measured by a claim test."""
    notebook = nbformat.read(path, as_version=4)
    shown = " ".join(c.source for c in notebook.cells if c.cell_type == "code")
    shown += json.dumps([c.get("outputs", []) for c in notebook.cells], ensure_ascii=False)
    shown += (BOOK / "results" / "claims.json").read_text(encoding="utf8")
    text = MARK.sub("", markdown(path))
    text = re.sub(r":::\{admonition\}.*?:::", "", text, flags=re.S)  # the answers to choose from
    text = re.sub(r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`", "", text, flags=re.S)
    loose = [n for n in re.findall(r"(?<![\w.])\d+\.\d+(?![\w.])", text) if n not in shown]
    assert not loose, f"numbers that nothing produces: {loose}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_voice(path: Path) -> None:
    text = prose(path)
    found = [word for word in FORBIDDEN if re.search(rf"\b{word}\b", text, re.I)]
    assert not found, f"words the book does without: {found}"
    sentences = [s for s in re.split(r"(?<=[.?!:])\s+|\n\n+|^- ", text, flags=re.M) if len(s.split()) > 2]
    long = [s for s in sentences if len(s.split()) > 34]
    assert not long, "sentences that are too long:\n" + "\n".join(long)
    assert sum(len(s.split()) for s in sentences) / len(sentences) <= 18


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_a_chapter_is_built_as_chapters_are(path: Path) -> None:
    """Strip, question, prediction and card come first, two cells never meet, and nothing is missing."""
    cells = nbformat.read(path, as_version=4).cells
    kinds = [c.cell_type for c in cells]
    assert not [i for i in range(1, len(kinds)) if kinds[i - 1] == kinds[i] == "code"], (
        "two code cells in a row"
    )
    assert cells[0].source.startswith("```{strip}")
    assert ":class: prediction" in cells[0].source
    assert "sweep(" in cells[1].source
    text = markdown(path)
    for heading in ("## Where it breaks", "## Exercises", "## Take away", "## Further reading"):
        assert heading in text
    assert text.count("```{exercise}") == text.count("```{solution}") >= 4
    assert 750 <= len(prose(path).split()) <= 2600
    code = [
        c.source for c in cells if c.cell_type == "code" and "hide-input" not in c.metadata.get("tags", [])
    ]
    assert max(source.count("\n") + 1 for source in code) <= 12
    for box in re.findall(r":::\{claim\} (\w+)\n(.*?)\n:::", text, re.S):
        assert "**The paper says**" in box[1], box[0]
        assert "**We ran**" in box[1], box[0]


@pytest.mark.parametrize("path", NOTEBOOKS + ASSIGNMENTS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_notebooks_can_be_compared(path: Path) -> None:
    """A cell that was never run passes nbval without being compared; pictures do not belong into git."""
    assert problems(path) == []


def test_a_cell_never_run_an_error_and_a_picture_are_refused(tmp_path: Path) -> None:
    new = nbformat.v4
    picture = new.new_output("display_data", {"image/png": "aGk=", "text/plain": "a"})
    error = new.new_output("error", ename="ValueError", evalue="x", traceback=[])
    cells = [
        new.new_code_cell("1 + 1"),
        new.new_code_cell("show()", execution_count=1, outputs=[picture]),
        new.new_code_cell("raise", execution_count=2, outputs=[error]),
        new.new_code_cell("print(1)", execution_count=3, outputs=[new.new_output("stream", text="1\n")]),
    ]
    path = tmp_path / "page.ipynb"
    nbformat.write(new.new_notebook(cells=cells), path)
    said = problems(path)
    assert len(said) == 3
    assert "cell 0 was never run" in said[0]
    assert "image/png" in said[1]
    assert "cell 2 holds an error" in said[2]

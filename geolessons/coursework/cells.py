"""What each cell of a solved notebook must be; every message names the cell and what would be right."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from geolessons.coursework.stubs import BEGIN, END
from geolessons.coursework.variants import defined

__all__ = [
    "HIDDEN",
    "OF_AN_EXERCISE",
    "ROLES",
    "Labelled",
    "answer_name",
    "asks",
    "labelled",
    "names",
    "only_function",
    "whole",
    "words",
]

Labelled = dict[tuple[str, str, int], tuple[str, Any]]
ROLES = {  # role: kind of cell
    "intro": "markdown",
    "setup": "code",
    "task": "markdown",
    "solution": "code",
    "check": "code",
    "probe": "code",
    "judge": "code",
    "question": "markdown",
}
OF_AN_EXERCISE = ("task", "solution", "check", "probe", "judge")
HIDDEN = ("probe", "judge")


def labelled(path: Path, notebook: NotebookNode) -> Iterator[tuple[tuple[str, str, int], tuple[str, Any]]]:
    """((role, exercise, how many before), (where, cell)) of each cell that holds something."""
    seen: dict[tuple[str, str], int] = {}
    for i, cell in enumerate(notebook.cells):
        about = cell.metadata.get("coursework", {})
        role, number = str(about.get("role", "")), str(about.get("exercise", ""))
        where = f"{path}, cell {i} ({f'{role} of {number}' if number else role or 'no role'})"
        if role not in ROLES:
            raise ValueError(f"{where}: the role {role!r} must be one of {', '.join(ROLES)}")
        if cell.cell_type != ROLES[role]:
            raise ValueError(f"{where}: a {cell.cell_type} cell; this role has {ROLES[role]}")
        if bool(number) != (role in OF_AN_EXERCISE):
            raise ValueError(f"{where}: {'no exercise' if number else 'an exercise'} goes with this role")
        before = seen.get((role, number), 0)
        if before and role != "setup":
            raise ValueError(f"{where}: a second cell of this kind; there is one")
        seen[role, number] = before + 1
        if role == "intro" and i:
            raise ValueError(f"{where}: the intro must be the first cell")
        if cell.cell_type == "code":
            parsed(where, cell.source)
        yield (role, number, before), (where, cell)


def words(where: str, about: Mapping[str, Any], key: str) -> str:
    """A text from a cell's metadata."""
    value = about.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: {key!r} must be in the metadata, in words")
    return value


def whole(where: str, about: Mapping[str, Any], key: str) -> int:
    """A number 1, 2, … from a cell's metadata."""
    value = about.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{where}: {key}={value!r} must be a whole number from 1")
    return value


def parsed(where: str, source: str) -> ast.Module:
    """A cell's source as a tree."""
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise ValueError(f"{where}: not Python, line {error.lineno}: {error.msg}") from None


def answer_name(where: str, source: str) -> str:
    """The name that a solution cell defines, once it is seen to be well formed."""
    try:
        _, node = defined(source)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if not ast.get_docstring(node):
        raise ValueError(f"{where}: `{node.name}` has no docstring, which is what a student reads")
    lines = [line.strip() for line in source.splitlines()]
    marks = [line for line in lines if line in (BEGIN, END)]
    if not marks or marks != [BEGIN, END] * (len(marks) // 2):
        raise ValueError(f"{where}: the answer must stand between {BEGIN!r} and {END!r}")
    return node.name


def only_function(where: str, source: str, name: str) -> ast.FunctionDef:
    """The one function that a hidden cell holds."""
    body = parsed(where, source).body
    if len(body) != 1 or not isinstance(body[0], ast.FunctionDef) or body[0].name != name:
        raise ValueError(f"{where}: must hold the function {name} and nothing else (imports go inside)")
    return body[0]


def asks(source: str, number: str) -> bool:
    """Whether a check cell has its `with exercise(number)`."""
    return any(
        isinstance(node, ast.With) and ast.unparse(node.items[0].context_expr) == f"exercise({number!r})"
        for node in ast.walk(ast.parse(source))
    )


def names(source: str) -> set[str]:
    """What a source defines at its top."""
    found: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        else:
            found |= {
                n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
            }
    return found

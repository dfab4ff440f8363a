"""Answers to an assignment that are wrong, or right in another way: text to be graded, never imported.

    @wrong("1.1", "arccos")
    def angle(u, v): ...

stands for the solution cell of exercise 1.1 with this function in place of its own.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from geolessons.coursework.assignments import Assignment

__all__ = ["Variant", "defined", "read_variants", "right", "wrong"]

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
T = TypeVar("T")


@dataclass(frozen=True)
class Variant:
    """Another answer to an exercise.

    Attributes:
        exercise: Its number.
        name: What it does, in words.
        right: Whether it must be marked right; else the checks of this exercise, and no other, must fail.
        source: Of the whole solution cell.
    """

    exercise: str
    name: str
    right: bool
    source: str


def wrong(exercise: str, name: str) -> Callable[[T], T]:
    """Marks a wrong answer in `variants.py`; does nothing.

    Args:
        exercise: Its number.
        name: The mistake, in words.
    """
    return lambda answer: answer


def right(exercise: str, name: str) -> Callable[[T], T]:
    """Marks another right answer in `variants.py`; does nothing.

    Args:
        exercise: Its number.
        name: The way, in words.
    """
    return lambda answer: answer


def read_variants(path: str | Path, assignment: Assignment) -> list[Variant]:
    """The answers in a `variants.py`, in order; the file is parsed and not run.

    A decorated function or class takes the place of the solution cell's own; the cell's imports stay.
    Imports of the file itself are for editors and linters, and are left out.

    Args:
        path: Of the file.
        assignment: That they answer.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not Python; or if an answer has no mark or two, names an exercise that is
            not there, repeats a name, or differs from the solution in its name or parameters.
    """
    path = Path(path)
    text = path.read_text(encoding="utf8")
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise ValueError(f"{path}, line {error.lineno}: not Python: {error.msg}") from None
    found: list[Variant] = []
    for node in tree.body:
        if not isinstance(node, Definition):
            continue
        where = f"{path}, line {node.lineno}: `{node.name}`"
        marks = [mark for mark in map(_mark, node.decorator_list) if mark]
        if len(marks) != 1:
            raise ValueError(
                f'{where} has {len(marks)} marks; one is needed: @wrong("1.1", "words") or @right(…)'
            )
        number, name, is_right, mark_node = marks[0]
        if number not in assignment.exercises:
            raise ValueError(f"{where}: no exercise {number!r}; there are {', '.join(assignment.exercises)}")
        if any((v.exercise, v.name) == (number, name) for v in found):
            raise ValueError(f"{where}: exercise {number} has an answer named {name!r} already")
        solution = assignment.exercises[number].solution
        _, own = defined(solution)
        asked, came = _parameters(own), _parameters(node)
        if node.name != own.name or (asked and came and asked != came):
            raise ValueError(f"{where} does not look like the solution of {number}, {_head(own)}")
        first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
        dropped = range(mark_node.lineno, (mark_node.end_lineno or mark_node.lineno) + 1)
        lines = text.splitlines()
        body = [lines[n - 1] for n in range(first, (node.end_lineno or first) + 1) if n not in dropped]
        own_first = min([own.lineno, *(d.lineno for d in own.decorator_list)])
        source = "\n".join([*solution.splitlines()[: own_first - 1], *body]) + "\n"
        found.append(Variant(number, name, is_right, source))
    return found


def defined(source: str) -> tuple[list[ast.stmt], Definition]:
    """A solution cell's imports, and the one function or class that it defines.

    Raises:
        SyntaxError: If it is not Python.
        ValueError: If it holds anything else, or not exactly one definition, at its end.
    """
    *imports, last = ast.parse(source).body or [ast.Pass()]
    only_imports = all(isinstance(i, ast.Import | ast.ImportFrom) for i in imports)
    if not isinstance(last, Definition) or not only_imports:
        raise ValueError("must hold imports, then one function or class, and nothing else")
    return imports, last


def _mark(node: ast.expr) -> tuple[str, str, bool, ast.expr] | None:
    """(exercise, name, right?, node) of a decorator that is a mark."""
    match node:
        case ast.Call(
            func=ast.Name(id="wrong" | "right" as kind),
            args=[ast.Constant(value=str(number)), ast.Constant(value=str(name))],
            keywords=[],
        ):
            return number, name, kind == "right", node
    return None


def _parameters(node: Definition) -> tuple[list[str], str | None, list[str], str | None] | None:
    """The parameters' names, by kind; None for a class, which may stand for a function."""
    if isinstance(node, ast.ClassDef):
        return None
    a = node.args
    return (
        [p.arg for p in (*a.posonlyargs, *a.args)],
        a.vararg.arg if a.vararg else None,
        [p.arg for p in a.kwonlyargs],
        a.kwarg.arg if a.kwarg else None,
    )


def _head(node: Definition) -> str:
    return (
        f"class {node.name}"
        if isinstance(node, ast.ClassDef)
        else f"def {node.name}({ast.unparse(node.args)})"
    )

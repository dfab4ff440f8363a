"""Turning an answer into a stub: what stands between the markers gives way to one sentence."""

from __future__ import annotations

import ast

from geolessons.coursework.variants import defined

__all__ = ["BEGIN", "END", "IMPORT", "IMPORT_BOTH", "stubbed", "with_unwritten", "without_markers"]

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"  # nbgrader's own
IMPORT = "from geolessons.coursework import exercise"
IMPORT_BOTH = "from geolessons.coursework import Unwritten, exercise"
WIDTH = 110


def with_unwritten(setup: str) -> str:
    """A setup cell whose import of `exercise` brings what stubs raise as well."""
    lines = [IMPORT_BOTH if line == IMPORT else line for line in setup.splitlines()]
    return "\n".join(lines)


def stubbed(solution: str, stub: str) -> str:
    """The solution with a `raise Unwritten(stub)` in place of each part between markers."""
    _, node = defined(solution)
    out: list[str] = []
    inside = False
    for line in solution.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        if line.strip() == BEGIN:
            inside = True
            if isinstance(node, ast.ClassDef) and len(indent) == 4:
                out.append(f"{indent}def __init__(self, *values, **named):")
                indent += "    "
            sentence = f'"{stub}"' if '"' not in stub and "\\" not in stub else repr(stub)
            whole = f"{indent}raise Unwritten({sentence})"
            out += (
                [whole]
                if len(whole) <= WIDTH
                else [f"{indent}raise Unwritten(", f"{indent}    {sentence}", f"{indent})"]
            )
        elif line.strip() == END:
            inside = False
        elif not inside:
            out.append(line)
    return "\n".join(out) + "\n"


def without_markers(solution: str) -> str:
    """The solution as one would write it by hand."""
    return "".join(line for line in solution.splitlines(keepends=True) if line.strip() not in (BEGIN, END))

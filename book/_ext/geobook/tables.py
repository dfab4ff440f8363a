"""Tables made by the directives, as document nodes, so that every output format can print them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docutils import nodes

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Cell", "paragraph", "row", "table"]

Cell = list[nodes.Node]


def paragraph(*parts: nodes.Node | str, classes: Sequence[str] = ()) -> nodes.paragraph:
    """A paragraph of strings and inline nodes."""
    children = [nodes.Text(part) if isinstance(part, str) else part for part in parts]
    return nodes.paragraph("", "", *children, classes=list(classes))


def table(heads: Sequence[str], rows: Sequence[nodes.row], classes: Sequence[str] = ()) -> nodes.table:
    """A table with a head.

    Args:
        heads: One title a column.
        rows: The rows, made by `row`.
        classes: Classes of the table.

    Returns:
        The table.
    """
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in heads), cols=len(heads))
    group += nodes.thead("", row([[paragraph(head)] for head in heads]))
    group += nodes.tbody("", *rows)
    return nodes.table("", group, classes=list(classes))


def row(cells: Sequence[Cell], ids: Sequence[str] = ()) -> nodes.row:
    """A row of cells, each a list of block nodes."""
    return nodes.row("", *(nodes.entry("", *cell) for cell in cells), ids=list(ids))

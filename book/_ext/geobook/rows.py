"""A card stands beside its prediction where there is room for both.

In a notebook the two are different cells, which no directive can enclose. So the row is made here: a
prediction box, what follows it up to the card, the card, and the fold "What you saw" right under it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from docutils import nodes

from .facts import is_answer, is_card_cell, is_prediction

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["setup"]

BESIDE = (nodes.paragraph, nodes.bullet_list, nodes.enumerated_list)  # what may stand under the question


def make_rows(app: Sphinx, doctree: nodes.document) -> None:
    """Wrap every prediction, its card and its answer."""
    for question in [node for node in doctree.findall(nodes.Element) if is_prediction(node)]:
        parent = question.parent
        start = parent.index(question)
        card = next_card(parent, start)
        if card is None:
            continue
        end = card + 1
        answer = parent[end] if end < len(parent) and is_answer(parent[end]) else None
        parts = [
            nodes.container("", *parent[start:card], classes=["geo-ask"]),
            nodes.container("", parent[card], classes=["geo-card"]),
        ]
        if answer is not None:
            parts.append(nodes.container("", answer, classes=["geo-saw"]))
            end += 1
        # Two boxes: the outer one is measured by the style sheet, the inner one is laid out.
        grid = nodes.container("", *parts, classes=["geo-card-grid"])
        parent[start:end] = [nodes.container("", grid, classes=["geo-card-row"])]


def next_card(parent: nodes.Element, start: int) -> int | None:
    """The place of the card that belongs to the prediction at `start`, if there is one."""
    for place in range(start + 1, len(parent)):
        if is_card_cell(parent[place]):
            return place
        if not isinstance(parent[place], BESIDE):
            return None
    return None


def setup(app: Sphinx) -> None:
    """Connect to Sphinx."""
    app.connect("doctree-read", make_rows)

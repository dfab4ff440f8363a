"""What is counted on each page while it is read: words, cells, cards, claim boxes, predictions."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from docutils import nodes

from .deferred import Deferred

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

__all__ = [
    "PageFacts",
    "facts_of",
    "is_answer",
    "is_card_cell",
    "is_prediction",
    "pages",
    "seconds_to_run",
    "setup",
]

WORDS_A_MINUTE = 200
MINUTES_A_CELL = 0.5  # a visible cell is read line by line
MINUTES_A_CARD = 1.0  # a card is played with
SILENT = (nodes.raw, nodes.comment, nodes.literal_block, nodes.math, nodes.math_block, nodes.system_message)
CARD = re.compile(r'<figure[^>]*\bclass="([^"]*\bgeo-sweep\b[^"]*)"')
WORD = re.compile(r"\w[\w'’.-]*")


@dataclass
class PageFacts:
    """The counts of one page.

    Attributes:
        words: Words of prose; no code, formulas or output.
        cells: Code cells.
        visible: Code cells whose source is shown unfolded.
        cards: Sweeps with a slider.
        claims: Identifiers of the claim boxes, in order.
        predictions: How many prediction boxes.
        deferred: The kinds of deferred content on the page.
    """

    words: int = 0
    cells: int = 0
    visible: int = 0
    cards: int = 0
    claims: list[str] = field(default_factory=list)
    predictions: int = 0
    deferred: set[str] = field(default_factory=set)

    @property
    def minutes(self) -> int:
        """Minutes to read the page, at least one."""
        total = self.words / WORDS_A_MINUTE + self.visible * MINUTES_A_CELL + self.cards * MINUTES_A_CARD
        return max(1, round(total))


def pages(env: BuildEnvironment) -> dict[str, PageFacts]:
    """The facts of all pages read so far, by document name."""
    if not hasattr(env, "geobook_pages"):
        env.geobook_pages = {}  # type: ignore[attr-defined]
    return env.geobook_pages  # type: ignore[attr-defined, no-any-return]


def facts_of(doctree: nodes.document) -> PageFacts:
    """Count one page."""
    facts = PageFacts(words=sum(len(WORD.findall(text)) for text in prose(doctree)))
    for node in doctree.findall(nodes.Element):
        element = node.get("nb_element")
        classes = node.get("classes", [])
        if element == "cell_code":
            facts.cells += 1
            facts.visible += not any(name in classes for name in FOLDED)
        elif isinstance(node, nodes.raw):
            facts.cards += is_card(node)
        elif isinstance(node, Deferred):
            facts.deferred.add(node["kind"])
        if "geo-claim" in classes:
            facts.claims.append(node["claim"])
        facts.predictions += is_prediction(node)
    return facts


FOLDED = ("tag_hide-input", "tag_hide-cell", "tag_remove-input", "tag_remove-cell")


def prose(node: nodes.Node) -> Iterator[str]:
    """The text of a page that is read as sentences."""
    if isinstance(node, nodes.Text):
        yield str(node)
    elif not isinstance(node, SILENT) and node.get("nb_element") != "cell_code":  # type: ignore[attr-defined]
        for child in node.children:
            yield from prose(child)


def is_card(node: nodes.raw) -> bool:
    """Whether a piece of HTML is a sweep that can be moved."""
    figure = CARD.search(node.astext())
    return figure is not None and "geo-still" not in figure[1]


def is_card_cell(node: nodes.Node) -> bool:
    """Whether an element is a code cell that shows a card."""
    if not isinstance(node, nodes.container) or node.get("nb_element") != "cell_code":
        return False
    return any(is_card(raw) for raw in node.findall(nodes.raw))


def is_prediction(node: nodes.Element) -> bool:
    """Whether an element is a prediction box."""
    return isinstance(node, nodes.Admonition) and "prediction" in node.get("classes", [])


def is_answer(node: nodes.Element) -> bool:
    """Whether an element is the fold "What you saw"."""
    # sphinx-design keeps the classes of the outer box apart until the page is written.
    return node.get("design_component") == "dropdown" and "saw" in (node.get("container_classes") or [])


def seconds_to_run(env: BuildEnvironment, docname: str) -> float | None:
    """Measured seconds to run the page's cells; none where nothing is run."""
    data = getattr(env, "nb_metadata", {}).get(docname, {}).get("exec_data") or {}
    runtime = data.get("runtime")
    return None if runtime is None else float(runtime)


def collect(app: Sphinx, doctree: nodes.document) -> None:
    """Count the page that was just read."""
    pages(app.env)[app.env.docname] = facts_of(doctree)


def forget(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    """Drop the facts of a page that changed or went away."""
    pages(env).pop(docname, None)


def merge(app: Sphinx, env: BuildEnvironment, docnames: list[str], other: BuildEnvironment) -> None:
    """Take over what a parallel reader has counted."""
    pages(env).update({name: facts for name, facts in pages(other).items() if name in docnames})


def setup(app: Sphinx) -> None:
    """Connect to Sphinx."""
    app.connect("doctree-read", collect)
    app.connect("env-purge-doc", forget)
    app.connect("env-merge-info", merge)

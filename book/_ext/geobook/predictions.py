"""All prediction boxes of the book on one page, each with its "What you saw": for teachers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docutils import nodes
from docutils.utils import new_document
from sphinx.addnodes import pending_xref
from sphinx.util import docname_join
from sphinx.util.docutils import SphinxDirective

from .claims import title_of, walk
from .deferred import Deferred, fills, link
from .facts import is_answer, is_prediction, pages
from .tables import paragraph

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["setup"]


class Predictions(SphinxDirective):
    """A list of all predictions."""

    def run(self) -> list[nodes.Node]:
        """Leave a place for the list."""
        return [Deferred(kind="predictions")]


@fills("predictions", everywhere=True)
def fill_predictions(app: Sphinx, docname: str, node: Deferred) -> list[nodes.Node]:
    """One entry a prediction, in the order of the book."""
    # Sphinx loads MathJax where it has read a formula; these come from elsewhere.
    app.env.get_domain("math").data["has_equations"][docname] = True
    entries: list[nodes.Node] = []
    for name in walk(app.env.toctree_includes, app.config.root_doc):
        if name != app.config.root_doc and name in pages(app.env) and pages(app.env)[name].predictions:
            entries += entries_of(app, docname, name)
    return entries or [paragraph("No page asks for a prediction yet.")]


def entries_of(app: Sphinx, origin: str, docname: str) -> list[nodes.Node]:
    """The predictions of one page."""
    question: nodes.Element | None = None
    found: list[tuple[nodes.Element, nodes.Element | None]] = []
    for node in app.env.get_doctree(docname).findall(nodes.Element):
        if is_prediction(node):
            if question is not None:
                found.append((question, None))
            question = node
        elif question is not None and is_answer(node):
            found.append((question, node))
            question = None
    if question is not None:
        found.append((question, None))
    return [entry(app, origin, docname, *pair) for pair in found]


def entry(
    app: Sphinx, origin: str, docname: str, question: nodes.Element, answer: nodes.Element | None
) -> nodes.container:
    """Question, answer and a link to the page."""
    body: list[nodes.Node] = [nodes.container("", *without_title(question), classes=["geo-question"])]
    if answer is not None:
        body += [
            nodes.raw("", "<details><summary>What you saw</summary>", format="html"),
            *without_title(answer),
            nodes.raw("", "</details>", format="html"),
        ]
    moved = resolved(app, origin, docname, body)
    head = paragraph(link(app, origin, docname, title_of(app, docname)), classes=["geo-from"])
    return nodes.container("", head, *moved, classes=["geo-prediction-entry"])


def without_title(box: nodes.Element) -> list[nodes.Node]:
    """The content of a box, without its title."""
    return [child.deepcopy() for child in box.children if not isinstance(child, (nodes.title, nodes.rubric))]


def resolved(app: Sphinx, origin: str, docname: str, body: list[nodes.Node]) -> list[nodes.Node]:
    """Links that were written for one page, made right for another."""
    document = new_document("")
    document += body
    for node in document.findall(nodes.Element):
        node["ids"] = []  # the anchors belong to the first place
    for node in document.findall(nodes.reference):
        if "refid" in node:
            node["refuri"] = f"{app.builder.get_relative_uri(origin, docname)}#{node['refid']}"
            del node["refid"]
    for node in document.findall(pending_xref):
        if node.get("reftype") == "doc" and node.get("refdomain") == "std":
            node["reftarget"] = "/" + docname_join(docname, node["reftarget"])
        node["refdoc"] = origin
    app.env.resolve_references(document, origin, app.builder)  # type: ignore[arg-type]
    return [child.deepcopy() for child in document.children]


def setup(app: Sphinx) -> None:
    """Register the directive."""
    app.add_directive("predictions", Predictions)

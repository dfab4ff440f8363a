"""Marks for a test, `<!--= expression -->`, stand beside numbers in prose; readers do not get them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["MARK", "setup"]

MARK = re.compile(r"<!--=.*?-->", re.DOTALL)


def drop_marks(app: Sphinx, doctree: nodes.document) -> None:
    """Remove the marks from the page's raw HTML."""
    for node in list(doctree.findall(nodes.raw)):
        text = node.astext()
        if "<!--=" not in text:
            continue
        kept = MARK.sub("", text)
        if kept.strip():
            node.replace_self(nodes.raw(node.rawsource, kept, **node.attributes))
        else:
            node.parent.remove(node)


def setup(app: Sphinx) -> None:
    """Connect to Sphinx."""
    app.connect("doctree-read", drop_marks, priority=100)

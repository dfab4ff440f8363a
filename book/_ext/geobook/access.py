"""Cures for readers of the page who use a keyboard or a screen reader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

__all__ = ["setup"]

# A box that scrolls must be reachable by keyboard, and one that doesn't must not be a tab stop. Only the
# browser knows which is which, and formulas get their width late.
SCROLLERS = """
(() => {
  const boxes = "div.math, div.highlight pre, .cell_output .output, .cell_output pre, .geo-scroll," +
    " .pst-scrollable-table-container, .cell_output .text_html, span.math mjx-container";
  const mark = () => document.querySelectorAll(boxes).forEach((box) => {
    const scrolls = box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1;
    const moves = scrolls && getComputedStyle(box).overflowX !== "visible";
    if (moves) box.tabIndex = 0; else if (box.tabIndex === 0) box.removeAttribute("tabindex");
  });
  addEventListener("resize", mark);
  addEventListener("load", () => {
    mark();
    window.MathJax?.startup?.promise?.then(mark);
  });
})();
"""


def mend_body(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document
) -> None:
    """Replace roles that browsers have given up."""
    if "body" in context:
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


def setup(app: Sphinx) -> None:
    """Connect to Sphinx."""
    app.add_js_file(None, body=SCROLLERS, priority=900)
    app.connect("html-page-context", mend_body)

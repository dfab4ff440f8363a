"""Content that can be written only when all pages have been read.

A directive leaves a `Deferred` node and registers, under its kind, the function that makes the content.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from docutils import nodes

if TYPE_CHECKING:
    from collections.abc import Callable

    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

    Fill = Callable[[Sphinx, str, "Deferred"], list[nodes.Node]]

__all__ = ["Deferred", "fills", "link", "setup"]

_FILLS: dict[str, tuple[Fill, bool]] = {}


class Deferred(nodes.General, nodes.Element):
    """A place to be filled; its attribute `kind` names the function that fills it."""


def fills(kind: str, *, everywhere: bool = False) -> Callable[[Fill], Fill]:
    """Register a function that makes the content of one kind.

    Args:
        kind: The name that the directive gives its node.
        everywhere: Whether the content depends on other pages: then its page is written anew in every build.

    Returns:
        The decorator.
    """

    def register(fill: Fill) -> Fill:
        _FILLS[kind] = (fill, everywhere)
        return fill

    return register


def link(app: Sphinx, origin: str, target: str, text: str, anchor: str = "") -> nodes.reference:
    """A link from one page to another, or to a place on it."""
    builder = app.builder
    assert builder is not None
    address = "" if origin == target and anchor else builder.get_relative_uri(origin, target)
    return nodes.reference("", text, internal=True, refuri=address + (f"#{anchor}" if anchor else ""))


def fill_page(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Fill every deferred place of a page."""
    for node in list(doctree.findall(Deferred)):
        fill, _ = _FILLS[node["kind"]]
        node.replace_self(fill(app, docname, node))


def pages_to_rewrite(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Pages that show something of all others."""
    from .facts import pages  # here, because `facts` looks for Deferred nodes

    everywhere = {kind for kind, (_, flag) in _FILLS.items() if flag}
    return [name for name, facts in pages(env).items() if facts.deferred & everywhere]


def setup(app: Sphinx) -> None:
    """Connect to Sphinx."""
    app.add_node(Deferred)
    app.connect("doctree-resolved", fill_page)
    app.connect("env-updated", pages_to_rewrite)

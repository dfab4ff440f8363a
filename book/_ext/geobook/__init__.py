"""What turns `book/` into a site: one small module an idea.

`kernels` decides when a page runs again and what its kernel sees; `offline` keeps every file on this site;
`prose` and `access` tidy what is written; `facts` counts each page; `deferred` fills the parts of a page that
need all others; `rows` puts a card beside its prediction; `claims`, `strip`, `costs`, `predictions` are the
directives, `weight` fills in what they cannot know before the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import (
    access,
    claims,
    costs,
    deferred,
    facts,
    kernels,
    offline,
    predictions,
    prose,
    rows,
    strip,
    weight,
)

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["setup"]

# `prose` goes before `facts`: what is dropped from the page is not counted either.
MODULES = (kernels, offline, prose, facts, rows, deferred, access, claims, strip, costs, predictions, weight)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect every module to Sphinx."""
    for module in MODULES:
        module.setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True, "env_version": 1}

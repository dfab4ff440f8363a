"""The strip at the top of a page: glyphs, what one needs, and three measured costs, none typed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from .deferred import Deferred, fills
from .facts import pages, seconds_to_run
from .weight import place_for_weight

if TYPE_CHECKING:
    from docutils.nodes import system_message
    from sphinx.application import Sphinx

__all__ = ["GLYPHS", "glyph", "setup", "words_for_seconds"]

logger = logging.getLogger(__name__)
GLYPHS = ("point", "path", "field", "metric", "measure")  # the five nouns of the book


def glyph(name: str, folder: Path) -> nodes.raw:
    """A glyph as an inline drawing, which takes the colour of the text."""
    return nodes.raw("", (folder / f"{name}.svg").read_text(encoding="utf8").strip(), format="html")


def glyph_folder(source: str | Path) -> Path:
    """Where the drawings are."""
    return Path(source) / "_static" / "glyphs"


class Strip(SphinxDirective):
    """The strip; its content, or the option `needs`, says what the reader needs."""

    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {"glyphs": directives.unchanged, "needs": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Make the strip."""
        strip = nodes.container(classes=["geo-strip"])
        strip += self.glyphs()
        strip += Deferred(kind="strip-costs")
        strip += self.needs()
        return [strip]

    def glyphs(self) -> list[nodes.Node]:
        """The glyphs of the chapter."""
        names = self.options.get("glyphs", "").replace(",", " ").split()
        for name in names:
            if name not in GLYPHS:
                logger.warning("strip: %r is none of %s", name, GLYPHS, location=self.get_location())
        known = [name for name in names if name in GLYPHS]
        drawn = [glyph(name, glyph_folder(self.env.srcdir)) for name in known]
        return [nodes.paragraph("", "", *drawn, classes=["geo-glyphs"])] if drawn else []

    def needs(self) -> list[nodes.Node]:
        """What the reader needs, as text with links."""
        content = self.content or StringList([self.options.get("needs", "")], source="strip")
        holder = nodes.container(classes=["geo-needs"])
        self.state.nested_parse(content, self.content_offset, holder)
        if not holder.children:
            return []
        holder.children[0].insert(0, nodes.inline("", "You need: "))  # type: ignore[attr-defined]
        return [holder]


class GlyphRole(SphinxRole):
    """One glyph within a line: {glyph}`point`."""

    def run(self) -> tuple[list[nodes.Node], list[system_message]]:
        """Make the drawing."""
        if self.text not in GLYPHS:
            logger.warning("glyph: %r is none of %s", self.text, GLYPHS, location=self.get_location())
            return [], []
        return [glyph(self.text, glyph_folder(self.env.srcdir))], []


def words_for_seconds(seconds: float) -> str:
    """A time that can be read at a glance."""
    return f"{max(seconds, 1):.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


@fills("strip-costs")
def fill_costs(app: Sphinx, docname: str, node: Deferred) -> list[nodes.Node]:
    """Minutes to read, seconds to run, megabytes to load."""
    facts = pages(app.env)[docname]
    seconds = seconds_to_run(app.env, docname)
    costs = [f"{facts.minutes} min to read"]
    if seconds is not None and facts.cells:
        costs.append(f"{words_for_seconds(seconds)} to run")
    costs.append(f"{place_for_weight(docname)} to load")
    spans = " · ".join(f'<span class="geo-cost">{cost}</span>' for cost in costs)
    return [nodes.raw("", f'<p class="geo-costs">{spans}</p>', format="html")]


def setup(app: Sphinx) -> None:
    """Register the directive and the role."""
    app.add_directive("strip", Strip)
    app.add_role("glyph", GlyphRole())

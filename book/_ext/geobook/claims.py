"""Claims: the box beside the text, the whole ledger as a table, the counts for the front page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from . import ledger
from .deferred import Deferred, fills, link
from .facts import pages
from .tables import paragraph, row, table

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["setup"]

logger = logging.getLogger(__name__)
LEADS = ("The paper says", "We ran")

# Built from the table itself: without a script the table is whole, and the list of papers cannot fall behind.
FILTER = """
<script>
(() => {
  const table = document.querySelector("table.geo-ledger");
  const rows = [...table.tBodies[0].rows];
  const bar = document.createElement("p");
  const count = document.createElement("output");
  bar.className = "geo-filter";
  const text = (row, name) => row.querySelector("." + name).textContent;
  const menu = (title, name) => {
    const select = new DOMParser().parseFromString("<select></select>", "text/html").querySelector("select");
    const values = [...new Set(rows.map((row) => text(row, name)))];
    select.add(new Option("all", ""));
    values.forEach((value) => select.add(new Option(value, value)));
    const label = document.createElement("label");
    label.append(title + " ", select);
    bar.append(label);
    select.addEventListener("change", show);
    return { name, select };
  };
  const menus = [menu("Paper", "geo-paper"), menu("Verdict", "geo-verdict")];
  function show() {
    let shown = 0;
    rows.forEach((row) => {
      row.hidden = menus.some((m) => m.select.value && text(row, m.name) !== m.select.value);
      shown += !row.hidden;
    });
    count.textContent = shown + " of " + rows.length + " claims";
  }
  bar.append(count);
  (table.closest(".pst-scrollable-table-container") || table).before(bar);
  show();
})();
</script>
"""


class ClaimDirective(SphinxDirective):
    """A box: what the paper says and what we ran, by hand; what we saw and the verdict, from the ledger."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Make the box."""
        identifier = self.arguments[0]
        note_ledger(self)
        box = nodes.container(classes=["geo-claim"], claim=identifier)
        self.state.nested_parse(self.content, self.content_offset, box)
        self.check_leads(identifier, box)
        claim = ledger.load(self.env.app).get(identifier)
        if claim is None:
            logger.warning("claim %s is not in %s", identifier, ledger.LEDGER, location=self.get_location())
            return [box]
        box["ids"].append(claim.box_id)
        box += paragraph(nodes.strong("", "We saw"), " ", claim.measured)
        box += paragraph(nodes.strong("", "Verdict"), " ", *claim.verdict_nodes())
        box += Deferred(kind="claim-test", claim=identifier)
        return [box]

    def check_leads(self, identifier: str, box: nodes.container) -> None:
        """Warn when one of the two lines written by hand is missing."""
        found = [lead_of(child) for child in box.children]
        for lead in LEADS:
            if lead not in found:
                logger.warning(
                    "claim %s: no paragraph begins with **%s**",
                    identifier,
                    lead,
                    location=self.get_location(),
                )


def lead_of(node: nodes.Node) -> str:
    """The bold words that open a paragraph."""
    children = node.children if isinstance(node, nodes.paragraph) else []
    first = next((child for child in children if child.astext()), None)  # the parser opens with an empty text
    return first.astext().strip(" .:") if isinstance(first, nodes.strong) else ""


def note_ledger(directive: SphinxDirective) -> None:
    """Have the page read again when the ledger changes."""
    path = Path(directive.env.srcdir) / ledger.LEDGER
    if path.exists():
        directive.env.note_dependency(str(path))


@fills("claim-test")
def fill_test(app: Sphinx, docname: str, node: Deferred) -> list[nodes.Node]:
    """The small grey line: number and test, linked to the line of the ledger."""
    claim = ledger.load(app)[node["claim"]]
    home = next((name for name, facts in pages(app.env).items() if "claims-table" in facts.deferred), None)
    label = f"{claim.id} in the ledger"
    number = link(app, docname, home, label, claim.row_id) if home else nodes.Text(claim.id)
    return [paragraph(number, " · ", nodes.inline("", claim.test), classes=["geo-test"])]


class ClaimsTable(SphinxDirective):
    """The whole ledger."""

    def run(self) -> list[nodes.Node]:
        """Leave a place for the table."""
        return [Deferred(kind="claims-table")]


def boxes(app: Sphinx) -> dict[str, str]:
    """The page that holds the box of each claim; the first one, where there are several."""
    order = app.env.toctree_includes
    ranked = sorted(pages(app.env), key=list(walk(order, app.config.root_doc)).index)
    return {claim: name for name in reversed(ranked) for claim in pages(app.env)[name].claims}


def walk(includes: dict[str, list[str]], root: str) -> list[str]:
    """The pages in the order of the table of contents, and those outside it after them."""
    found = [root]
    for child in includes.get(root, []):
        found += [name for name in walk(includes, child) if name not in found]
    return found


@fills("claims-table", everywhere=True)
def fill_table(app: Sphinx, docname: str, node: Deferred) -> list[nodes.Node]:
    """One row a claim."""
    claims = ledger.load(app)
    if not claims:
        return [paragraph("The ledger is empty.")]
    homes = boxes(app)
    heads = ("Claim", "Paper", "Verdict", "We saw", "Where", "Test")
    rows = [row_of(app, docname, claim, homes.get(claim.id)) for claim in claims.values()]
    return [table(heads, rows, ["geo-ledger"]), nodes.raw("", FILTER, format="html")]


def row_of(app: Sphinx, docname: str, claim: ledger.Claim, home: str | None) -> nodes.row:
    """The row of one claim."""
    rest = claim.source.removeprefix(claim.paper)
    rest = rest if rest != claim.source or not rest else f", {rest}"
    place = paragraph(link(app, docname, home, title_of(app, home), claim.box_id)) if home else paragraph("–")
    cells: list[list[nodes.Node]] = [
        [paragraph(claim.claim, " ", nodes.inline("", claim.id, classes=["geo-id"]))],
        [paragraph(nodes.inline("", claim.paper, classes=["geo-paper"]), rest)],
        [paragraph(*claim.verdict_nodes())],
        [paragraph(claim.measured)],
        [place],
        [paragraph(nodes.inline("", claim.test.rpartition("::")[2], classes=["geo-test"]))],
    ]
    return row(cells, [claim.row_id])


def title_of(app: Sphinx, docname: str) -> str:
    """The title of a page."""
    title = app.env.titles.get(docname)
    return title.astext() if title is not None else docname


class ClaimsSummary(SphinxDirective):
    """Counts by verdict, and a few lines that an editor has chosen."""

    option_spec: ClassVar[dict[str, Any]] = {"highlight": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Leave a place for the counts."""
        note_ledger(self)
        chosen = self.options.get("highlight", "").replace(",", " ").split()
        for identifier in chosen:
            if identifier not in ledger.load(self.env.app):
                logger.warning(
                    "claim %s is not in %s", identifier, ledger.LEDGER, location=self.get_location()
                )
        return [Deferred(kind="claims-summary", chosen=chosen)]


@fills("claims-summary", everywhere=True)
def fill_summary(app: Sphinx, docname: str, node: Deferred) -> list[nodes.Node]:
    """The counts in a row, then the chosen lines."""
    claims = ledger.load(app)
    if not claims:
        return [paragraph("The ledger is empty.")]
    theirs = [claim for claim in claims.values() if claim.paper != "ours"]
    counts = nodes.bullet_list(classes=["geo-counts"])
    for verdict, (sign, words) in ledger.SIGNS.items():
        number = sum(claim.verdict == verdict for claim in theirs)
        counted = nodes.inline("", str(number), classes=["geo-count"])
        counts += nodes.list_item("", paragraph(counted, f" {sign} {words}"))
    chosen = nodes.bullet_list(classes=["geo-chosen"])
    homes = boxes(app)
    for claim in (claims[key] for key in node["chosen"] if key in claims):
        home = homes.get(claim.id)
        sentence = link(app, docname, home, claim.claim, claim.box_id) if home else nodes.Text(claim.claim)
        line = paragraph(*claim.verdict_nodes(), ". ", claim.measured, classes=["geo-outcome"])
        chosen += nodes.list_item("", paragraph(sentence), line)
    own = paragraph(f"Claims of papers. Beside them stand {len(claims) - len(theirs)} statements of our own.")
    return [counts, own, chosen] if chosen.children else [counts, own]


def setup(app: Sphinx) -> None:
    """Register the directives."""
    app.add_directive("claim", ClaimDirective)
    app.add_directive("claims-table", ClaimsTable)
    app.add_directive("claims-summary", ClaimsSummary)

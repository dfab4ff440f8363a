"""The page of costs: what each page takes to run and to load, and with which versions that was measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from .claims import title_of, walk
from .deferred import Deferred, fills, link
from .facts import PageFacts, pages, seconds_to_run
from .tables import paragraph, row, table
from .weight import place_for_weight

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["setup"]

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "scikit-learn",
    "matplotlib",
    "ipywidgets",
    "jupyter-book",
    "sphinx",
    "myst-nb",
)


class Costs(SphinxDirective):
    """A table of all pages that run."""

    def run(self) -> list[nodes.Node]:
        """Leave a place for the table."""
        return [Deferred(kind="costs")]


def versions() -> list[tuple[str, str]]:
    """Python and the packages that the pages and the build use, as installed."""
    found = [("python", platform.python_version())]
    for name in PACKAGES:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue  # a package that isn't there has cost nothing
    return found


def today() -> str:
    """The date of the build; `SOURCE_DATE_EPOCH` overrides the clock, for builds that can be repeated."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    seconds = float(epoch) if epoch else time.time()
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


@fills("costs", everywhere=True)
def fill_costs(app: Sphinx, docname: str, node: Deferred) -> list[nodes.Node]:
    """One row a page, a row of sums, and the versions."""
    order = [name for name in walk(app.env.toctree_includes, app.config.root_doc) if name in pages(app.env)]
    executed = [
        name for name in order if seconds_to_run(app.env, name) is not None and pages(app.env)[name].cells
    ]
    heads = ("Page", "Run (s)", "Words", "Code cells", "Cards", "Weight")
    rows = [row_of(app, docname, name, pages(app.env)[name]) for name in executed]
    total = sum(seconds_to_run(app.env, name) or 0 for name in executed)
    machine = f"{platform.system()} on {platform.machine()}, {os.cpu_count()} cores"
    told = f"{len(executed)} pages run in {total:.0f} s in all. Built on {today()}; {machine}."
    used = "Versions: " + ", ".join(f"{name} {version}" for name, version in versions()) + "."
    return [table(heads, rows, ["geo-costs-table"]), paragraph(told), paragraph(used)]


def row_of(app: Sphinx, origin: str, name: str, facts: PageFacts) -> nodes.row:
    """The row of one page."""
    numbers = [f"{seconds_to_run(app.env, name):.1f}", str(facts.words), str(facts.cells), str(facts.cards)]
    weight = nodes.raw("", place_for_weight(name), format="html")
    cells: list[list[nodes.Node]] = [[paragraph(link(app, origin, name, title_of(app, name)))]]
    cells += [[paragraph(number)] for number in numbers]
    cells.append([paragraph(weight)])
    return row(cells)


def setup(app: Sphinx) -> None:
    """Register the directive."""
    app.add_directive("costs", Costs)

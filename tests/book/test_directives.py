"""The directives of the book's extension, on a few small pages."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
BOX = """\
:::{claim} G10
**The paper says** that one beats the other (Table 2).

**We ran** both.
:::
"""
SWEEP = '<figure class="geo-sweep"><div class="geo-stage"></div></figure>'
PAGES = {
    "index": """\
# Front

```{claims-summary}
:highlight: G10, G4
```

```{toctree}
chapters/one
ledger
teachers
costs
```
""",
    "chapters/one": f"""\
```{{strip}}
:glyphs: point path

A [dot product](../costs.md).
```

# One

:::{{admonition}} Before you move it
:class: prediction
Which road is shorter, given $\\omega$?

- **A** This one, see [the costs](../costs.md).
:::

:::{{dropdown}} What you saw
:class-container: saw
The straight one, see [below](#after).
:::

## After

There are 41 <!--= count() -->of them.

{BOX}
""",
    "ledger": "# Ledger\n\n```{claims-table}\n```\n",
    "teachers": "# Teachers\n\n```{predictions}\n```\n",
    "costs": "# Costs\n\n```{costs}\n```\n\n{glyph}`field`\n",
}


def claim(identifier: str, verdict: str, **more: str) -> dict[str, str]:
    known = {
        "id": identifier,
        "claim": f"Sentence {identifier}.",
        "source": "GLRA, Table 2",
        "paper": "GLRA",
        "expected": "",
        "measured": f"0.5 for {identifier}",
        "verdict": verdict,
        "limits": "",
        "test": f"tests/claims/test_glra.py::test_{identifier}",
    }
    return known | more


CLAIMS = [
    claim("G10", "not shown here"),
    claim("G4", "within limits", limits="small angles"),
    claim("V3", "does not hold here", source="DELoRA, 3.1", paper="DELoRA"),
]


@dataclass
class Built:
    """What a build has written and said."""

    folder: Path
    warnings: str

    def __getitem__(self, page: str) -> str:
        return (self.folder / f"{page}.html").read_text(encoding="utf8")

    def text(self, page: str) -> str:
        """The words of a page, without marks and with single spaces."""
        return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", self[page]))


def build(root: Path, pages: dict[str, str], claims: list[dict[str, str]], **config: Any) -> Built:
    """Build a few pages with Sphinx, the extension and the parser of the book."""
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace

    source = root / "book"
    (source / "_static" / "glyphs").mkdir(parents=True)
    for glyph in (ROOT / "book" / "_static" / "glyphs").glob("*.svg"):
        (source / "_static" / "glyphs" / glyph.name).write_bytes(glyph.read_bytes())
    for name, text in pages.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / f"{name}.md").write_text(text, encoding="utf8")
    (source / "results").mkdir()
    (source / "results" / "claims.json").write_text(json.dumps({"claims": claims}))
    settings = {
        "extensions": ["myst_nb", "sphinx_design", "geobook"],
        "myst_enable_extensions": ["colon_fence", "dollarmath"],
        "myst_heading_anchors": 2,
        "nb_execution_mode": "off",
        "html_theme": "basic",
        **config,
    }
    said = io.StringIO()
    with docutils_namespace():
        folders = str(source), None, str(root / "_build" / "html"), str(root / "_build" / "trees")
        app = Sphinx(*folders, "html", confoverrides=settings, status=None, warning=said, freshenv=True)
        app.build()
    return Built(root / "_build" / "html", said.getvalue())


@pytest.fixture(autouse=True, scope="module")
def _restored() -> Iterator[None]:
    """The extension prepares the environment of kernels, and the path of autodoc: not for other tests."""
    pytest.importorskip("myst_nb")
    environment, path = dict(os.environ), list(sys.path)
    yield
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("book"), PAGES, CLAIMS)


def test_the_pages_build_without_a_warning(built: Built) -> None:
    assert built.warnings == ""


def test_a_box_has_four_lines_and_a_test(built: Built) -> None:
    box = built["chapters/one"].split('id="claim-g10"')[1]
    leads = re.findall(r"<strong>(.*?)</strong>", box)
    assert leads[:4] == ["The paper says", "We ran", "We saw", "Verdict"]
    assert "0.5 for G10" in box
    assert "○ not shown here" in box
    assert 'href="../ledger.html#ledger-g10"' in box
    assert "tests/claims/test_glra.py::test_G10" in box


def test_the_ledger_lists_all_in_natural_order(built: Built) -> None:
    page = built["ledger"]
    assert re.findall(r'id="ledger-(\w+)"', page) == ["g4", "g10", "v3"]
    assert 'href="chapters/one.html#claim-g10"' in page
    assert "◐ holds within limits</span><span" in page
    assert ": small angles" in built.text("ledger")
    assert "<script>" in page


def test_the_summary_counts_and_highlights(built: Built) -> None:
    text = built.text("index")
    for counted in ("0 ● holds", "1 ◐ holds within limits", "1 ○ not shown here", "1 ✕ does not hold here"):
        assert counted in text
    assert text.index("Sentence G10.") < text.index("Sentence G4.")
    assert 'href="chapters/one.html#claim-g10"' in built["index"]


def test_the_strip_is_generated(built: Built) -> None:
    page = built["chapters/one"]
    assert re.findall(r'class="geo-glyph" role="img"[^>]*aria-label="(\w+)"', page) == ["point", "path"]
    text = built.text("chapters/one")
    assert "You need: A dot product." in text
    assert re.search(r"1 min to read · 0\.\d\d MB to load", text)
    assert "to run" not in text, "a page without code has nothing to run"


def test_a_glyph_stands_in_a_line(built: Built) -> None:
    assert "<title>field</title>" in built["costs"]


def test_predictions_are_collected_with_their_links_mended(built: Built) -> None:
    page = built["teachers"]
    assert 'href="chapters/one.html"' in page
    assert "Which road is shorter" in page
    assert "The straight one" in page
    assert 'href="costs.html"' in page
    assert 'href="chapters/one.html#after"' in page
    assert "mathjax/tex-svg.js" in page, "formulas came with the text"


def test_costs_name_versions(built: Built) -> None:
    assert re.search(r"python 3\.\d+\.\d+.*sphinx \d", built.text("costs"))


def test_marks_are_dropped(built: Built) -> None:
    assert "There are 41 of them." in built.text("chapters/one")
    assert "<!--=" not in built["chapters/one"]


def test_mathjax_is_on_the_site_and_no_other_host(built: Built) -> None:
    assert (built.folder / "mathjax" / "tex-svg.js").stat().st_size > 1e6
    scripts = re.findall(r'<script[^>]*src="([^"]*)"', built["chapters/one"])
    assert "../_static/../mathjax/tex-svg.js" in {script.split("?")[0] for script in scripts}
    assert not [script for script in scripts if "//" in script]


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (BOX.replace("G10", "G99"), "claim G99 is not in"),
        (BOX.replace("**We ran** both.", "Both ran."), r"claim G10: no paragraph begins with \*\*We ran"),
        ("```{claims-summary}\n:highlight: X1\n```\n", "claim X1 is not in"),
        ("```{strip}\n:glyphs: dot\n```\n", "'dot' is none of"),
        ("{glyph}`dot`\n", "'dot' is none of"),
    ],
)
def test_mistakes_are_warnings(tmp_path: Path, text: str, warning: str) -> None:
    assert re.search(warning, build(tmp_path, {"index": f"# Page\n\n{text}"}, CLAIMS).warnings)


@pytest.mark.parametrize("broken", [{"verdict": "maybe"}, {"measured": None, "extra": 1, "verdict": ""}])
def test_a_ledger_with_another_verdict_is_refused(tmp_path: Path, broken: dict[str, Any]) -> None:
    from sphinx.errors import ExtensionError

    with pytest.raises(ExtensionError, match="G10: verdict"):
        build(tmp_path, {"index": f"# Page\n\n{BOX}"}, [claim("G10", "holds") | broken])


def test_a_card_stands_beside_its_prediction(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "markdown", "source": "# Page"},
        {"cell_type": "markdown", "source": ":::{admonition} Before\n:class: prediction\nWhich?\n:::"},
        {"cell_type": "markdown", "source": "Try this."},
        {
            "cell_type": "code",
            "source": "card",
            "execution_count": 1,
            "outputs": [
                {
                    "output_type": "display_data",
                    "metadata": {},
                    "data": {"text/html": SWEEP, "text/plain": "card"},
                }
            ],
        },
        {"cell_type": "markdown", "source": ":::{dropdown} What you saw\n:class-container: saw\nThis.\n:::"},
        {"cell_type": "markdown", "source": "After."},
    ]
    numbered = [{"id": f"c{i}", "metadata": {}, **cell} for i, cell in enumerate(cells)]
    notebook = {"cells": numbered, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "index.ipynb").write_text(json.dumps(notebook))
    page = build(tmp_path, {}, [])["index"]
    places = [
        page.index(part) for part in ("geo-ask", "Which?", "Try this.", "geo-card ", "<figure", "geo-saw")
    ]
    assert places == sorted(places)
    row = page[page.index("geo-card-row") :]
    assert row.index("After.") > row.index("This.")


def test_old_caches_are_pruned(tmp_path: Path) -> None:
    from geobook.kernels import prune

    for age, name in enumerate("abc"):
        (tmp_path / (name * 64)).mkdir()
        os.utime(tmp_path / (name * 64), (1000 - age, 1000 - age))
    (tmp_path / "other").mkdir()
    prune(tmp_path, "d" * 64)
    assert {path.name[0] for path in tmp_path.iterdir()} == {"d", "a", "o"}


@pytest.mark.parametrize(
    "changed",
    ["geolessons/a.py", "geolessons/sub/b.py", "book/cards/c.py", "book/results/d.json", "constraints.txt"],
)
def test_the_digest_follows_every_file(tmp_path: Path, changed: str) -> None:
    from geobook.kernels import digest

    before = digest(tmp_path)
    path = tmp_path / changed
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("1")
    one = digest(tmp_path)
    path.write_text("2")
    assert len({before, one, digest(tmp_path)}) == 3
    (tmp_path / "README.md").write_text("not part of it")
    assert digest(tmp_path) == digest(tmp_path)

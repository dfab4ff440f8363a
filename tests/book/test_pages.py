"""Every page of the built book, read as markup: links, pictures, hosts, weight."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urldefrag

import pytest
from geobook.weight import page_weight
from markup import Markup, is_host, read, says_nothing

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.browser

HEAVIEST = 3_000_000  # bytes of one page, beside the files that all pages share


@pytest.fixture(scope="module")
def markups(site: Path, pages: list[str]) -> dict[str, Markup]:
    return {page: read(site / page) for page in pages}


def test_there_are_pages(site: Path, pages: list[str]) -> None:
    assert (site / "index.html").is_file()
    assert (site / "search.html").is_file()
    assert pages


def test_nothing_is_loaded_from_a_host(site: Path, markups: dict[str, Markup]) -> None:
    found = [f"{page}: {load}" for page, markup in markups.items() for load in markup.loads if is_host(load)]
    for sheet in (site / "_static").rglob("*.css"):
        text = sheet.read_text(encoding="utf8", errors="replace")
        found += [
            f"{sheet.name}: {m}" for m in re.findall(r"@import[^;]*//|url\(['\"]?(?:https?:)?//[^)]*", text)
        ]
    assert not found, listed(found)


def test_every_loaded_file_is_there(site: Path, markups: dict[str, Markup]) -> None:
    found = []
    for page, markup in markups.items():
        for load in markup.loads:
            path = unquote(re.split(r"[?#]", load)[0])
            if path and not load.startswith("data:") and not (site / page).parent.joinpath(path).is_file():
                found.append(f"{page}: {load}")
    assert not found, listed(found)


def test_no_link_is_broken(site: Path, markups: dict[str, Markup]) -> None:
    @cache
    def anchors(path: Path) -> frozenset[str]:
        known = markups.get(path.relative_to(site).as_posix()) if path.is_relative_to(site) else None
        return frozenset((known or read(path)).ids)

    found = []
    for page, markup in markups.items():
        for link in set(markup.links):
            if is_host(link) or link.startswith(("mailto:", "javascript:", "data:")) or link in ("", "#"):
                continue
            path, anchor = urldefrag(link)
            target = ((site / page).parent / unquote(path.split("?")[0])).resolve() if path else site / page
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                found.append(f"{page}: {link} leads nowhere")
            elif anchor and target.suffix == ".html" and unquote(anchor) not in anchors(target):
                found.append(f"{page}: {link} has no such place")
    assert not found, listed(found)


def test_every_picture_has_words(markups: dict[str, Markup]) -> None:
    found = []
    for page, markup in markups.items():
        found += [f"{page}: {src} has alt {alt!r}" for src, alt in markup.images if says_nothing(alt)]
        found += [f"{page}: a drawing has no name" for name in markup.drawings if says_nothing(name)]
    assert not found, listed(found)


def test_no_mark_is_left_in_the_text(site: Path, pages: list[str]) -> None:
    marked = [page for page in pages if "<!--=" in (site / page).read_text(encoding="utf8")]
    assert not marked, "marks of the form <!--= … --> in " + ", ".join(marked)


def test_no_page_is_heavy(site: Path, pages: list[str], report: dict[str, Any]) -> None:
    weights = {page: page_weight(site / page) for page in pages}
    report["page weight in MB"] = {page: round(weight / 1e6, 3) for page, weight in weights.items()}
    heavy = [f"{page}: {weight / 1e6:.2f} MB" for page, weight in weights.items() if weight > HEAVIEST]
    assert not heavy, listed(heavy)


def listed(found: list[str]) -> str:
    return f"{len(found)} found:\n" + "\n".join(found[:60])

"""Every page of the built book, opened in a browser without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser
    from visit import Visit

pytestmark = pytest.mark.browser

KINDS = {
    "loading": "a page opened over http asks for something that is not there, or reports an error",
    "axe": "a reader with a keyboard or a screen reader meets a serious obstacle",
    "cards": "a card does not follow its sliders",
    "tables": "a table cannot be read in the dark",
    "phone": "a page does not fit on a phone of 360 px",
    "first screen": "the prediction or the card begins below the first screen",
}


@pytest.mark.parametrize("kind", KINDS)
def test_visit_over_http(visit: Visit, kind: str) -> None:
    found = visit.findings[kind]
    assert not found, f"{KINDS[kind]}; {len(found)} found:\n" + "\n".join(found[:60])


def test_visit_from_disk(browser: Browser, site: Path, pages: list[str], report: dict[str, Any]) -> None:
    from visit import visit_from_disk

    found = visit_from_disk(browser, site, pages)
    assert not found, f"{len(found)} found:\n" + "\n".join(found[:60])


def test_ledger_filters(browser: Browser, site: Path, address: str) -> None:
    from visit import open_context

    pages = [path for path in sorted(site.rglob("*.html")) if "geo-ledger" in path.read_text(encoding="utf8")]
    if not pages:
        pytest.skip("the book has no page with the whole ledger")
    troubles: list[str] = []
    context, page = open_context(browser, troubles)
    page.goto(f"{address}/{pages[0].relative_to(site).as_posix()}")
    rows = page.locator("table.geo-ledger tbody tr")
    everything = rows.count()
    menu = page.get_by_label("Verdict")
    for verdict in menu.locator("option").all_inner_texts()[1:]:
        menu.select_option(label=verdict)
        shown = [row.inner_text() for row in rows.all() if row.is_visible()]
        assert shown, verdict
        assert all(verdict in text for text in shown)
    menu.select_option(label="all")
    assert all(row.is_visible() for row in rows.all())
    assert page.locator(".geo-filter output").inner_text() == f"{everything} of {everything} claims"
    assert not troubles
    context.close()

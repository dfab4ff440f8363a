"""The built book, a browser, and what a visit to every page has found."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser
    from visit import Visit

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

ARGUMENTS = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SOURCES = ("book", "geolessons", "_config.yml", "constraints.txt")
REPORT: pytest.StashKey[dict[str, Any]] = pytest.StashKey()


def absent(reason: str) -> None:
    """Skip on a laptop, fail on the machine that has to have it."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def newest_source() -> float:
    """When a file was last changed that the book is made of."""
    times = []
    for name in SOURCES:
        top = ROOT / name
        files = [top] if top.is_file() else top.rglob("*")
        hidden = ("__pycache__", ".ipynb_checkpoints")
        times += [f.stat().st_mtime for f in files if f.is_file() and not set(hidden) & set(f.parts)]
    return max(times, default=0.0)


@pytest.fixture(scope="session")
def site() -> Path:
    """The folder of the built book: `GEOLESSONS_SITE`, else `_build/html` if it is up to date."""
    named = os.environ.get("GEOLESSONS_SITE")
    folder = Path(named) if named else ROOT / "_build" / "html"
    if not (folder / "index.html").exists():
        absent(f"no built book in {folder}: run `make book`")
    stamp = folder / ".built"
    if not named and (not stamp.exists() or stamp.stat().st_mtime < newest_source()):
        absent("the built book is older than its sources: run `make book`")
    return folder.resolve()


@pytest.fixture(scope="session")
def pages(site: Path) -> list[str]:
    """Every page of the site, by its path; none that only sends the reader on to another."""
    found = (path.relative_to(site).as_posix() for path in sorted(site.rglob("*.html")))
    own = [page for page in found if not page.startswith(("_static/", "_sources/", "_downloads/"))]
    return [page for page in own if 'http-equiv="Refresh"' not in (site / page).read_text(encoding="utf8")]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome")
    found = [
        path for path in ("/usr/bin/chromium", *map(shutil.which, names)) if path and Path(path).exists()
    ]
    if not found:
        absent("no Chromium: install the package chromium")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=found[0], args=ARGUMENTS)
        yield opened
        opened.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server that writes no log and lets the browser keep what it has."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def copyfile(self, source: Any, outputfile: Any) -> None:
        # The browser leaves a page before all is sent; that is no fault of the page.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            super().copyfile(source, outputfile)


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    """Where a local server shows the site."""
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def visit(browser: Browser, address: str, site: Path, pages: list[str], report: dict[str, Any]) -> Visit:
    """One visit to every page, which looks at all that needs a browser; the tests read what it found."""
    from visit import visit_all

    started = time.perf_counter()
    found = visit_all(browser, address, site, pages)
    report["seconds to visit all pages"] = round(time.perf_counter() - started, 1)
    report["milliseconds from slider to picture"] = found.latency
    return found


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest, site: Path) -> Iterator[dict[str, Any]]:
    """Measured figures: printed at the end and kept beside the site, never a reason to fail."""
    measured: dict[str, Any] = {}
    request.config.stash[REPORT] = measured
    yield measured
    text = json.dumps(measured, indent=1, ensure_ascii=False, sort_keys=True)
    (site.parent / "measured.json").write_text(text + "\n", encoding="utf8")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    measured = config.stash.get(REPORT, {})
    if not measured:
        return
    terminalreporter.section("measured in the built book")
    for name, value in sorted(measured.items()):
        rows = value.items() if isinstance(value, dict) else [("", value)]
        terminalreporter.write_line(name)
        for key, number in rows:
            terminalreporter.write_line(f"  {number!s:>10}  {key}")

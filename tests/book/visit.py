"""A visit to every page of the built book, in one browser.

Each page is loaded once from the server and looked at in both themes and at two widths; its cards are moved
by keyboard. Everything that isn't right is written down, by kind, and the visit goes on.
"""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from axe_playwright_python.base import AXE_SCRIPT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, BrowserContext, ElementHandle, Page

DESK, PHONE = {"width": 1366, "height": 768}, {"width": 360, "height": 740}
ELSEWHERE = re.compile(r"^(?!http://127\.0\.0\.1[:/]|file:|data:|blob:)")
# Every rule is checked once. What can change with the theme are colours, and with the width, what scrolls.
COLOURS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
NARROW = {"type": "rule", "values": ["scrollable-region-focusable", "target-size"]}


@dataclass
class Visit:
    """What was found, by kind, and what was measured, by page."""

    findings: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    latency: dict[str, float] = field(default_factory=dict)
    cards: int = 0


def open_context(browser: Browser, troubles: list[str]) -> tuple[BrowserContext, Page]:
    """A context without a network, whose page writes its troubles down."""
    context = browser.new_context(viewport=DESK, color_scheme="light", reduced_motion="no-preference")
    context.route(ELSEWHERE, lambda route: (troubles.append(f"asks for {route.request.url}"), route.abort()))
    page = context.new_page()
    page.on(
        "console", lambda said: troubles.append(f"console: {said.text}") if said.type == "error" else None
    )
    page.on("pageerror", lambda error: troubles.append(f"script: {error}"))
    page.on("requestfailed", lambda request: troubles.append(f"failed: {request.url}"))
    page.on(
        "response", lambda got: troubles.append(f"{got.status}: {got.url}") if got.status >= 400 else None
    )
    return context, page


def settle(page: Page) -> None:
    """Wait until formulas are set."""
    page.evaluate("async () => { await window.MathJax?.startup?.promise; }")


def visit_all(browser: Browser, address: str, site: Path, pages: list[str]) -> Visit:
    """Look at every page through the server."""
    # Listings of source code come from one template, and axe needs half a minute for a long one: one will do.
    listings = [name for name in pages if name.startswith("_modules/geolessons")]
    spared = sorted(listings, key=lambda name: (site / name).stat().st_size)[1:]
    visit = Visit()
    troubles: list[str] = []
    context, page = open_context(browser, troubles)
    page.add_init_script("delete window.axe")
    for name in pages:
        troubles.clear()
        page.set_viewport_size(DESK)
        page.emulate_media(color_scheme="light")
        page.goto(f"{address}/{name}")
        settle(page)
        look_at(page, name, visit, axe=name not in spared)
        visit.findings["loading"] += [f"{name}: {trouble}" for trouble in troubles]
    context.close()
    return visit


def look_at(page: Page, name: str, visit: Visit, *, axe: bool) -> None:
    """Look at one page that is open."""

    def note(kind: str) -> Callable[[str], None]:
        return lambda text: visit.findings[kind].append(f"{name}: {text}")

    check_first_screen(page, note("first screen"))
    page.add_style_tag(content="* { transition: none !important; }")  # colours half-way have no contrast
    if axe:
        page.evaluate(AXE_SCRIPT)
        check_axe(page, "light", note("axe"))
        page.emulate_media(color_scheme="dark")
        page.wait_for_function("document.documentElement.dataset.theme === 'dark'")  # a script does it
        check_axe(page, "dark", note("axe"), COLOURS)
        check_tables(page, note("tables"))
    figures = page.query_selector_all("figure.geo-sweep:not(.geo-still)")
    visit.cards += len(figures)
    for number, figure in enumerate(figures, 1):
        check_card(figure, f"card {number}", note("cards"))
    if figures:
        visit.latency[name] = round(statistics.median(page.evaluate(LATENCY)), 1)
    page.set_viewport_size(PHONE)
    check_phone(page, note("phone"))
    if axe:
        check_axe(page, "phone", note("axe"), NARROW)


def visit_from_disk(browser: Browser, site: Path, pages: list[str]) -> list[str]:
    """Open every page as a file; the troubles found."""
    found: list[str] = []
    troubles: list[str] = []
    context, page = open_context(browser, troubles)
    for name in pages:
        troubles.clear()
        page.goto((site / name).as_uri())
        settle(page)
        if page.locator(".math").count() and not page.locator("mjx-container").count():
            troubles.append("formulas are not set")
        found += [f"{name}: {trouble}" for trouble in troubles]
    context.close()
    return found


def check_axe(
    page: Page, where: str, note: Callable[[str], None], rules: dict[str, Any] | None = None
) -> None:
    """No serious or critical violation."""
    options: dict[str, Any] = {"preload": False, "resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = rules
    result = page.evaluate("(options) => axe.run(document, options)", options)
    for violation in result["violations"]:
        if violation["impact"] in ("serious", "critical"):
            nodes = [node["html"][:160] for node in violation["nodes"]]
            note(f"{where}: {violation['id']} on {len(nodes)} elements, e.g. {nodes[0]}")


def check_first_screen(page: Page, note: Callable[[str], None]) -> None:
    """The thesis card's question, prediction and top are on the first screen of a small laptop."""
    low = page.evaluate(
        """(height) => {
          const row = document.querySelector("h1 ~ .geo-card-row");
          if (!row) return [];
          const low = [];
          if (row.querySelector(".geo-ask").getBoundingClientRect().bottom > height) low.push("prediction");
          if (row.querySelector(".geo-card").getBoundingClientRect().top > height - 200) low.push("card");
          return low;
        }""",
        DESK["height"],
    )
    for part in low:
        note(f"the {part} lies below the first screen")


def check_tables(page: Page, note: Callable[[str], None]) -> None:
    """No table's text has the colour of its ground, which axe takes for hidden on purpose."""
    unseen = page.evaluate(
        """() => [...document.querySelectorAll(".bd-article td")].filter((cell) => {
          let under = cell;
          const ground = () => getComputedStyle(under).backgroundColor;
          while (under.parentElement && ground() === "rgba(0, 0, 0, 0)") under = under.parentElement;
          return cell.innerText.trim() && getComputedStyle(cell).color === ground();
        }).length"""
    )
    if unseen:
        note(f"{unseen} cells cannot be seen in the dark")


def check_phone(page: Page, note: Callable[[str], None]) -> None:
    """Nothing makes the page scroll sideways, and cards lie within the screen."""
    wide = page.evaluate("document.documentElement.scrollWidth")
    if wide > PHONE["width"]:
        note(f"is {wide} px wide on a screen of {PHONE['width']} px")
    outside = page.evaluate(
        """(width) => [...document.querySelectorAll(
            ".bd-article figure, .bd-article figcaption, .bd-article input[type=range], .geo-stage > *")]
          .filter((element) => element.getClientRects().length)
          .filter((element) => {
            const box = element.getBoundingClientRect();
            return box.left < -0.5 || box.right > width + 0.5;
          }).map((element) => element.outerHTML.slice(0, 100))""",
        PHONE["width"],
    )
    for element in outside:
        note(f"outside the screen: {element}")


# ------------------------------------------------------------------ cards


def check_card(figure: ElementHandle, name: str, note: Callable[[str], None]) -> None:
    """Each slider changes the picture, and two of them reach all four corners."""
    sliders = figure.query_selector_all("input[type=range]")
    if not 1 <= len(sliders) <= 2:
        note(f"{name} has {len(sliders)} sliders")
        return
    pictures: dict[tuple[str, ...], bytes] = {}
    for keys in corners(len(sliders)):
        for number, (slider, key) in enumerate(zip(sliders, keys, strict=True)):
            press(figure, slider, key)
            for problem in misread(figure, number, key):
                note(f"{name}, {key}: {problem}")
        pictures[keys] = picture(figure)
    for one, other in pairs(list(pictures)):
        if pictures[one] == pictures[other]:
            note(f"{name} shows the same picture at {' '.join(one)} and at {' '.join(other)}")


def corners(sliders: int) -> list[tuple[str, ...]]:
    """The ends of one slider, or the four corners of two."""
    if sliders == 1:
        return [("Home",), ("End",)]
    return [("Home", "Home"), ("End", "Home"), ("End", "End"), ("Home", "End")]


def pairs(items: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Every two of them."""
    for place, one in enumerate(items):
        for other in items[place + 1 :]:
            yield one, other


# A card may have to unpack its frames first; then it puts a new picture in the place of the one before.
REMEMBER = "(figure) => { figure.pictureBefore = figure.querySelector('.geo-stage').firstElementChild; }"
NEW_PICTURE = """async (figure) => {
  const frame = () => new Promise(requestAnimationFrame);
  const stage = figure.querySelector(".geo-stage");
  for (let i = 0; i < 180 && stage.firstElementChild === figure.pictureBefore; i++) await frame();
  await frame();
}"""


def press(figure: ElementHandle, slider: ElementHandle, key: str) -> None:
    """Move a slider by keyboard, and wait for its picture."""
    before = slider.get_attribute("aria-valuetext")
    figure.evaluate(REMEMBER)
    slider.press(key)
    if slider.get_attribute("aria-valuetext") != before:
        figure.evaluate(NEW_PICTURE)


def misread(figure: ElementHandle, number: int, key: str) -> list[str]:
    """What the text beside a slider, or the name of the picture, gets wrong at one end."""
    shown = figure.evaluate(
        """(figure, number) => {
          const picture = figure.querySelector(".geo-stage > *");
          const data = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
          return {
            texts: data.sliders[number].texts,
            value: figure.querySelectorAll("output")[number].textContent.trim(),
            said: figure.querySelectorAll("input[type=range]")[number].getAttribute("aria-valuetext") || "",
            name: picture.getAttribute("alt") || picture.getAttribute("aria-label") || "",
            caption: figure.querySelector("figcaption").textContent.trim(),
          };
        }""",
        number,
    )
    wanted = shown["texts"][0 if key == "Home" else -1]
    problems = []
    if shown["value"] != wanted:
        problems.append(f"the value reads {shown['value']!r}, not {wanted!r}")
    if wanted not in shown["said"]:
        problems.append(f"a screen reader hears {shown['said']!r}, not {wanted!r}")
    if not shown["name"] or shown["name"] != shown["caption"]:
        problems.append(f"the picture is named {shown['name']!r}, the caption is {shown['caption']!r}")
    return problems


def picture(figure: ElementHandle) -> bytes:
    """The pixels of the stage."""
    stage = figure.query_selector(".geo-stage")
    assert stage is not None
    return stage.screenshot(animations="disabled")


# From the moment a slider's value is set until the new picture is on the screen: to the second frame after
# the change, less one frame. At most twelve steps a card; the first, which unpacks the frames, is left out.
LATENCY = """async () => {
  const frame = () => new Promise(requestAnimationFrame);
  const times = [];
  for (const figure of document.querySelectorAll("figure.geo-sweep:not(.geo-still)")) {
    const input = figure.querySelector("input[type=range]");
    const stage = figure.querySelector(".geo-stage");
    const data = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
    const steps = data.sliders[0].at.slice(0, 13);
    for (const [number, place] of steps.entries()) {
      const changed = new Promise((done) => {
        const watch = new MutationObserver(() => { watch.disconnect(); done(true); });
        watch.observe(stage, { childList: true });
        setTimeout(() => { watch.disconnect(); done(false); }, 1000);
      });
      await frame();
      const start = performance.now();
      input.value = place;
      input.dispatchEvent(new Event("input", { bubbles: true }));
      if (!await changed) continue;
      const before = await frame();
      const after = await frame();
      if (number) times.push(performance.now() - start - (after - before));
    }
  }
  return times.length ? times : [-1];
}"""

"""A published sweep in a browser: from disk, with the network off."""

from __future__ import annotations

import io
import statistics
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from geolessons.widgets import INK, show, sweep

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs {CHROMIUM}"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
BLUE, RED = (17, 106, 253), (255, 0, 0)
STOPS = np.linspace(0, 1, 11)
ANGLES = {"2°, nearly one road": 2, "90°, two seeds": 90, "150°, wide": 150}


def draw(t, angle=90):
    """A card: a map above, below it a meter with a red line at t."""
    fig = Figure(figsize=(4.2, 4))
    above = fig.add_axes([0.12, 0.5, 0.85, 0.45])
    above.set_axis_off()
    above.plot(np.cos(np.linspace(0, np.radians(angle), 60)), np.linspace(0, t, 60), color=INK)
    meter = fig.add_axes([0.12, 0.14, 0.85, 0.3])
    meter.set_xlim(0, 1)
    meter.set_xlabel("t")
    meter.axvline(t, color="#ff0000", lw=2, clip_on=False)
    return fig


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    made = sweep(
        draw,
        t=STOPS,
        angle=ANGLES,
        labels={"t": "how far along", "angle": "between the networks"},
        alt="At t = {t:.1f} and {angle} the red line stands at {t:.1f}.",
    )
    return made.save(tmp_path_factory.mktemp("card") / "card.html")


@pytest.fixture
def open_page(browser):
    """Open a file; at the end no error was logged and nothing was asked of the network."""
    contexts, complaints = [], []

    def opened(path, width=452, scheme="light", **options):
        size = {"width": width, "height": 900}
        context = browser.new_context(viewport=size, color_scheme=scheme, offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith("http") and complaints.append(asked.url))
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def caption(page):
    return page.locator("output.geo-caption").text_content()


def shown(page, t, angle="2°, nearly one road"):
    """Wait until the picture, its name and the caption are those of this frame."""
    sentence = f"At t = {t:.1f} and {angle} the red line stands at {t:.1f}."
    page.wait_for_function(
        "s => document.querySelector('.geo-caption').textContent === s"
        " && document.querySelector('.geo-stage [role=img]').getAttribute('aria-label') === s",
        arg=sentence,
        timeout=3000,
    )


def centre(page, colour):
    """Where in the page, in px, the pixels of a colour lie on average; taken at four times the resolution."""
    picture = Image.open(io.BytesIO(page.screenshot()))
    near = np.abs(np.asarray(picture.convert("RGB")).astype(int) - colour).sum(-1) < 60
    assert near.sum() > 20, "the colour is not in the picture"
    return float(np.nonzero(near)[1].mean() + 0.5) / 4


@pytest.mark.parametrize("width", [420, 328])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_thumb_lies_on_the_value_of_the_meters_axis(open_page, card, width, scheme):
    page = open_page(card, width + 32, scheme, device_scale_factor=4)
    assert page.locator("figure").bounding_box()["width"] == width
    slider = page.locator("input.geo-range").first
    for i in (0, 3, 5, 8, 10):
        slider.focus()
        page.keyboard.press("Home")
        for _ in range(i):
            page.keyboard.press("ArrowRight")
        shown(page, STOPS[i])
        slider.blur()
        thumb, line = centre(page, BLUE), centre(page, RED)
        box = slider.bounding_box()
        assert abs(thumb - line) < 1, f"at {STOPS[i]:.1f} the thumb is {thumb - line:.1f} px off"
        assert box["x"] + 10 + STOPS[i] * (box["width"] - 20) == pytest.approx(line, abs=1)


def test_keyboard(open_page, card):
    page = open_page(card)
    slider, second = page.locator("input.geo-range").all()
    slider.focus()
    for key, t in [
        ("ArrowRight", 0.1),
        ("PageUp", 0.6),
        ("ArrowUp", 0.7),
        ("ArrowLeft", 0.6),
        ("PageDown", 0.1),
    ]:
        page.keyboard.press(key)
        shown(page, t)
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")
    shown(page, 1)
    assert slider.get_attribute("aria-valuetext") == "t: 1.0"
    assert page.locator(".geo-value > span").first.text_content() == "1.0"
    page.keyboard.press("Home")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    shown(page, 0, "90°, two seeds")
    assert second.get_attribute("aria-valuetext") == "angle: 90°, two seeds"
    assert second.get_attribute("aria-label") == "angle, between the networks"


def test_mouse_drags_and_stops_snap(open_page, card):
    page = open_page(card)
    box = page.locator("input.geo-range").first.bounding_box()
    page.mouse.move(box["x"] + 10, box["y"] + 22)
    page.mouse.down()
    for share in (0.2, 0.5, 0.72):
        page.mouse.move(box["x"] + 10 + share * (box["width"] - 20), box["y"] + 22)
    page.mouse.up()
    shown(page, 0.7)


def test_touch(open_page, card):
    page = open_page(card, 360, has_touch=True, is_mobile=True)
    box = page.locator("input.geo-range").first.bounding_box()
    page.touchscreen.tap(box["x"] + 10 + 0.4 * (box["width"] - 20), box["y"] + 22)
    shown(page, 0.4)


def test_unevenly_spaced_stops(open_page, tmp_path):
    made = sweep(draw, t=[0, 0.1, 0.4, 1], alt="At t = {t:.1f} and x the red line stands at {t:.1f}.")
    page = open_page(made.save(tmp_path / "uneven.html"), device_scale_factor=4)
    slider = page.locator("input.geo-range")
    box = slider.bounding_box()
    page.mouse.click(box["x"] + 10 + 0.43 * (box["width"] - 20), box["y"] + 22)
    shown(page, 0.4, "x")
    slider.blur()
    assert abs(centre(page, BLUE) - centre(page, RED)) < 1
    slider.focus()
    page.keyboard.press("ArrowLeft")
    shown(page, 0.1, "x")


def test_play_runs_to_the_end_and_is_quiet_meanwhile(open_page, card):
    page = open_page(card)
    page.wait_for_timeout(600)
    assert caption(page).startswith("At t = 0.0"), "nothing starts by itself"
    play, live = page.locator(".geo-play"), page.locator("output.geo-caption")
    assert play.get_attribute("aria-label") == "Play t"
    play.click()
    assert play.get_attribute("aria-label") == "Pause t"
    assert live.get_attribute("aria-live") == "off"
    shown(page, 0.2)
    play.click()
    stopped = caption(page)
    page.wait_for_timeout(800)
    assert caption(page) == stopped
    assert live.get_attribute("aria-live") == "polite"
    page.locator("input.geo-range").first.focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    play.click()
    shown(page, 1)
    page.wait_for_timeout(900)
    assert caption(page).startswith("At t = 1.0"), "it does not go round"
    assert play.get_attribute("aria-label") == "Play t"


def test_reduced_motion_has_steps_in_place_of_play(open_page, card):
    page = open_page(card, reduced_motion="reduce")
    assert not page.locator(".geo-play").is_visible()
    back, on = page.locator(".geo-step").all()
    on.click()
    on.click()
    shown(page, 0.2)
    back.click()
    shown(page, 0.1)
    assert back.get_attribute("aria-label") == "One step back in t"


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_on_a_phone_nothing_overflows_and_targets_are_large(open_page, card, motion):
    page = open_page(card, 360, reduced_motion=motion)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    for target in page.locator("figure button:visible, figure input").all():
        box = target.bounding_box()
        assert box["height"] >= 44
        assert box["width"] >= 24
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360


def test_nothing_moves_under_the_finger(open_page, card):
    page = open_page(card, 360)
    slider = page.locator("input.geo-range").nth(1)
    slider.focus()
    places = set()
    for key in ("Home", "ArrowRight", "End"):
        page.keyboard.press(key)
        page.wait_for_timeout(50)
        places.add((slider.bounding_box()["y"], page.locator("figure").bounding_box()["height"]))
    assert len(places) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_focus_is_visible(open_page, card, scheme):
    page = open_page(card, scheme=scheme)
    before = page.screenshot()
    for _ in range(3):
        page.keyboard.press("Tab")
        after = page.screenshot()
        assert after != before
        before = after


def test_the_drawing_takes_the_pages_ink(open_page, card):
    light, dark = (open_page(card, scheme=scheme) for scheme in ("light", "dark"))
    stroke = "getComputedStyle(document.querySelector('.geo-stage path[style*=currentColor]')).stroke"
    assert light.evaluate(stroke) == "rgb(28, 32, 38)"
    assert dark.evaluate(stroke) == "rgb(206, 214, 221)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page, tmp_path, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    made = sweep(draw, t=STOPS[:3], angle=ANGLES, alt="At t = {t:.1f}, {angle}.")
    path = made.save(tmp_path / "card.html")
    still = show(draw(0.5), alt="The line half-way.", caption=True).html()
    # the same card twice on a page, and a still: what a chapter may hold
    path.write_text(path.read_text().replace("</main>", made.html() + still + "</main>"))
    for motion in ("reduce", "no-preference"):
        found = axe.Axe().run(open_page(path, scheme=scheme, reduced_motion=motion)).response["violations"]
        grave = [(rule["id"], rule["help"]) for rule in found if rule["impact"] in ("serious", "critical")]
        assert grave == []


def test_two_cards_on_a_page_do_not_touch_each_other(open_page, tmp_path):
    one, two = (sweep(draw, t=STOPS[:3], alt=name + " {t:.1f}") for name in ("one", "two"))
    path = one.save(tmp_path / "two.html")
    path.write_text(path.read_text().replace("</main>", two.html() + "</main>"))
    page = open_page(path)
    assert (
        page.evaluate("new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size")
        == page.locator("[id]").count()
    )
    page.locator("input.geo-range").nth(1).focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelectorAll('.geo-caption')[1].textContent === 'two 0.1'")
    assert page.locator(".geo-caption").all_text_contents() == ["one 0.0", "two 0.1"]


def test_pictures_are_shown_too(open_page, tmp_path):
    path = sweep(draw, t=STOPS[:3], alt="{t:.1f}", frames="picture").save(tmp_path / "picture.html")
    page = open_page(path)
    page.locator("input.geo-range").focus()
    page.keyboard.press("End")
    page.wait_for_function("document.querySelector('.geo-stage img').alt === '0.2'")
    assert page.evaluate("document.querySelector('.geo-stage img').naturalWidth") == 441


@pytest.mark.parametrize("how", ["no script", "no DecompressionStream"])
def test_without_script_the_still_stays(open_page, card, tmp_path, how):
    path = card
    if how != "no script":
        path = tmp_path / "old.html"
        path.write_text(
            card.read_text().replace("<head>", "<head><script>delete DecompressionStream</script>")
        )
    page = open_page(path, java_script_enabled=how != "no script")
    assert page.locator(".geo-stage svg").is_visible()
    assert page.locator("output.geo-caption").is_visible()
    assert not page.locator("input.geo-range").first.is_visible()


def test_frames_that_cannot_be_unpacked_leave_the_still(browser, card, tmp_path):
    path = tmp_path / "broken.html"
    path.write_text(card.read_text().replace('"frames": "', '"frames": "AAAA'))
    page = browser.new_page()
    page.goto(path.as_uri())
    page.locator("input.geo-range").first.focus()
    page.keyboard.press("End")
    page.locator(".geo-controls").wait_for(state="hidden")
    assert page.locator(".geo-stage svg").is_visible()
    page.close()


def test_slider_to_picture_takes_under_30_ms(open_page, card):
    page = open_page(card)
    times = page.evaluate(
        """async () => {
            const slider = document.querySelector("input.geo-range");
            const stage = document.querySelector(".geo-stage"), times = [];
            for (let i = 0; i <= 30; i++) {
                const old = stage.firstElementChild, begun = performance.now();
                slider.value = (3 * i + 1) % 11;
                slider.dispatchEvent(new Event("input"));
                while (stage.firstElementChild === old) await new Promise(done => setTimeout(done, 0));
                stage.getBoundingClientRect();
                times.push(performance.now() - begun);
            }
            return times.slice(1);
        }"""
    )
    assert statistics.median(times) < 30, f"median {statistics.median(times):.1f} ms"

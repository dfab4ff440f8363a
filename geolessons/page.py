"""The published page: one plain HTML figure with native range inputs, its frames packed inside it.

`sweep.css` lays it out; `sweep.js` unpacks the frames and moves the sliders.  Without the script the
first frame and its sentence stay.
"""

from __future__ import annotations

import html
import json
import os
from collections.abc import Sequence
from importlib import resources
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from geolessons.files import replacing
from geolessons.frames import Frames, as_html, pack
from geolessons.stops import Slider, State

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Track", "begin", "moving", "save", "states", "still", "track"]

LEFT, RIGHT = 0.12, 0.97  # where a card's axes begin and end, as shares of the figure's width


class Track(NamedTuple):
    """Begin and end of a slider's track, as shares of the width, and each stop's place on it, 0 to 1."""

    left: float
    right: float
    places: list[float]


def track(fig: Figure, slider: Slider) -> Track:
    """Where the main slider lies: on the x axis of the lowest axes, whatever its scale.

    That is, if the stops lie on that axis and span at least half of it.  Otherwise the track has a card's
    usual insets and evenly spaced stops.
    """
    usual = Track(LEFT, RIGHT, [i / (len(slider.values) - 1) for i in range(len(slider.values))])
    if slider.named or not fig.axes:
        return usual
    axes = min(fig.axes, key=lambda each: float(each.get_position().y0))
    low, high = sorted(axes.get_xlim())
    if not low <= slider.values[0] < slider.values[-1] <= high:
        return usual
    pixels = [axes.transData.transform((value, axes.get_ylim()[0]))[0] for value in slider.values]
    x = [float(each) / fig.bbox.width for each in pixels]
    span = x[-1] - x[0]
    # Room for the play button on the left and for half a thumb on the right.
    if not (0.1 <= x[0] < x[-1] <= 0.98 and span >= max(0.4, 0.5 * axes.get_position().width)):
        return usual
    return Track(x[0], x[-1], [(each - x[0]) / span for each in x])


def states(sliders: Sequence[Slider]) -> list[State]:
    """All frames in the order of the page: the last parameter runs fastest, and the script counts so, too."""
    return list(product(*(slider.stops() for slider in sliders)))


def begin(sliders: Sequence[Slider]) -> int:
    """The number of the frame at the start, in that order."""
    number = 0
    for slider in sliders:
        number = number * len(slider.values) + slider.start
    return number


def still(frame: str, alt: str, caption: str, width: float) -> str:
    """A figure that does not move; width in inches."""
    said = f'<figcaption><span class="geo-caption">{html.escape(caption)}</span></figcaption>'
    return _figure("geo-sweep geo-still", width, "", _stage(frame, alt) + (said if caption else ""))


def moving(
    sliders: Sequence[Slider],
    main: Track,
    frames: list[str],
    captions: list[str],
    *,
    kind: Frames,
    width: float,
) -> str:
    """A figure with sliders; frames and captions in the order of `states`, width in inches."""
    at = [[round(place * (len(main.places) - 1), 4) for place in main.places]]
    at += [[float(i) for i in range(len(slider.values))] for slider in sliders[1:]]
    told, controls = [], ""
    for slider, stops in zip(sliders, at, strict=True):
        told.append({"name": slider.name, "texts": slider.texts, "at": stops, "start": slider.start})
        controls += _control(slider, stops, main=slider is sliders[0])
    data = json.dumps({"kind": kind, "sliders": told, "frames": pack(captions, frames)})
    data = data.replace("<", "\\u003c")  # a stop's name may not end the script element
    first = begin(sliders)
    said = html.escape(captions[first])
    inner = (
        f'{_stage(frames[first], captions[first])}<div class="geo-controls" hidden>{controls}</div>'
        f'<figcaption><output class="geo-caption" aria-live="polite">{said}</output></figcaption>'
        f'<script type="application/json">{data}</script>'
    )
    insets = f";--geo-left:{main.left:.3%};--geo-right:{1 - main.right:.3%}"
    return _figure("geo-sweep", width, insets, inner) + f"<script>{_asset('sweep.js')}</script>"


def save(path: str | os.PathLike[str], title: str, body: str) -> Path:
    """Write a page that stands alone, in one step: a reader never meets half a file."""
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>:root{{color-scheme:light dark}}"
        "body{margin:16px;font:16px/1.4 system-ui,sans-serif;background:#fff;color:#1c2026}"
        "@media (prefers-color-scheme:dark){body{background:#14181e;color:#ced6dd}}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )
    with replacing(path) as aside:
        aside.write_text(page, encoding="utf-8")
    return Path(path)


def _figure(kind: str, width: float, style: str, inner: str) -> str:
    """Each figure brings its style (and a sweep its script): some kB, and it can be taken to any page."""
    size = f"max-width:{width * 100:.0f}px{style}"
    return f'<style>{_asset("sweep.css")}</style><figure class="{kind}" style="{size}">{inner}</figure>'


def _stage(frame: str, alt: str) -> str:
    return f'<div class="geo-stage">{as_html(frame, alt)}</div>'


def _asset(name: str) -> str:
    return resources.files("geolessons").joinpath(name).read_text(encoding="utf-8").strip()


def _button(kind: str, label: str, more: str, *icons: str) -> str:
    drawn = "".join(f'<svg viewBox="0 0 24 24" aria-hidden="true"><path d="{icon}"/></svg>' for icon in icons)
    return f'<button type="button" class="{kind}" aria-label="{label}" {more}>{drawn}</button>'


def _control(slider: Slider, at: list[float], main: bool) -> str:
    """One slider of the page: name and value, then the track; the main one has the buttons."""
    shown: tuple[Any, ...] = (slider.name, slider.words, slider.texts[slider.start])
    name, words, text = (html.escape(each) for each in shown)
    play = steps = ""
    if main:  # the style sheet shows either play or the steps, as the reader's system asks
        on, back, pause = "M7 4v16l13-8z", "M17 4v16L4 12z", "M6 4h4v16H6zM14 4h4v16h-4z"
        play = _button(
            "geo-play", f"Play {name}", f'data-play="Play {name}" data-pause="Pause {name}"', on, pause
        )
        steps = _button("geo-step", f"One step back in {name}", 'data-by="-1"', back)
        steps += _button("geo-step", f"One step on in {name}", 'data-by="1"', on)
    longest = html.escape(max(slider.texts, key=len))  # its room is kept, or the page would jump
    step = "1" if at == list(range(len(at))) else "any"
    return (
        f'<div class="geo-slider{"" if main else " geo-second"}"><div class="geo-label">'
        f'<span><span class="geo-name">{name}</span>{words[len(name) :]}</span>'
        f'<output class="geo-value" aria-live="off" data-longest="{longest}"><span>{text}</span></output>'
        f"{steps}</div>"
        f'<div class="geo-track">{play}<input type="range" class="geo-range" min="0" max="{len(at) - 1}" '
        f'step="{step}" value="{at[slider.start]:g}" aria-label="{words}" aria-valuetext="{name}: {text}" '
        'autocomplete="off"></div></div>'
    )

"""Cards: a drawing with one or two sliders, alive with a kernel and on the published page.

    sweep(draw, t=[0, 0.05, …, 1], alt="At t = {t:.2f} the road is …")

`draw(t)` returns a matplotlib figure. In a notebook the sliders are ipywidgets, and every value is drawn on
demand. On the published page (`GEOLESSONS_PUBLISH=1`) all stops are drawn beforehand and packed into one
plain HTML figure with native range inputs, which needs neither a kernel nor a network. Both forms carry the
same PNG and the same line of text.

Figures are drawn with one ink, `INK`. Inline it becomes `currentColor`, so that a drawing follows the theme.
"""

from __future__ import annotations

import base64
import hashlib
import html
import inspect
import io
import json
import math
import os
import re
import string
import tempfile
import traceback
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["INK", "Still", "Sweep", "show", "sweep"]

INK = "#010203"  # nobody draws with this colour by chance
LEFT, RIGHT = 0.12, 0.97  # where a card's axes begin and end, as shares of the figure's width
STILL_DPI, PICTURE_DPI = 120, 105  # the bundle's PNG; frames that are mostly picture

Alt = str | Callable[..., str]
Frames = Literal["drawing", "picture"]
State = tuple[tuple[Any, str], ...]  # value and text of each parameter


def sweep(
    draw: Callable[..., Figure],
    *,
    alt: Alt = "",
    frames: Frames = "drawing",
    labels: Mapping[str, str] | None = None,
    start: Mapping[str, Any] | None = None,
    **parameters: Any,
) -> Sweep:
    """Make a drawing move with one or two sliders.

    Args:
        draw: gets the parameters by name and returns a matplotlib figure.
        alt: one sentence that says what is seen: a template (`"At t = {t:.2f} …"`; a named stop gives its
            name) or a function of the parameters, for measured numbers. It is alternative text and caption.
        frames: `"drawing"` keeps the page's frames as vectors, `"picture"` as PNG with 256 colours.
        labels: words beside a parameter's name, `{"t": "how far along"}`.
        start: where sliders stand at first: a stop's name, its value, or else its index; else the first.
        **parameters: one or two grids, of increasing numbers or `{name of the stop: value}`. The first is the
            main one: its slider lies under the x axis of the figure's lowest axes.

    Returns:
        The sweep; a notebook shows it.

    Raises:
        TypeError: no parameter or more than two, `draw` cannot be called with them, or `alt` is missing.
        ValueError: a grid is too short, not increasing or not finite, or a name is unknown.
    """
    return Sweep(draw, alt=alt, frames=frames, labels=labels, start=start, parameters=parameters)


def show(fig: Figure, *, alt: str = "", caption: bool | str = False, frames: Frames = "drawing") -> Still:
    """Show a figure that does not move as sweeps are shown: following the theme, and with a description.

    Args:
        fig: the matplotlib figure; it is closed.
        alt: what is seen, in a sentence.
        caption: a text below the figure; `True` repeats `alt`.
        frames: `"drawing"` publishes vectors, `"picture"` a PNG with 256 colours.

    Returns:
        The still; a notebook shows it.

    Raises:
        TypeError: `fig` is not a figure, or `alt` is missing.
    """
    return Still(fig, alt=alt, caption=caption, frames=frames)


# ------------------------------------------------------------------ parameters


@dataclass(frozen=True)
class _Slider:
    """One parameter: its stops, what is written beside them, and where it starts."""

    name: str
    words: str
    values: list[Any]
    texts: list[str]
    named: bool
    start: int = 0

    def index(self, given: Any) -> int | None:
        """The stop that `given` names or equals."""
        for i, (value, text) in enumerate(zip(self.values, self.texts, strict=True)):
            # Named stops may hold arrays, whose == has no single truth value: compare by identity first.
            numbers = isinstance(given, int | float) and isinstance(value, int | float)
            same = math.isclose(given, value, abs_tol=1e-12) if numbers else given is value
            if same or (
                isinstance(given, str) and given in (text, value if isinstance(value, str) else text)
            ):
                return i
        return None

    def end(self, i: int) -> str:
        return self.texts[i] if self.named else f"{self.values[i]:g}"

    def at(self, i: int) -> tuple[Any, str]:
        return self.values[i], self.texts[i]

    def find(self, given: Any) -> tuple[Any, str]:
        """Value and text of a stop or, on a grid of numbers, of any value between the ends."""
        i = self.index(given)
        if i is not None:
            return self.at(i)
        if self.named:
            stops = ", ".join(self.texts)
            raise ValueError(f"{self.name} = {given!r} is not a stop of this sweep. Its stops: {stops}.")
        if not self.values[0] <= given <= self.values[-1]:
            ends = f"{self.end(0)} to {self.end(-1)}"
            raise ValueError(f"{self.name} = {given!r} lies outside the grid, which goes from {ends}.")
        return given, f"{given:.4g}"


def _slider(name: str, grid: Any, words: str | None, start: Any) -> _Slider:
    named = isinstance(grid, Mapping)
    values = list(grid.values()) if named else _numbers(name, grid)
    texts = [str(text) for text in grid] if named else _texts(values)
    if len(values) < 2:
        count = "has only one stop" if values else "is empty"
        raise ValueError(f"The grid of {name} {count}; give at least two, e.g. {name}=[0, 0.5, 1].")
    slider = _Slider(name, f"{name}, {words}" if words else name, values, texts, named)
    i = 0 if start is None else slider.index(start)
    if i is None and isinstance(start, int) and -len(values) <= start < len(values):
        i = start % len(values)
    if i is None:
        raise ValueError(f"start[{name!r}] is {start!r}, which is not a stop of {name}: {', '.join(texts)}.")
    return _Slider(name, slider.words, values, texts, named, i)


def _numbers(name: str, grid: Any) -> list[Any]:
    """A grid as plain numbers, finite and increasing."""
    grid = grid.tolist() if hasattr(grid, "tolist") else grid
    if isinstance(grid, str) or not isinstance(grid, Sequence):
        raise TypeError(
            f"{name} must be a grid of numbers, e.g. {name}=[0, 0.5, 1], or named stops, e.g. "
            f"{name}={{'near': 0.1, 'far': 2.0}}; got {type(grid).__name__}."
        )
    values = [value.item() if hasattr(value, "item") else value for value in grid]
    for i, value in enumerate(values):
        before = values[i - 1] if i else -math.inf
        if isinstance(value, bool) or not isinstance(value, int | float):
            hint = f"For other stops give names: {name}={{'first': …, 'second': …}}."
            raise TypeError(f"{name}[{i}] is {value!r}, not a number. {hint}")
        if not math.isfinite(value):
            raise ValueError(
                f"{name}[{i}] is {value}; stops are finite numbers. Look at how the grid was made."
            )
        if value == before:
            raise ValueError(
                f"{name} has the stop {value!r} twice, at {i - 1} and {i}. Leave one of them out."
            )
        if value < before:
            raise ValueError(f"{name} goes down from {before!r} to {value!r}; stops increase. Sort the grid.")
    return values


def _texts(values: list[Any]) -> list[str]:
    """The stops as a reader sees them: few decimals, the same number in each, and no two alike."""
    if all(isinstance(value, int) for value in values):
        return [str(value) for value in values]
    exact = (d for d in (1, 2, 3) if all(abs(round(value, d) - value) < 1e-9 for value in values))
    for form in (f".{next(exact, 3)}f", ".3g", ".6g"):
        texts = [format(value, form) for value in values]
        if len(set(texts)) == len(texts):
            return texts
    return [repr(value) for value in values]


class _Stop:
    """A named stop inside a template: `{pair}` is its name, `{pair:.2f}` its value in that format."""

    def __init__(self, value: Any, text: str):
        self.value, self.text = value, text

    def __format__(self, spec: str) -> str:
        return format(self.value, spec) if spec else self.text


def _check_alt(alt: Any, example: str) -> None:
    if not callable(alt) and not (isinstance(alt, str) and alt.strip()):
        raise TypeError(
            "alt is missing: one sentence that says what is seen, for readers who cannot see the figure. "
            f"It may name the parameters, for example alt={example}."
        )


def _check_template(alt: str, names: list[str]) -> None:
    """Refuse a template that cannot be filled in now, not at the first frame."""
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(alt) if field is not None]
    except ValueError as error:
        hint = "Write {{ and }} for braces that stay."
        raise ValueError(f"alt is not a template ({error}): {alt!r}. {hint}") from None
    for field in fields:
        if re.split(r"[.\[]", field)[0] not in names:
            hint = f'For computed numbers give a function: alt=lambda {", ".join(names)}: f"…".'
            raise ValueError(f"alt names {{{field}}}, but the parameters are {' and '.join(names)}. {hint}")


def _check_call(function: Callable[..., Any], what: str, names: list[str]) -> None:
    """Refuse a function that cannot be called with these parameters."""
    try:
        inspect.signature(function).bind(**dict.fromkeys(names))
    except ValueError:  # a builtin without a signature
        return
    except TypeError as error:
        call = f"{what}({', '.join(f'{name}=…' for name in names)})"
        raise TypeError(f"{what} is called as {call}, by the names of the grids: {error}.") from None


def _check_frames(frames: Any) -> None:
    if frames not in ("drawing", "picture"):
        raise ValueError(
            f'frames is {frames!r}; choose "drawing" (vectors) or "picture" (mostly image, PNG).'
        )


# ------------------------------------------------------------------ from figures to text


@contextmanager
def _drawing() -> Iterator[None]:
    """Ink for text and axes, settings restored afterwards, no figure left open, whatever happens inside."""
    from matplotlib import pyplot, rc_context

    ink = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "hatch.color")
    before = set(pyplot.get_fignums())
    rc: dict[Any, Any] = dict.fromkeys(ink, INK)
    with rc_context(rc):
        try:
            yield
        finally:
            for number in set(pyplot.get_fignums()) - before:
                pyplot.close(number)


def _closed(fig: Any, what: str) -> Figure:
    """Check that it is a figure, and take it from pyplot."""
    from matplotlib import pyplot
    from matplotlib.figure import Figure

    if isinstance(fig, Figure):
        pyplot.close(fig)
        return fig
    hints = {
        "NoneType": "End it with `return fig`.",
        "tuple": "Of `fig, ax = plt.subplots()` give fig alone.",
    }
    hint = hints.get(type(fig).__name__, "Make one with `fig, ax = plt.subplots()`.")
    hint = "Give its figure, `ax.figure`." if isinstance(getattr(fig, "figure", None), Figure) else hint
    raise TypeError(f"{what} must be a matplotlib figure; got {type(fig).__name__}. {hint}")


def _png(fig: Figure, dpi: int) -> bytes:
    """The figure on white with a palette: a third of a full-colour PNG, without a visible difference."""
    from matplotlib import rc_context
    from PIL import Image

    full, small = io.BytesIO(), io.BytesIO()
    with rc_context({"savefig.bbox": None}):  # a cut to size would move the axes away from the slider
        fig.savefig(full, format="png", dpi=dpi, facecolor="white")
    # Not the default, median cut: it gives small points and thin lines the colours of their neighbours.
    image, method = Image.open(full).convert("RGB"), Image.Quantize.MAXCOVERAGE
    image.quantize(256, method, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return small.getvalue()


def _frame(fig: Figure, frames: Frames) -> str:
    """One frame of the page: a drawing, or a PNG as base64."""
    return _svg(fig) if frames == "drawing" else base64.b64encode(_png(fig, PICTURE_DPI)).decode()


def _svg(fig: Figure) -> str:
    """The figure as an inline drawing: small, deterministic, transparent, its ink the page's text colour."""
    from matplotlib import rc_context

    rc: dict[Any, Any] = {
        "svg.fonttype": "path",
        "svg.hashsalt": "geolessons",
        "svg.image_inline": True,
        "savefig.bbox": None,
    }
    raw = io.BytesIO()
    with rc_context(rc):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        fig.savefig(raw, format="svg", transparent=True, dpi=STILL_DPI, metadata=nothing)
    text = raw.getvalue().decode()
    # matplotlib's style sheet would hold for every element of the page; its two properties move to the root.
    text = re.sub(r"(?s)^.*?(?=<svg)|<!--.*?-->|<defs>\s*<style.*?</style>\s*</defs>", "", text)
    root = r'<svg \1 fill="currentColor" stroke-linejoin="round" stroke-linecap="butt" role="img">'
    text = re.sub(r'<svg[^>]*(viewBox="[^"]*")[^>]*>', root, text, count=1)
    pieces = re.split(r"(<image[^>]*>)", text)  # pictures inside a drawing stay as they are
    pieces[::2] = [_rounded(piece) for piece in pieces[::2]]
    text = re.sub(f"{INK}|#000000", "currentColor", "".join(pieces).replace("xlink:href", "href"))
    text = re.sub(r'<path d="[^"]*" style="fill: none"/>', "", text)  # the figure's and the axes' own patch
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
    return re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", text).strip()


def _rounded(text: str) -> str:
    """Positions to 0.1 pt, shapes in `<defs>` to 0.01 (they may be scaled up); scales and opacities stay."""

    def to(digits: int) -> Callable[[re.Match[str]], str]:
        number = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
        return lambda match: number.sub(lambda found: f"{round(float(found[0]), digits) + 0:g}", match[0])

    text = re.sub(r"\s*\n\s*", " ", text).replace("> <", "><").replace(' z "', ' z"')
    text = re.sub(r'(?<=<path )d="[^"]*"|translate\([^)]*\)', to(1), text)
    text = re.sub(r"<use [^>]*>", lambda use: re.sub(r' [xy]="[^"]*"', to(1), use[0]), text)
    return re.sub(r'(?<=" )d="[^"]*"', to(2), text)


def _own_ids(svg: str, prefix: str) -> str:
    """Two drawings on a page may not share the name of a clip path or a glyph."""
    return re.sub(r' id="|href="#|url\(#', lambda match: match[0] + prefix, svg)


def _prefix(text: str) -> str:
    return f"g{hashlib.sha256(text.encode()).hexdigest()[:8]}-"


def _image(frame: str, alt: str) -> str:
    """A frame with its sentence: an inline drawing, or a PNG given as base64."""
    label = html.escape(alt)
    if frame.startswith("<svg"):
        return frame.replace('role="img"', f'role="img" aria-label="{label}"', 1)
    return f'<img class="dark-light" alt="{label}" src="data:image/png;base64,{frame}">'


def _track(fig: Figure, slider: _Slider) -> tuple[float, float, list[float]]:
    """Begin and end of the slider's track, as shares of the width, and each stop's place on it, 0 to 1.

    The track follows the x axis of the lowest axes, whatever its scale, if the stops lie on it and span at
    least half of it. Otherwise it has a card's usual insets and evenly spaced stops.
    """
    usual = LEFT, RIGHT, [i / (len(slider.values) - 1) for i in range(len(slider.values))]
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
    return x[0], x[-1], [(each - x[0]) / span for each in x]


# ------------------------------------------------------------------ the published page


def _packed(captions: list[str], frames: list[str]) -> str:
    """Captions and frames for the script, deflated, as base64.

    Frames share most of their elements, so each element is kept once and a frame is a list of their numbers
    (77 frames of a card: 0.05 MB; deflated frame by frame 0.98 MB).
    """
    number: dict[str, int] = {}
    rows = [
        [number.setdefault(part, len(number)) for part in re.split(r"(?=<)", frame) if part]
        for frame in frames
    ]
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    text = json.dumps({"captions": captions, "parts": list(number), "frames": rows}, separators=(",", ":"))
    return base64.b64encode(deflate.compress(text.encode()) + deflate.flush()).decode()


def _asset(name: str) -> str:
    return resources.files("geolessons").joinpath(name).read_text(encoding="utf-8").strip()


def _button(kind: str, label: str, more: str = "", icons: Sequence[str] = ()) -> str:
    drawn = "".join(f'<svg viewBox="0 0 24 24" aria-hidden="true"><path d="{icon}"/></svg>' for icon in icons)
    return f'<button type="button" class="{kind}" aria-label="{label}" {more}>{drawn}</button>'


def _control(slider: _Slider, at: list[float], main: bool) -> str:
    """One slider of the page: name and value, then the track; the main one has the buttons."""
    name, words, text = (
        html.escape(each) for each in (slider.name, slider.words, slider.texts[slider.start])
    )
    play = steps = ""
    if main:  # the style sheet shows either play or the steps, as the reader's system asks
        on, back, pause = "M7 4v16l13-8z", "M17 4v16L4 12z", "M6 4h4v16H6zM14 4h4v16h-4z"
        say = f'data-play="Play {name}" data-pause="Pause {name}"'
        play = _button("geo-play", f"Play {name}", say, [on, pause])
        steps = _button("geo-step", f"One step back in {name}", 'data-by="-1"', [back])
        steps += _button("geo-step", f"One step on in {name}", 'data-by="1"', [on])
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


def _figure(kind: str, width: float, style: str, inner: str) -> str:
    """Each figure brings its style (and a sweep its script): some kB, and it can be taken to any page."""
    size = f"max-width:{width * 100:.0f}px{style}"
    return f'<style>{_asset("sweep.css")}</style><figure class="{kind}" style="{size}">{inner}</figure>'


def _save(path: str | os.PathLike[str], title: str, body: str) -> Path:
    """Write a page that stands alone, in one step: a reader never meets half a file."""
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>:root{{color-scheme:light dark}}"
        "body{margin:16px;font:16px/1.4 system-ui,sans-serif;background:#fff;color:#1c2026}"
        "@media (prefers-color-scheme:dark){body{background:#14181e;color:#ced6dd}}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )
    target = Path(path)
    handle, draft = tempfile.mkstemp(dir=target.parent, suffix=".tmp")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(page)
        os.chmod(draft, 0o644)
        os.replace(draft, target)
    except BaseException:
        os.unlink(draft)
        raise
    return target


# ------------------------------------------------------------------ what a notebook shows


class _Card:
    """What sweeps and stills share: a line of text, a PNG, and a form for the page."""

    _line: str

    def __repr__(self) -> str:
        return self._line

    def html(self) -> str:
        """The published form, self-contained."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the published form as a page of its own.

        Args:
            path: the file; it is replaced in one step.

        Returns:
            The path.
        """
        return _save(path, self._line, self.html())

    def _still(self) -> bytes:
        raise NotImplementedError

    def _live(self) -> dict[str, Any]:
        return {}

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        published = os.environ.get("GEOLESSONS_PUBLISH") == "1"
        png = base64.b64encode(self._still()).decode()
        form = {"text/html": self.html()} if published else self._live()
        return {**form, "image/png": png, "text/plain": self._line}


class Still(_Card):
    """A figure that does not move; made by `show`."""

    def __init__(self, fig: Figure, *, alt: str, caption: bool | str = False, frames: Frames = "drawing"):
        if callable(alt):
            raise TypeError("alt of a still is a sentence, not a function: there is nothing to move.")
        _check_alt(alt, '"The two roads meet at the pole."')
        _check_frames(frames)
        with _drawing():
            _closed(fig, "fig")
            self._png = _png(fig, STILL_DPI)
            frame = _frame(fig, frames)
        self._line = f"figure: {alt}"
        said = html.escape(alt if caption is True else caption or "")
        frame = _own_ids(frame, _prefix(frame)) if frames == "drawing" else frame
        below = f'<figcaption><span class="geo-caption">{said}</span></figcaption>' if said else ""
        stage = f'<div class="geo-stage">{_image(frame, alt)}</div>'
        self._html = _figure("geo-sweep geo-still", fig.get_figwidth(), "", stage + below)

    def html(self) -> str:
        """The published form, self-contained."""
        return self._html

    def _still(self) -> bytes:
        return self._png


class Sweep(_Card):
    """A drawing with sliders; made by `sweep`."""

    def __init__(
        self,
        draw: Callable[..., Figure],
        *,
        alt: Alt,
        frames: Frames = "drawing",
        labels: Mapping[str, str] | None = None,
        start: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any],
    ):
        names = list(parameters)
        if not 1 <= len(names) <= 2:
            got = f"got {len(names)}: {', '.join(names)}" if names else "got none"
            hint = (
                "Give each as a grid, e.g. sweep(draw, t=[0, 0.5, 1], alt=…); what is fixed belongs in draw."
            )
            raise TypeError(f"A sweep has one or two parameters; {got}. {hint}")
        if not callable(draw):
            hint = "Pass the function itself, `draw`, not `draw(…)`."
            raise TypeError(
                f"draw must be a function that returns a figure; got {type(draw).__name__}. {hint}"
            )
        _check_alt(alt, f'"At {names[0]} = {{{names[0]}}} the two roads meet."')
        _check_frames(frames)
        for what, given in (("labels", labels), ("start", start)):
            for name in given or ():
                if name not in names:
                    raise ValueError(f"{what} names {name!r}, but the parameters are {' and '.join(names)}.")
        self._draw, self._alt, self._frames = draw, alt, frames
        self._sliders = [
            _slider(name, grid, (labels or {}).get(name), (start or {}).get(name))
            for name, grid in parameters.items()
        ]
        _check_call(draw, "draw", names)
        if isinstance(alt, str):
            _check_template(alt, names)
        else:
            _check_call(alt, "alt", names)
        self._start: State = tuple(each.at(each.start) for each in self._sliders)
        grids = (f"{s.name} ({len(s.values)} stops, {s.end(0)} to {s.end(-1)})" for s in self._sliders)
        self._line = f"sweep over {' and '.join(grids)}: {self._caption(self._start)}"

    def frame(self, **values: Any) -> Figure:
        """Draw one frame.

        Args:
            **values: a number between the ends of its grid, or a stop's name or value. A parameter that is
                left out stands at its start.

        Returns:
            The figure, closed: it can be saved and looked at, but pyplot does not keep it.

        Raises:
            TypeError: `draw` did not return a figure.
            ValueError: a name or a value that the sweep does not have.
        """
        names = [slider.name for slider in self._sliders]
        for name in values:
            if name not in names:
                raise ValueError(f"{name} is not a parameter of this sweep; they are {' and '.join(names)}.")
        given = [
            values.get(slider.name, at[0]) for slider, at in zip(self._sliders, self._start, strict=True)
        ]
        with _drawing():
            return self._drawn(tuple(s.find(value) for s, value in zip(self._sliders, given, strict=True)))

    def html(self) -> str:
        """The published form, self-contained: every frame, drawn once."""
        return self._published

    def _values(self, state: State) -> dict[str, Any]:
        return {slider.name: value for slider, (value, _) in zip(self._sliders, state, strict=True)}

    def _drawn(self, state: State) -> Figure:
        return _closed(self._draw(**self._values(state)), "What draw returns")

    def _caption(self, state: State) -> str:
        """The sentence for one frame."""
        where = " and ".join(f"{s.name} = {text}" for s, (_, text) in zip(self._sliders, state, strict=True))
        if callable(self._alt):
            said = self._alt(**self._values(state))
            if not isinstance(said, str) or not said.strip():
                raise TypeError(f"alt must return a sentence; for {where} it returned {said!r}.")
            return said
        pairs = zip(self._sliders, state, strict=True)
        fields = {s.name: _Stop(value, text) if s.named else value for s, (value, text) in pairs}
        try:
            return self._alt.format(**fields)
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            raise ValueError(f"alt cannot be filled in for {where}: {error}. It is {self._alt!r}.") from None

    @cached_property
    def _first(self) -> tuple[str, bytes, tuple[float, float, list[float]], float]:
        """Of the frame at the start: the frame, its PNG, the main track, the width in inches."""
        with _drawing():
            fig = self._drawn(self._start)
            return (
                _frame(fig, self._frames),
                _png(fig, STILL_DPI),
                _track(fig, self._sliders[0]),
                fig.get_figwidth(),
            )

    def _still(self) -> bytes:
        return self._first[1]

    @property
    def _prefix(self) -> str:
        return _prefix(self._first[0] + self._line)

    @cached_property
    def _published(self) -> str:
        from tqdm import tqdm

        first, _, (left, right, places), width = self._first
        # The last parameter runs fastest; the script counts in the same way.
        states: list[State] = list(product(*(zip(s.values, s.texts, strict=True) for s in self._sliders)))
        begin = 0
        for slider in self._sliders:
            begin = begin * len(slider.values) + slider.start
        frames = []
        # disable=None: a bar in terminals, nothing in what a notebook stores
        for i, state in enumerate(tqdm(states, desc="frames", leave=False, disable=None)):
            with _drawing():
                frames.append(first if i == begin else _frame(self._drawn(state), self._frames))
        if self._frames == "drawing":
            frames = [_own_ids(frame, self._prefix) for frame in frames]
        captions = [self._caption(state) for state in states]
        at = [[round(place * (len(places) - 1), 4) for place in places]]
        at += [[float(i) for i in range(len(slider.values))] for slider in self._sliders[1:]]
        pairs = list(zip(self._sliders, at, strict=True))
        sliders = [{"name": s.name, "texts": s.texts, "at": stops, "start": s.start} for s, stops in pairs]
        data = {"kind": self._frames, "sliders": sliders, "frames": _packed(captions, frames)}
        still, said = _image(frames[begin], captions[begin]), html.escape(captions[begin])
        controls = [_control(slider, stops, main=slider is self._sliders[0]) for slider, stops in pairs]
        script = json.dumps(data).replace("<", "\\u003c")  # a stop's name may not end the script element
        inner = (
            f'<div class="geo-stage">{still}</div><div class="geo-controls" hidden>{"".join(controls)}</div>'
            f'<figcaption><output class="geo-caption" aria-live="polite">{said}</output></figcaption>'
            f'<script type="application/json">{script}</script>'
        )
        insets = f";--geo-left:{left:.3%};--geo-right:{1 - right:.3%}"
        return _figure("geo-sweep", width, insets, inner) + f"<script>{_asset('sweep.js')}</script>"

    def _live(self) -> dict[str, Any]:
        key = "application/vnd.jupyter.widget-view+json"
        try:
            return {key: self._widget._repr_mimebundle_()[key]}
        except ImportError:  # no ipywidgets: the picture and its sentence remain
            return {}

    @cached_property
    def _widget(self) -> Any:
        """The drawing, the sliders and the sentence as ipywidgets."""
        import ipywidgets

        first, _, (left, right, _), width = self._first
        stage, caption = ipywidgets.HTML(), ipywidgets.HTML()
        labels = [ipywidgets.HTML() for _ in self._sliders]
        controls = [_kernel_slider(slider, left, right) for slider in self._sliders]

        def tell(state: State) -> None:
            for label, slider, (_, text) in zip(labels, self._sliders, state, strict=True):
                style = f"display:flex;justify-content:space-between;margin:0 {1 - right:.3%} 0 {left:.3%}"
                words = f"<span>{html.escape(slider.words)}</span><span>{html.escape(text)}</span>"
                label.value = f'<div style="{style}">{words}</div>'

        def put(frame: str, said: str) -> None:
            shown = _image(_own_ids(frame, self._prefix) if self._frames == "drawing" else frame, said)
            stage.value = f'<div style="color:var(--jp-content-font-color1,inherit)">{shown}</div>'
            caption.value = f'<div aria-live="polite" style="line-height:1.4">{html.escape(said)}</div>'

        def redraw(_: Any) -> None:
            pairs = zip(self._sliders, controls, strict=True)
            state = tuple(s.at(c.index) if hasattr(c, "index") else s.find(c.value) for s, c in pairs)
            tell(state)
            try:
                with _drawing():
                    frame = _frame(self._drawn(state), self._frames)
                put(frame, self._caption(state))
            except Exception as error:  # what an observer raises would vanish into the log
                told = html.escape("".join(traceback.format_exception(error)[-2:]))
                style = "white-space:pre-wrap;border-left:3px solid #e97034;padding-left:8px"
                caption.value = f'<pre role="alert" style="{style}">{told}</pre>'

        tell(self._start)
        put(first, self._caption(self._start))
        for control in controls:
            control.observe(redraw, "value")
        rows = [each for row in zip(labels, controls, strict=True) for each in row]
        layout = ipywidgets.Layout(max_width=f"{width * 100:.0f}px")
        return ipywidgets.VBox([stage, *rows, caption], layout=layout)


def _kernel_slider(slider: _Slider, left: float, right: float) -> Any:
    """An ipywidget for one parameter: every value between the ends, or the stops alone."""
    import ipywidgets

    # 6 px: the margin that ipywidgets leaves beside a track, so that the handle stands on the axis here, too
    place = {"width": f"calc({right - left:.3%} + 12px)", "margin": f"0 0 0 calc({left:.3%} - 6px)"}
    look = {"readout": False, "tooltip": slider.words, "layout": ipywidgets.Layout(**place)}
    gaps = [1] if slider.named else [b - a for a, b in pairwise(slider.values)]
    if slider.named or max(gaps) > 20 * min(
        gaps
    ):  # e.g. powers of ten: a straight slider would jump over them
        stops = [(text, i) for i, text in enumerate(slider.texts)]
        return ipywidgets.SelectionSlider(options=stops, value=slider.start, **look)
    ends = {"min": slider.values[0], "max": slider.values[-1], "value": slider.values[slider.start]}
    if all(isinstance(value, int) for value in slider.values):
        return ipywidgets.IntSlider(**ends, **look)
    digits = 2 - math.floor(math.log10(ends["max"] - ends["min"]))
    return ipywidgets.FloatSlider(**ends, step=10.0**-digits, **look)

"""Cards: a drawing with one or two sliders, alive with a kernel and on the published page.

    sweep(draw, t=[0, 0.05, …, 1], alt="At t = {t:.2f} the road is …")

`draw(t)` returns a matplotlib figure. In a notebook the sliders are ipywidgets, and every value is drawn on
demand. On the published page (`GEOLESSONS_PUBLISH=1`) all stops are drawn beforehand and packed into one
plain HTML figure with native range inputs, which needs neither a kernel nor a network. Both forms carry the
same PNG and the same line of text.
"""

from __future__ import annotations

import base64
import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from geolessons import live, page
from geolessons.frames import INK, Frames, as_png, as_text, check_kind, closed, drawing, own_ids
from geolessons.stops import Named, Slider, State, check_template

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["INK", "Still", "Sweep", "show", "sweep"]

Alt = str | Callable[..., str]


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


class _Card(ABC):
    """What sweeps and stills share: a line of text, a PNG, and a form for the page."""

    _line: str

    def __repr__(self) -> str:
        return self._line

    @abstractmethod
    def html(self) -> str:
        """The published form, self-contained."""

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the published form as a page of its own.

        Args:
            path: the file; it is replaced in one step.

        Returns:
            The path.
        """
        return page.save(path, self._line, self.html())

    @abstractmethod
    def _png(self) -> bytes:
        """The still for places that show pictures only."""

    def _live(self) -> dict[str, Any]:
        return {}

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        published = os.environ.get("GEOLESSONS_PUBLISH") == "1"
        png = base64.b64encode(self._png()).decode()
        form = {"text/html": self.html()} if published else self._live()
        return {**form, "image/png": png, "text/plain": self._line}


class Still(_Card):
    """A figure that does not move; made by `show`."""

    def __init__(self, fig: Figure, *, alt: str, caption: bool | str = False, frames: Frames = "drawing"):
        if callable(alt):
            raise TypeError("alt of a still is a sentence, not a function: there is nothing to move.")
        _check_alt(alt, '"The two roads meet at the pole."')
        check_kind(frames)
        with drawing():
            closed(fig, "fig")
            self._picture, frame = as_png(fig), as_text(fig, frames)
        self._line = f"figure: {alt}"
        said = alt if caption is True else caption or ""
        self._html = page.still(own_ids(frame, frame), alt, said, fig.get_figwidth())

    def html(self) -> str:
        """The published form, self-contained."""
        return self._html

    def _png(self) -> bytes:
        return self._picture


class _First(NamedTuple):
    """The frame at the start, and what holds for all frames."""

    frame: str
    png: bytes
    track: page.Track
    width: float  # inches


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
            hint = "Give each as a grid, e.g. sweep(draw, t=[0, 0.5, 1], alt=…)"
            raise TypeError(
                f"A sweep has one or two parameters; {got}. {hint}; what is fixed belongs in draw."
            )
        if not callable(draw):
            hint = "Pass the function itself, `draw`, not `draw(…)`."
            got = type(draw).__name__
            raise TypeError(f"draw must be a function that returns a figure; got {got}. {hint}")
        _check_alt(alt, f'"At {names[0]} = {{{names[0]}}} the two roads meet."')
        check_kind(frames)
        labels, start = labels or {}, start or {}
        for what, given in (("labels", labels), ("start", start)):
            for name in given:
                if name not in names:
                    raise ValueError(f"{what} names {name!r}, but the parameters are {' and '.join(names)}.")
        self._draw, self._alt, self._frames = draw, alt, frames
        self._sliders = [
            Slider.of(name, grid, labels.get(name), start.get(name)) for name, grid in parameters.items()
        ]
        _check_call(draw, "draw", names)
        if isinstance(alt, str):
            check_template(alt, names)
        else:
            _check_call(alt, "alt", names)
        self._start: State = tuple(slider.at(slider.start) for slider in self._sliders)
        grids = (f"{s.name} ({len(s.values)} stops, {s.ends})" for s in self._sliders)
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
        state = tuple(
            slider.find(values[slider.name]) if slider.name in values else at
            for slider, at in zip(self._sliders, self._start, strict=True)
        )
        with drawing():
            return self._drawn(state)

    def html(self) -> str:
        """The published form, self-contained: every frame, drawn once."""
        return self._published

    def _values(self, state: State) -> dict[str, Any]:
        return {slider.name: value for slider, (value, _) in zip(self._sliders, state, strict=True)}

    def _drawn(self, state: State) -> Figure:
        return closed(self._draw(**self._values(state)), "What draw returns")

    def _text(self, state: State) -> str:
        with drawing():
            return as_text(self._drawn(state), self._frames)

    def _caption(self, state: State) -> str:
        """The sentence for one frame."""
        pairs = list(zip(self._sliders, state, strict=True))
        where = " and ".join(f"{slider.name} = {text}" for slider, (_, text) in pairs)
        if callable(self._alt):
            said = self._alt(**self._values(state))
            if not isinstance(said, str) or not said.strip():
                raise TypeError(f"alt must return a sentence; for {where} it returned {said!r}.")
            return said
        fields = {s.name: Named(value, text) if s.named else value for s, (value, text) in pairs}
        try:
            return self._alt.format(**fields)
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            raise ValueError(f"alt cannot be filled in for {where}: {error}. It is {self._alt!r}.") from None

    @cached_property
    def _first(self) -> _First:
        with drawing():
            fig = self._drawn(self._start)
            main = page.track(fig, self._sliders[0])
            return _First(as_text(fig, self._frames), as_png(fig), main, float(fig.get_figwidth()))

    def _png(self) -> bytes:
        return self._first.png

    def _own(self, frame: str) -> str:
        return own_ids(frame, self._first.frame + self._line)

    @cached_property
    def _published(self) -> str:
        from tqdm import tqdm

        frame, _, track, width = self._first
        states, begin = page.states(self._sliders), page.begin(self._sliders)
        # disable=None: a bar in terminals, nothing in what a notebook stores
        bar = enumerate(tqdm(states, desc="frames", leave=False, disable=None))
        frames = [self._own(frame if i == begin else self._text(state)) for i, state in bar]
        captions = [self._caption(state) for state in states]
        return page.moving(self._sliders, track, frames, captions, kind=self._frames, width=width)

    def _live(self) -> dict[str, Any]:
        key = "application/vnd.jupyter.widget-view+json"
        try:
            return {key: self._widget._repr_mimebundle_()[key]}
        except ImportError:  # no ipywidgets: the picture and its sentence remain
            return {}

    @cached_property
    def _widget(self) -> Any:
        return live.widget(
            self._sliders,
            self._first.track,
            self._first.width,
            first=self._own(self._first.frame),
            frame=lambda state: self._own(self._text(state)),
            caption=self._caption,
        )


def _check_alt(alt: Any, example: str) -> None:
    if not callable(alt) and not (isinstance(alt, str) and alt.strip()):
        raise TypeError(
            "alt is missing: one sentence that says what is seen, for readers who cannot see the figure. "
            f"It may name the parameters, for example alt={example}."
        )


def _check_call(function: Callable[..., Any], what: str, names: list[str]) -> None:
    """Refuse a function that cannot be called with these parameters."""
    try:
        inspect.signature(function).bind(**dict.fromkeys(names))
    except ValueError:  # a builtin without a signature
        return
    except TypeError as error:
        call = f"{what}({', '.join(f'{name}=…' for name in names)})"
        raise TypeError(f"{what} is called as {call}, by the names of the grids: {error}.") from None

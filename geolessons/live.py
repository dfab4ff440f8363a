"""The sliders of a sweep as ipywidgets: with a kernel, every value is drawn on demand."""

from __future__ import annotations

import html
import math
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from geolessons.frames import as_html
from geolessons.page import Track
from geolessons.stops import Slider, State

__all__ = ["widget"]


def widget(
    sliders: Sequence[Slider],
    track: Track,
    width: float,
    *,
    first: str,
    frame: Callable[[State], str],
    caption: Callable[[State], str],
) -> Any:
    """The drawing, the sliders and the sentence, one below the other.

    Args:
        sliders: the main one first.
        track: where the sliders lie.
        width: inches, at most.
        first: the frame at the start.
        frame: draws any other; what it raises is shown in place of the sentence.
        caption: the sentence of a frame.

    Returns:
        An ipywidget.

    Raises:
        ImportError: ipywidgets is not installed.
    """
    import ipywidgets

    stage, said = ipywidgets.HTML(), ipywidgets.HTML()
    labels = [ipywidgets.HTML() for _ in sliders]
    controls = [_control(slider, track) for slider in sliders]
    inset = f"margin:0 {1 - track.right:.3%} 0 {track.left:.3%}"

    def tell(state: State) -> None:
        for label, slider, (_, text) in zip(labels, sliders, state, strict=True):
            words = f"<span>{html.escape(slider.words)}</span><span>{html.escape(text)}</span>"
            label.value = f'<div style="display:flex;justify-content:space-between;{inset}">{words}</div>'

    def put(drawn: str, sentence: str) -> None:
        colour = "color:var(--jp-content-font-color1,inherit)"
        stage.value = f'<div style="{colour}">{as_html(drawn, sentence)}</div>'
        said.value = f'<div aria-live="polite" style="line-height:1.4">{html.escape(sentence)}</div>'

    def redraw(_: Any) -> None:
        pairs = zip(sliders, controls, strict=True)
        state = tuple(s.find(c.value) if s.straight else s.at(c.index) for s, c in pairs)
        tell(state)
        try:
            put(frame(state), caption(state))
        except Exception as error:  # what an observer raises would vanish into the log
            told = html.escape("".join(traceback.format_exception(error)[-2:]))
            style = "white-space:pre-wrap;border-left:3px solid #e97034;padding-left:8px"
            said.value = f'<pre role="alert" style="{style}">{told}</pre>'

    start = tuple(slider.at(slider.start) for slider in sliders)
    tell(start)
    put(first, caption(start))
    for control in controls:
        control.observe(redraw, "value")
    rows = [each for row in zip(labels, controls, strict=True) for each in row]
    return ipywidgets.VBox([stage, *rows, said], layout=ipywidgets.Layout(max_width=f"{width * 100:.0f}px"))


def _control(slider: Slider, track: Track) -> Any:
    """An ipywidget for one parameter: every value between the ends, or the stops alone."""
    import ipywidgets

    # 6 px: the margin that ipywidgets leaves beside a track, so that the handle stands on the axis here, too
    size, inset = f"calc({track.right - track.left:.3%} + 12px)", f"calc({track.left:.3%} - 6px)"
    layout = ipywidgets.Layout(width=size, margin=f"0 0 0 {inset}")
    look = {"readout": False, "tooltip": slider.words, "layout": layout}
    if not slider.straight:
        stops = [(text, i) for i, text in enumerate(slider.texts)]
        return ipywidgets.SelectionSlider(options=stops, value=slider.start, **look)
    ends = {"min": slider.values[0], "max": slider.values[-1], "value": slider.values[slider.start]}
    if all(isinstance(value, int) for value in slider.values):
        return ipywidgets.IntSlider(**ends, **look)
    digits = 2 - math.floor(math.log10(ends["max"] - ends["min"]))
    return ipywidgets.FloatSlider(**ends, step=10.0**-digits, **look)

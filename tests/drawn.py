"""What a figure really draws: for tests of drawings."""

from __future__ import annotations

from itertools import combinations
from unittest import mock

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from geolessons import plots


def texts(fig: Figure) -> list[tuple[Text, Bbox]]:
    """Each text that is really drawn, with its box in pixels."""
    canvas, seen, draw = FigureCanvasAgg(fig), [], Text.draw

    def spy(text, renderer, *args, **options):
        if text.get_visible() and text.get_text().strip():
            seen.append(text)
        return draw(text, renderer, *args, **options)

    with mock.patch.object(Text, "draw", spy):
        canvas.draw()
    return [(text, Text.get_window_extent(text, canvas.get_renderer())) for text in seen]


def meet(one: Bbox, other: Bbox) -> bool:
    """Whether two boxes share more than half a pixel each way."""
    wide = min(one.x1, other.x1) - max(one.x0, other.x0)
    high = min(one.y1, other.y1) - max(one.y0, other.y0)
    return wide > 0.5 and high > 0.5


def colours(fig: Figure) -> set[str]:
    """The colours of all lines, marks and patches that are seen, but not of texts and pictures."""
    found = []
    for ax in fig.axes:
        for line in ax.lines:
            found += [line.get_color()] if line.get_linestyle() not in ("None", "") else []
            if line.get_marker() not in ("None", "", None):
                found += [line.get_markeredgecolor(), line.get_markerfacecolor()]
        for patch in ax.patches:
            found += [patch.get_facecolor(), patch.get_edgecolor()]
        for collection in ax.collections:
            found += [*collection.get_facecolor(), *collection.get_edgecolor()]
        found += [text.arrow_patch.get_edgecolor() for text in ax.texts if getattr(text, "arrow_patch", None)]
    return {to_hex(colour) for colour in found if to_rgba(colour)[3] > 0}


def check(fig: Figure, hues: set[str]) -> None:
    """All texts are inside, apart and ink, and these are the colours, also of the figure's own lines."""
    seen = texts(fig)
    assert seen
    for text, box in seen:
        assert box.x0 >= -1 and box.y0 >= -1, text.get_text()  # noqa: PT018
        assert box.x1 <= fig.bbox.width + 1, text.get_text()
        assert box.y1 <= fig.bbox.height + 1, text.get_text()
        assert to_hex(text.get_color()) == plots.INK
        assert text.get_fontsize() >= 9
    for (one, box), (other, box2) in combinations(seen, 2):
        assert not meet(box, box2), f"{one.get_text()!r} and {other.get_text()!r} overlap"
    strokes = {to_hex(line.get_color()) for line in fig.lines}
    assert (colours(fig) | strokes) - {plots.INK} == hues

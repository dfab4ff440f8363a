"""Frames: a matplotlib figure as text, for a page that needs neither a kernel nor a network.

    as_text(fig, "drawing")  →  "<svg …>"         vectors; ink is `currentColor` and follows the theme
    as_text(fig, "picture")  →  "iVBORw0KGgo…"    PNG with a palette, as base64
    pack(captions, [frame, frame, …])             many frames in little room

Figures are drawn with one ink, `INK`; all else keeps its colour.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "INK",
    "Frames",
    "as_html",
    "as_png",
    "as_text",
    "check_kind",
    "closed",
    "drawing",
    "own_ids",
    "pack",
]

INK = "#010203"  # nobody draws with this colour by chance
STILL_DPI, PICTURE_DPI = 120, 105  # the bundle's PNG; frames that are mostly picture

Frames = Literal["drawing", "picture"]


def check_kind(frames: Any) -> None:
    """Refuse a kind of frame that does not exist.

    Raises:
        ValueError: It is neither "drawing" nor "picture".
    """
    if frames not in ("drawing", "picture"):
        hint = 'choose "drawing" (vectors) or "picture" (mostly image, PNG).'
        raise ValueError(f"frames is {frames!r}; {hint}")


@contextmanager
def drawing() -> Iterator[None]:
    """Ink for text and axes, settings restored afterwards, no figure left open, whatever happens inside."""
    from matplotlib import pyplot, rc_context

    # The first figure of a session loads the backend, and a notebook's backend then changes settings that
    # have to last (`interactive`, or no later figure is shown). So it is loaded before they are recorded.
    pyplot.draw_if_interactive()  # type: ignore[no-untyped-call]
    ink = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "hatch.color")
    rc: dict[Any, Any] = dict.fromkeys(ink, INK)
    rc["interactive"] = False  # a notebook's backend would keep each figure until the next cell is run
    before = set(pyplot.get_fignums())
    with rc_context(rc):
        try:
            yield
        finally:
            for number in set(pyplot.get_fignums()) - before:
                pyplot.close(number)


def closed(fig: Any, what: str) -> Figure:
    """Check that it is a figure, and take it from pyplot.

    Raises:
        TypeError: It is not; `what` begins the message.
    """
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


def as_text(fig: Figure, frames: Frames) -> str:
    """One frame of a page: a drawing, or a PNG as base64."""
    return _svg(fig) if frames == "drawing" else base64.b64encode(as_png(fig, PICTURE_DPI)).decode()


def as_png(fig: Figure, dpi: int = STILL_DPI) -> bytes:
    """The figure on white with a palette: a third of a full-colour PNG, without a visible difference."""
    from matplotlib import rc_context
    from PIL import Image

    full, small = io.BytesIO(), io.BytesIO()
    with rc_context({"savefig.bbox": None}):  # a cut to size would move the axes away from the slider
        fig.savefig(full, format="png", dpi=dpi, facecolor="white")
    # Not the default, median cut: it gives small points and thin lines the colours of their neighbours.
    picture, method = Image.open(full).convert("RGB"), Image.Quantize.MAXCOVERAGE
    picture.quantize(256, method, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return small.getvalue()


def as_html(frame: str, alt: str) -> str:
    """A frame with its sentence: an inline drawing, or a PNG given as base64."""
    label = html.escape(alt)
    if frame.startswith("<svg"):
        return frame.replace('role="img"', f'role="img" aria-label="{label}"', 1)
    return f'<img class="dark-light" alt="{label}" src="data:image/png;base64,{frame}">'


def own_ids(frame: str, seed: str) -> str:
    """Give a drawing ids of its own: two on a page may not share the name of a clip path or a glyph.

    All frames of a figure take the same `seed`, and no other figure of the page does.
    """
    if not frame.startswith("<svg"):
        return frame
    prefix = f"g{hashlib.sha256(seed.encode()).hexdigest()[:8]}-"
    return re.sub(r' id="|href="#|url\(#', lambda match: match[0] + prefix, frame)


def pack(captions: list[str], frames: list[str]) -> str:
    """Captions and frames for the page's script, deflated, as base64.

    Frames share most of their elements, so each element is kept once and a frame is a list of their numbers
    (77 frames of a card: 0.05 MB; deflated frame by frame 0.98 MB).
    """
    number: dict[str, int] = {}
    rows = [
        [number.setdefault(part, len(number)) for part in re.split(r"(?=<)", frame) if part]
        for frame in frames
    ]
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = {"captions": captions, "parts": list(number), "frames": rows}
    raw = deflate.compress(json.dumps(packed, separators=(",", ":")).encode()) + deflate.flush()
    return base64.b64encode(raw).decode()


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
    svg = raw.getvalue().decode()
    # matplotlib's style sheet would hold for every element of the page; its two properties move to the root.
    svg = re.sub(r"(?s)^.*?(?=<svg)|<!--.*?-->|<defs>\s*<style.*?</style>\s*</defs>", "", svg)
    root = r'<svg \1 fill="currentColor" stroke-linejoin="round" stroke-linecap="butt" role="img">'
    svg = re.sub(r'<svg[^>]*(viewBox="[^"]*")[^>]*>', root, svg, count=1)
    pieces = re.split(r"(<image[^>]*>)", svg)  # pictures inside a drawing stay as they are
    pieces[::2] = [_rounded(piece) for piece in pieces[::2]]
    svg = re.sub(f"{INK}|#000000", "currentColor", "".join(pieces).replace("xlink:href", "href"))
    svg = re.sub(r'<path d="[^"]*" style="fill: none"/>', "", svg)  # the figure's and the axes' own patch
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    return re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", svg).strip()


def _rounded(svg: str) -> str:
    """Positions to 0.1 pt, shapes in `<defs>` to 0.01 (they may be scaled up); scales and opacities stay."""

    def to(digits: int) -> Callable[[re.Match[str]], str]:
        number = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
        return lambda match: number.sub(lambda found: f"{round(float(found[0]), digits) + 0:g}", match[0])

    svg = re.sub(r"\s*\n\s*", " ", svg).replace("> <", "><").replace(' z "', ' z"')
    svg = re.sub(r'(?<=<path )d="[^"]*"|translate\([^)]*\)', to(1), svg)
    svg = re.sub(r"<use [^>]*>", lambda use: re.sub(r' [xy]="[^"]*"', to(1), use[0]), svg)
    return re.sub(r'(?<=" )d="[^"]*"', to(2), svg)

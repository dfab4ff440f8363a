"""What a page weighs: its HTML and its own pictures, beside the files that all pages share.

A page's weight is known only when it is written, so pages carry a place for it, filled at the very end.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["page_weight", "place_for_weight", "setup", "words_for"]

PICTURE = re.compile(r'<img[^>]*?\bsrc="(?!data:|https?:)([^"]*_images/[^"]+)"')
PLACE = re.compile(r'(<span class="geo-weight" data-page="([^"]*)">)[^<]*(</span>)')


def place_for_weight(docname: str) -> str:
    """A piece of HTML that will show the weight of a page."""
    return f'<span class="geo-weight" data-page="{docname}">…</span>'


def page_weight(page: Path, html: str | None = None) -> int:
    """Bytes of a written page and of its own pictures.

    Args:
        page: The HTML file.
        html: Its content, if read already.

    Returns:
        The number of bytes.
    """
    html = page.read_text(encoding="utf8") if html is None else html
    pictures = {(page.parent / source).resolve() for source in PICTURE.findall(html)}
    return len(html.encode()) + sum(picture.stat().st_size for picture in pictures if picture.is_file())


def words_for(weight: int | None) -> str:
    """A weight in megabytes."""
    return "–" if weight is None else f"{max(weight / 1e6, 0.01):.2f} MB"


def fill_weights(app: Sphinx, exception: Exception | None) -> None:
    """Write the weights into the pages."""
    if exception is not None or app.builder is None or app.builder.name != "html":
        return
    written = {name: Path(app.builder.get_outfilename(name)) for name in app.env.found_docs}
    texts = {name: path.read_text(encoding="utf8") for name, path in written.items() if path.exists()}
    weights = {name: page_weight(written[name], text) for name, text in texts.items()}
    for name, text in texts.items():
        filled = PLACE.sub(lambda place: place[1] + words_for(weights.get(place[2])) + place[3], text)
        if filled != text:
            written[name].write_text(filled, encoding="utf8")
    # Tests compare its time with those of the sources: pages that have not changed are not written anew.
    Path(app.outdir, ".built").touch()


def setup(app: Sphinx) -> None:
    """Connect to Sphinx."""
    app.connect("build-finished", fill_weights)

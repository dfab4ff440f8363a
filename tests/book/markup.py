"""What the HTML of a page says, without a browser."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}
LOADING_RELATIONS = {
    "stylesheet",
    "icon",
    "preload",
    "prefetch",
    "modulepreload",
    "preconnect",
    "dns-prefetch",
}


@dataclass
class Markup(HTMLParser):
    """The anchors, links, loaded files and pictures of one page."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    images: list[tuple[str, str]] = field(default_factory=list)
    drawings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.ids |= {attributes[name] for name in ("id", "name") if name in attributes}
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        if LOADED.get(tag) in attributes:
            self.loads.append(attributes[LOADED[tag]])
        if tag == "link" and LOADING_RELATIONS & set(attributes.get("rel", "").split()):
            self.loads.append(attributes.get("href", ""))
        if tag == "img":
            self.images.append((attributes.get("src", "")[:60], attributes.get("alt", "")))
        if tag == "svg" and attributes.get("role") == "img":
            self.drawings.append(attributes.get("aria-label", ""))


def read(path: Path) -> Markup:
    """Read one page."""
    markup = Markup()
    markup.feed(path.read_text(encoding="utf8"))
    markup.close()
    return markup


def is_host(address: str) -> bool:
    """Whether an address names another machine."""
    return re.match(r"(?:[a-z][a-z0-9+.-]*:)?//", address, re.IGNORECASE) is not None


def says_nothing(alt: str) -> bool:
    """Whether an alternative text is missing, or is only the name of a file."""
    return not alt.strip() or re.search(r"\.(png|svg|jpe?g|gif)$|^[\w.-]*/[\w./-]+$", alt.strip()) is not None

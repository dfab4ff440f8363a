"""The ledger of claims, as the tests have written it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.errors import ExtensionError

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["LEDGER", "SIGNS", "Claim", "load"]

LEDGER = "results/claims.json"  # relative to the book's sources
#: The verdicts, in the order in which they are listed, each with its sign and its words.
SIGNS = {
    "holds": ("●", "holds"),
    "within limits": ("◐", "holds within limits"),
    "not shown here": ("○", "not shown here"),
    "does not hold here": ("✕", "does not hold here"),
    "not testable here": ("–", "not testable here"),
}


@dataclass(frozen=True)
class Claim:
    """One line of the ledger; the attributes are the keys of the file."""

    id: str
    claim: str
    source: str
    paper: str
    measured: str
    verdict: str
    test: str
    expected: str = ""
    limits: str = ""
    page: str = ""

    @property
    def box_id(self) -> str:
        """The anchor of the claim's box."""
        return f"claim-{nodes.make_id(self.id)}"

    @property
    def row_id(self) -> str:
        """The anchor of the claim's line in the table."""
        return f"ledger-{nodes.make_id(self.id)}"

    def verdict_nodes(self) -> list[nodes.Node]:
        """Sign and words, always together, and the limits if there are any."""
        sign, words = SIGNS[self.verdict]
        shown: list[nodes.Node] = [nodes.inline("", f"{sign} {words}", classes=["geo-verdict"])]
        if self.limits:
            shown.append(nodes.inline("", f": {self.limits}", classes=["geo-limits"]))
        return shown


def natural(identifier: str) -> list[tuple[int, str]]:
    """A key that sorts G4 before G10."""
    return [
        (int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", identifier) if part
    ]


@lru_cache(maxsize=4)
def read(path: Path, changed: int) -> dict[str, Claim]:
    """Read and check one state of the file.

    Args:
        path: The file.
        changed: When it was changed, in nanoseconds; a new state is a new entry of the cache.

    Returns:
        The claims by identifier, in natural order.

    Raises:
        ExtensionError: A line lacks something, or its verdict is none of the five.
    """
    known = Claim.__dataclass_fields__
    claims = {}
    for line in json.loads(path.read_text(encoding="utf8"))["claims"]:
        try:
            claim = Claim(**{key: value or "" for key, value in line.items() if key in known})
        except TypeError as error:
            raise ExtensionError(f"{path.name}: claim {line.get('id', '?')}: {error}") from error
        if claim.verdict not in SIGNS:
            raise ExtensionError(
                f"{path.name}: claim {claim.id}: verdict {claim.verdict!r} is none of {list(SIGNS)}"
            )
        claims[claim.id] = claim
    return {key: claims[key] for key in sorted(claims, key=natural)}


def load(app: Sphinx) -> dict[str, Claim]:
    """The claims by identifier; none where no ledger has been written yet."""
    path = Path(app.srcdir) / LEDGER
    return read(path, path.stat().st_mtime_ns) if path.exists() else {}

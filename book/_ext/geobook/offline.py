"""Every file that a page loads is on this site: MathJax is brought in, thebe is left out."""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sphinx.errors import ExtensionError

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx
    from sphinx.config import Config

__all__ = ["setup"]

MATHJAX = "tex-svg.js"  # one file: it draws glyphs itself and loads no fonts


def find_mathjax() -> Path:
    """Where pip has put MathJax.

    Returns:
        The path of `tex-svg.js`.

    Raises:
        ExtensionError: The distribution is missing or holds no such file.
    """
    try:
        files = importlib.metadata.files("sphinx-mathjax-offline") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise ExtensionError("the book needs MathJax: pip install sphinx-mathjax-offline") from error
    for file in files:
        if file.name == MATHJAX:
            return Path(str(file.locate()))
    raise ExtensionError(f"sphinx-mathjax-offline is installed but holds no {MATHJAX}")


def bring_mathjax(app: Sphinx, config: Config) -> None:
    """Copy MathJax beside the pages.

    Not into `_static`, where Jupyter Book adds every script to every page, and not by loading the package as
    an extension, which copies 24 MB.
    """
    extra = Path(app.outdir).parent / ".extra"
    target = extra / "mathjax" / MATHJAX
    source = find_mathjax()
    if not target.exists() or target.stat().st_size != source.stat().st_size:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    config.html_extra_path = [*config.html_extra_path, str(extra)]
    config.mathjax_path = f"../mathjax/{MATHJAX}"  # Sphinx resolves it against _static, on nested pages too


def drop_thebe(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document
) -> None:
    """Take thebe's files out of the page: they declare a constant twice and ask another host for a script."""
    for kind in ("script_files", "css_files"):
        context[kind] = [file for file in context.get(kind, []) if "thebe" not in address(file)]


def address(file: Any) -> str:
    """The address, and the inline text, of a script or style sheet."""
    body = getattr(file, "attributes", {}).get("body") or ""
    return f"{getattr(file, 'filename', None) or file} {body}".lower()


def setup(app: Sphinx) -> None:
    """Connect to Sphinx."""
    app.connect("config-inited", bring_mathjax)
    app.connect("html-page-context", drop_thebe, priority=900)  # after thebe has added its files

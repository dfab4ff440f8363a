"""When a page runs again, and what its kernel sees.

jupyter-cache looks at the notebook alone, so an edit of the library would leave old output in the book. Here
the cache lives in a folder named after everything else that a page's output depends on: edit one of those
files and the folder is a new, empty one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx.util import logging

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config

__all__ = ["PATTERNS", "digest", "prune", "setup"]

logger = logging.getLogger(__name__)

#: Files, beside the notebooks, on which the output of a page depends; relative to the project's root.
PATTERNS = (
    "geolessons/**/*.py",
    "geolessons/**/*.css",  # the sweep writes its style and its script into the page
    "geolessons/**/*.js",
    "book/cards/**/*.py",
    "book/results/**/*.json",
    "book/results/**/*.npz",
    "constraints.txt",
)
KEPT = 2  # caches: this state and the one before, so that going back and forth between two edits stays quick


def digest(root: Path, patterns: tuple[str, ...] = PATTERNS) -> str:
    """SHA-256 over the names and the bytes of all files under `root` that match.

    Args:
        root: The project's root.
        patterns: Globs relative to `root`.

    Returns:
        64 hexadecimal digits.
    """
    total = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in root.glob(pattern) if path.is_file()}):
        content = path.read_bytes()
        # The length keeps a byte from moving unseen between a name and its content.
        total.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()


def prune(caches: Path, current: str, kept: int = KEPT) -> None:
    """Mark `current` as used now, and delete all but the last `kept` caches.

    Args:
        caches: The folder that holds one folder for each digest.
        current: The digest in use.
        kept: How many to keep, `current` among them.
    """
    (caches / current).mkdir(parents=True, exist_ok=True)
    os.utime(caches / current)
    others = [
        path for path in caches.iterdir() if path.is_dir() and len(path.name) == 64 and path.name != current
    ]
    for path in sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)[kept - 1 :]:
        shutil.rmtree(path, ignore_errors=True)


def place_cache(app: Sphinx, config: Config) -> None:
    """Point myst-nb to the cache of the present state of the files."""
    caches = Path(app.outdir).parent / ".jupyter_cache"
    current = digest(Path(app.srcdir).parent)
    prune(caches, current)
    config.nb_execution_cache_path = str(caches / current)
    logger.info("[geobook] execution cache %s", current[:12])


def prepare_kernels(app: Sphinx, config: Config) -> None:
    """Set the environment that the kernels inherit."""
    source = Path(app.srcdir)
    # book/ for `from cards import ...`; the root so that the pages run the library whose files were hashed.
    paths = [str(source), str(source.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path for path in paths if path))
    if str(source.parent) not in sys.path:
        sys.path.insert(0, str(source.parent))  # the API pages describe that library, too
    os.environ["GEOLESSONS_PUBLISH"] = "1"  # sweeps become plain figures that need no kernel
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads cost 10x on busy cores
    os.environ.setdefault("TQDM_DISABLE", "1")  # a progress bar is no part of a page


def setup(app: Sphinx) -> None:
    """Connect to Sphinx, before myst-nb reads its configuration."""
    app.connect("config-inited", place_cache, priority=100)
    app.connect("config-inited", prepare_kernels, priority=100)

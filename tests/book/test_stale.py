"""An edit of the library shows in the book; an error in a page stops the build."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = "from jupyter_book.cli.main import main; main()"
PAGE = """\
---
file_format: mystnb
kernelspec:
  name: python3
  display_name: Python 3
---

# A page

```{{code-cell}}
{code}
```
"""


def make_book(
    root: Path, code: str = "import geolessons\n\nprint('the answer is', geolessons.ANSWER)"
) -> None:
    """A book of one page, with the real settings and the real extension."""
    for name in ("_config.yml", "constraints.txt"):
        shutil.copy(ROOT / name, root)
    for name in ("_ext", "_static", "_templates"):
        shutil.copytree(
            ROOT / "book" / name, root / "book" / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    (root / "book" / "_toc.yml").write_text("format: jb-book\nroot: index\n")
    (root / "book" / "references.bib").write_text("")
    (root / "book" / "index.md").write_text(PAGE.format(code=code))
    (root / "geolessons").mkdir()
    (root / "geolessons" / "__init__.py").write_text("ANSWER = 41\n")


def build(root: Path) -> subprocess.CompletedProcess[str]:
    """Build it the way `make book` does."""
    arguments = ["build", "book", "--config", "_config.yml", "--path-output", ".", "-W", "--keep-going"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", BUILD, *arguments]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(autouse=True)
def _needs_jupyter_book() -> None:
    pytest.importorskip("jupyter_book")


def test_an_edit_of_the_library_runs_the_page_again(tmp_path: Path) -> None:
    make_book(tmp_path)
    page = tmp_path / "_build" / "html" / "index.html"

    first = build(tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "the answer is 41" in page.read_text()

    (tmp_path / "geolessons" / "__init__.py").write_text("ANSWER = 42\n")
    second = build(tmp_path)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "the answer is 42" in page.read_text()

    (tmp_path / "geolessons" / "__init__.py").write_text("ANSWER = 41\n")
    third = build(tmp_path)
    assert "the answer is 41" in page.read_text()
    assert "Executed notebook" not in third.stdout, "the state before is still in the cache"


def test_an_error_in_a_page_stops_the_build(tmp_path: Path) -> None:
    make_book(tmp_path, code=json.dumps(1) + " / 0")
    failed = build(tmp_path)
    assert failed.returncode != 0
    assert "ZeroDivisionError" in failed.stdout + failed.stderr

"""Notebook files: read whatever version they are, written whole."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.reader import NotJSONError

from geolessons.files import replacing

__all__ = ["new_notebook", "node", "read_notebook", "write_notebook"]

# nbformat's functions have no types of their own
_reads: Callable[..., NotebookNode] = nbformat.reads
_writes: Callable[..., str] = nbformat.writes
_new: Callable[..., NotebookNode] = nbformat.v4.new_notebook
node: Callable[..., NotebookNode] = nbformat.from_dict


def new_notebook(**metadata: Any) -> NotebookNode:
    """An empty notebook for Python 3, with further metadata."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return _new(metadata=node({**metadata, "kernelspec": kernel, "language_info": {"name": "python"}}))


def read_notebook(path: str | Path) -> NotebookNode:
    """A notebook of any version that can be brought to nbformat 4.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no notebook, or a broken one.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        text = path.read_bytes().decode("utf8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # cells without an id get one
            notebook = _reads(text, as_version=4)
            nbformat.validate(notebook)
    except NotJSONError:
        raise ValueError(f"{path}: not a notebook: broken JSON. Save or download it again.") from None
    except Exception as error:  # nbformat raises many kinds over a file from anywhere
        detail = " ".join(str(error).split())[:120]
        raise ValueError(
            f"{path}: not a notebook that can be read ({type(error).__name__}: {detail})"
        ) from None
    return notebook


def write_notebook(notebook: NotebookNode, path: str | Path) -> None:
    """Write a notebook whole or not at all; its folder is made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as aside:
        aside.write_text(_writes(notebook) + "\n", encoding="utf8")

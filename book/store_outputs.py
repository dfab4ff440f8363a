"""Run every notebook of the book and store what it printed: text only, no pictures, no widgets.

    python book/store_outputs.py            # run all and store
    python book/store_outputs.py 01a*.ipynb # run some
    python book/store_outputs.py --check    # run nothing; refuse pictures, errors and cells never run

What is stored is what nbval compares, so a stored output is a promise that the cell keeps printing it.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from tqdm import tqdm

BOOK = Path(__file__).parent
STORED = {"text/plain"}


def run(path: Path) -> None:
    """Execute one notebook in the book's folder and store its text outputs, under a temporary name first."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(BOOK)}},
    ).execute()
    for cell in notebook.cells:
        if cell.cell_type != "code":
            cell.pop("outputs", None)
            continue
        cell.outputs = [output for output in cell.outputs if _text_only(output)]
    notebook.metadata = nbformat.from_dict(
        {
            **{key: value for key, value in notebook.metadata.items() if key == "coursework"},
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    aside = path.with_suffix(".tmp")
    nbformat.write(notebook, aside)
    os.replace(aside, path)


def _text_only(output: NotebookNode) -> bool:
    """Drop all but text from an output; false if nothing is left of it."""
    if output.output_type == "stream":
        return True
    if output.output_type == "error":
        return True
    for kind in set(output.data) - STORED:
        del output.data[kind]
    output.metadata = nbformat.from_dict({})
    return bool(output.data)


def problems(path: Path) -> list[str]:
    """What keeps a notebook from being compared: cells never run, stored errors, stored pictures."""
    found = []
    for i, cell in enumerate(nbformat.read(path, as_version=4).cells):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        where = f"{path.name}, cell {i}"
        if cell.execution_count is None:
            found.append(f"{where} was never run: nothing of it would be compared (make notebooks)")
        raises = "raises-exception" in cell.metadata.get("tags", [])
        if any(o.output_type == "error" for o in cell.outputs) and not raises:
            found.append(f"{where} holds an error")
        kinds = {kind for o in cell.outputs if "data" in o for kind in o.data} - STORED
        if kinds:
            found.append(f"{where} stores {', '.join(sorted(kinds))}; only text belongs into git")
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "notebooks", nargs="*", type=Path, help="which ones (all of the book if none is named)"
    )
    parser.add_argument("--check", action="store_true", help="run nothing, only look at what is stored")
    options = parser.parse_args()
    paths = options.notebooks or [*sorted(BOOK.glob("*.ipynb")), *sorted(BOOK.glob("coursework/*/*.ipynb"))]
    if options.check:
        found = [line for path in paths for line in problems(path)]
        sys.exit("\n".join(found) or 0)
    os.environ.pop("GEOLESSONS_PUBLISH", None)
    for path in tqdm(paths, "notebooks", disable=None):
        run(path)


if __name__ == "__main__":
    main()

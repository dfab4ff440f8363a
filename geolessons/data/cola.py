"""CoLA, sentences that are acceptable English or not, from files that you have.

The Corpus of Linguistic Acceptability (Warstadt, Singh and Bowman 2019, arXiv 1805.12471): sentences from
publications in linguistics, with their authors' judgements.  The sentences belong to those authors and are
not part of this project.  The public files hold a training set and a development set from the same sources.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["FILES", "Sentences", "cola"]

FILES = ("in_domain_train.tsv", "in_domain_dev.tsv")


class Sentences(NamedTuple):
    """Sentences and labels (n,), 1 for acceptable, to train on and to test on."""

    train: list[str]
    y_train: Tensor
    dev: list[str]
    y_dev: Tensor


def cola(root: str | Path | None = None) -> Sentences:
    """The 8,551 + 527 sentences of the public files, and their labels.

    Args:
        root: Folder with `text/cola/in_domain_train.tsv` and `text/cola/in_domain_dev.tsv`; the environment
            variable GEOLESSONS_DATA if not given.

    Raises:
        ValueError: If there is no root, or a damaged file; the message names its line.
        FileNotFoundError: If files are missing; the message names them.
    """
    root = root or os.environ.get("GEOLESSONS_DATA")
    if not root:
        raise ValueError(
            "root is not given and GEOLESSONS_DATA is not set: name the folder that holds text/cola"
        )
    paths = [Path(root) / "text" / "cola" / file for file in FILES]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"missing: {', '.join(missing)}; root, or GEOLESSONS_DATA, must name the folder that holds "
            "text/cola with CoLA's public raw files"
        )
    (train, y_train), (dev, y_dev) = map(_read, paths)
    return Sentences(train, y_train, dev, y_dev)


def _read(path: Path) -> tuple[list[str], Tensor]:
    """Lines of four columns with tabs between: publication, label, the author's mark, sentence."""
    try:
        lines = path.read_bytes().decode("utf8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged: it is not UTF-8 text ({error.reason})") from error
    rows = [line.split("\t") for line in lines]
    for number, row in enumerate(rows, start=1):
        if len(row) != 4 or row[1] not in ("0", "1") or not row[3].strip():
            raise ValueError(
                f"{path} is damaged at line {number}: it needs four columns with tabs between, publication, "
                "label 0 or 1, mark, and a sentence"
            )
    labels = torch.tensor([int(row[1]) for row in rows], dtype=torch.int64)
    if not 0 < int(labels.sum()) < len(labels):
        raise ValueError(
            f"{path} is damaged: among its {len(rows)} lines one of the labels 0 and 1 is missing"
        )
    return [row[3] for row in rows], labels

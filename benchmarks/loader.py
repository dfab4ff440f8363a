"""Pictures with four dense answers a second: read, turned and resized, beside reading alone.

    python benchmarks/loader.py [--quick] [--repeat 3] [--workers 2] [--out FILE.json]

The files are made here, in the layout of the PASCAL-Context multi-task benchmark and at its photographs' size
(375 × 500), with squares of one colour for objects; where GEOLESSONS_DATA names a folder with `ccp`, as many
of its street photographs are read too.  Wall time counts: with workers, the work is done in other processes.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from timing import Row, arguments, circumstances, report, rounds
from torch.utils.data import DataLoader, Subset

from geolessons.data.clothing import ClothingPeople
from geolessons.data.dense import Dense
from geolessons.data.dense_transforms import Augmented, Pictures, Resized, Shuffled, augment, normalise
from geolessons.data.pascal import PascalContext

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import pascal_files

PHOTO = (375, 500)


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Measure, print, write."""
    parser = arguments(__doc__)
    parser.add_argument("--workers", type=int, default=2, help="processes that load")
    options = parser.parse_args(argv)
    options.clock, options.device = "wall", "cpu"
    side, count, batch = (64, 8, 4) if options.quick else (448, 48, 8)
    with tempfile.TemporaryDirectory() as folder:
        root, size = Path(folder), (48, 64) if options.quick else PHOTO
        pascal_files.write(root, [f"2008_{i:06}" for i in range(count)], size=size, grain=25)
        data = PascalContext(root)
        rows = speed("PASCAL-Context's layout", data, side, batch, options)
        rows += stages(data, side, options)
    shared = os.environ.get("GEOLESSONS_DATA")
    if shared and (Path(shared) / "ccp").is_dir() and not options.quick:
        rows += speed("clothed people", Subset(ClothingPeople(shared), range(count)), side, batch, options)
    report(f"Loading at {side} × {side}", rows, circumstances(options, ["torch", "pillow"]), options.out)
    return rows


def speed(what: str, data: Pictures, side: int, batch: int, options: Any) -> list[Row]:
    """Pictures a second through a loader, with workers and without."""

    def through(pictures: Any, workers: int, seeded: bool) -> Callable[[], None]:
        def run() -> None:
            g = torch.Generator().manual_seed(0)
            order = Shuffled(len(data), g) if seeded else None
            for found in DataLoader(pictures, batch, sampler=order, generator=g, num_workers=workers):
                normalise(found.image)

        return run

    names = {
        "training, workers": through(Augmented(data, side), options.workers, True),
        "training, none": through(Augmented(data, side), 0, True),
        "evaluation, workers": through(Resized(data, side), options.workers, False),
    }
    times = rounds(names, options.repeat or (1 if options.quick else 3), "cpu")
    rows = []
    for name in names:
        rate, other = (len(data) / times.median(x, "wall") for x in (name, "training, none"))
        row = f"{what}: {name}".replace("workers", f"{options.workers} workers")
        rows.append(Row(row, rate, "/s", "no workers, training", other, rate / other, None))
    return rows


def stages(data: PascalContext, side: int, options: Any) -> list[Row]:
    """Milliseconds a picture, in one process: its files, what is done to them, the check before training."""
    few = [data[i] for i in range(4)]

    def change(sample: Dense) -> Dense:
        return augment(sample, torch.Generator().manual_seed(0), size=side)

    jobs: dict[str, Callable[[], Any]] = {
        "read": lambda: [data[i] for i in range(4)],
        "augment": lambda: [change(sample) for sample in few],
        "check": data.check,
    }
    times = rounds(jobs, options.repeat or (1 if options.quick else 5), "cpu")
    counts = {"read": 4, "augment": 4, "check": len(data)}
    ms = {name: 1000 * times.median(name, "wall") / counts[name] for name in jobs}
    return [Row(f"  {k}, a picture", ms[k], "ms", "read", ms["read"], ms[k] / ms["read"], None) for k in jobs]


if __name__ == "__main__":
    main()

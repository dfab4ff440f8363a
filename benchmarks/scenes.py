"""Rendered scenes a second: on one core, at three sizes and difficulties, in one run.

    OMP_NUM_THREADS=1 python benchmarks/scenes.py [--quick] [--repeat 5] [--out FILE.json]

A row is one call of `scenes` that makes a batch; the bound is 200 scenes of 64 pixels a second on one core.
It renders on the CPU, whatever `--device` says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from timing import Row, arguments, circumstances, clock_of, report, rounds

from geolessons.data.scenes import scenes


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Measure, print, write."""
    options = arguments(__doc__).parse_args(argv)
    options.device = "cpu"
    count = 8 if options.quick else 256
    torch.set_num_threads(1)
    cases = [(64, 0.5), (64, 0.0), (64, 1.0), (32, 0.5), (128, 0.5)]
    jobs: dict[str, Callable[[], Any]] = {}
    for size, difficulty in cases:
        many = max(4, count * 64**2 // max(size, 64) ** 2)

        def job(size: int = size, difficulty: float = difficulty, many: int = many) -> Any:
            return scenes(many, size, seed=0, difficulty=difficulty)

        jobs[f"{many} of {size} px, difficulty {difficulty:g}"] = job
    times = rounds(jobs, options.repeat or (1 if options.quick else 5), options.device)
    clock = clock_of(options)
    rows = []
    for name, (size, _) in zip(jobs, cases, strict=True):
        rate = int(name.split()[0]) / times.median(name, clock)
        bound = 200 if size == 64 and not options.quick else None
        rows.append(Row(name, rate, "/s", "", None, None, bound, at_least=True))
    report("Scenes rendered a second", rows, circumstances(options, ["torch"]), options.out)
    return rows


if __name__ == "__main__":
    main()

"""What every study does around its measurement: seeds, intervals, provenance, and a file written whole."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

__all__ = ["interval", "main", "read", "run", "source_digest", "write"]

Seeded = Callable[[int], dict[str, float]]


def interval(values: list[float]) -> dict[str, Any]:
    """Mean and 95 % interval (Student's t) of independent repetitions.

    Returns:
        `mean`, `low`, `high`, `n` and `each`; with one value the interval is infinite.

    Raises:
        ValueError: If there is no value, or one is NaN.
    """
    if not values or any(math.isnan(v) for v in values):
        raise ValueError(f"values={values} must hold at least one number and no NaN")
    from scipy.stats import t as student

    n = len(values)
    mean = math.fsum(values) / n
    half = math.inf
    if n > 1:
        variance = math.fsum((v - mean) ** 2 for v in values) / (n - 1)
        half = float(student.ppf(0.975, n - 1)) * math.sqrt(variance / n)
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": n, "each": values}


def source_digest() -> str:
    """A digest of the library's own source, so that a result names the code that made it."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def run(name: str, one_seed: Seeded, seeds: int) -> dict[str, Any]:
    """Measure seeds 0, 1, …, and put the results together with where they came from.

    Raises:
        ValueError: If `seeds` is not positive.
    """
    if seeds < 1:
        raise ValueError(f"seeds={seeds} must be at least 1")
    start = time.perf_counter()
    rows = [one_seed(seed) for seed in tqdm(range(seeds), name, unit="seed", disable=None)]
    return {
        "study": name,
        "provenance": {
            "seeds": list(range(seeds)),
            "seconds": round(time.perf_counter() - start, 1),
            "device": "cpu",
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "source": source_digest(),
        },
        "values": {key: interval([row[key] for row in rows]) for key in rows[0]},
    }


def write(result: dict[str, Any], path: str | Path) -> None:
    """Write a result as JSON, under a temporary name first, so that no half-written file is left."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + f".{os.getpid()}.tmp")
    try:
        aside.write_text(
            json.dumps(result, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf8"
        )
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def read(path: str | Path) -> dict[str, dict[str, Any]]:
    """The values of a result file, by name.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is not a result of a study.
    """
    result = json.loads(Path(path).read_text(encoding="utf8"))
    if not isinstance(result, dict) or "values" not in result:
        raise ValueError(f"{path} holds no study's result: it has no 'values'")
    return dict(result["values"])


def main(name: str, doc: str | None, one_seed: Seeded, argv: list[str] | None = None) -> None:
    """The command line of a study: `--seeds N --out FILE`."""
    parser = argparse.ArgumentParser(prog=f"python -m geolessons.studies.{name}", description=doc)
    parser.add_argument("--seeds", type=int, default=5, help="how many repetitions (default 5)")
    parser.add_argument(
        "--out", type=Path, help="JSON file to write; without it the result goes to the screen"
    )
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        result = run(name, one_seed, options.seeds)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"{parser.prog}: {error}")
    if options.out:
        write(result, options.out)
        print(f"{options.out}: {len(result['values'])} values, {result['provenance']['seconds']} s")
    else:
        print(json.dumps(result, indent=1, ensure_ascii=False))

"""What every study does around its measurement: seeds, intervals, provenance, and a file written whole."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import multiprocessing
import os
import platform
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from geolessons.files import replacing

__all__ = ["Found", "curve", "deliver", "interval", "main", "read", "run", "source_digest", "write"]

Found = dict[str, float | list[float]]
Seeded = Callable[..., Mapping[str, float | list[float]]]


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


def curve(curves: list[list[float]]) -> dict[str, Any]:
    """Mean and 95 % interval at each point of curves measured again and again; five digits.

    Returns:
        `mean`, `low`, `high`, each a list, and `n`.
    """
    points = [interval(list(values)) for values in zip(*curves, strict=True)]
    rounded = {key: [float(f"{point[key]:.5g}") for point in points] for key in ("mean", "low", "high")}
    return {**rounded, "n": len(curves)}


def run(
    name: str,
    one_seed: Seeded,
    seeds: int,
    *,
    jobs: int = 1,
    parts: Path | None = None,
    settings: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Measure seeds 0, 1, …, and put the results together with where they came from.

    Args:
        name: Of the study.
        one_seed: All values of a seed by name: numbers, or curves of equal length for all seeds.
        seeds: How many.
        jobs: Processes that measure side by side, one thread each.
        parts: Folder in which each seed's values are kept as soon as they are there; a run that was
            stopped takes from it what the same code measured under the same settings.
        settings: Keywords for `one_seed`.

    Raises:
        ValueError: If `seeds` or `jobs` is not positive.
    """
    if seeds < 1:
        raise ValueError(f"seeds={seeds} must be at least 1")
    if jobs < 1:
        raise ValueError(f"jobs={jobs} must be at least 1")
    settings = settings or {}
    stamp = {"source": source_digest(), "settings": settings}
    rows: dict[int, Any] = {}
    for path in parts.glob("seed-*.json") if parts else ():
        kept = json.loads(path.read_text(encoding="utf8"))
        if kept["stamp"] == stamp and kept["seed"] < seeds:
            rows[kept["seed"]] = kept
    bar = tqdm(total=seeds, initial=len(rows), desc=name, unit="seed", disable=None)
    with bar:
        for seed, seconds, values in _measure(
            one_seed, [s for s in range(seeds) if s not in rows], settings, jobs
        ):
            rows[seed] = {"seed": seed, "stamp": stamp, "seconds": seconds, "values": values}
            if parts:
                write(rows[seed], parts / f"seed-{seed}.json")
            bar.update()
    ordered = [rows[seed]["values"] for seed in range(seeds)]
    return {
        "study": name,
        "settings": settings,
        "provenance": {
            "seeds": list(range(seeds)),
            "seconds": round(sum(row["seconds"] for row in rows.values()), 1),
            "device": "cpu",
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "source": stamp["source"],
        },
        "values": {
            key: (curve if isinstance(value, list) else interval)([row[key] for row in ordered])
            for key, value in ordered[0].items()
        },
    }


def _measure(
    one_seed: Seeded, seeds: list[int], settings: dict[str, str], jobs: int
) -> Iterator[tuple[int, float, Mapping[str, Any]]]:
    """(seed, seconds, values), as they are done."""
    if jobs == 1:
        for seed in seeds:
            yield _timed(one_seed, seed, settings)
        return
    context = multiprocessing.get_context("spawn")  # a forked process would inherit torch's threads
    with ProcessPoolExecutor(jobs, context, _prepare) as pool:
        pending = [pool.submit(_timed, one_seed, seed, settings) for seed in seeds]
        try:
            for done in as_completed(pending):
                yield done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _prepare() -> None:
    """Ready a worker: one thread, and an end when the study ends, however that is killed."""
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _timed(one_seed: Seeded, seed: int, settings: dict[str, str]) -> tuple[int, float, Mapping[str, Any]]:
    start = time.perf_counter()
    values = one_seed(seed, **settings)
    return seed, time.perf_counter() - start, values


def write(result: dict[str, Any], path: str | Path) -> None:
    """Write a result as JSON, under a temporary name first, so that no half-written file is left."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf8")


def deliver(result: dict[str, Any], out: Path | None) -> None:
    """Write what a study found, or show it if it has no file; the parts that were kept for it go."""
    if out is None:
        print(json.dumps(result, indent=1, ensure_ascii=False))
        return
    write(result, out)
    shutil.rmtree(f"{out}.parts", ignore_errors=True)
    print(f"{out}: {len(result['values'])} values, {result['provenance']['seconds']} s")


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


def main(
    name: str,
    doc: str | None,
    one_seed: Seeded,
    argv: list[str] | None = None,
    *,
    choices: dict[str, tuple[str, ...]] | None = None,
    beside: dict[str, Callable[..., Any]] | None = None,
) -> None:
    """The command line of a study: `--seeds N --jobs N --out FILE`.

    Args:
        name: Of the study's module.
        doc: Its description.
        one_seed: Measures a seed.
        argv: What was typed, if not the command line.
        choices: More options, each with its possible values, the default first; keywords for `one_seed`.
        beside: What is measured once, after the seeds, with nothing running beside it; the same keywords.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m geolessons.studies.{name}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=5, help="how many repetitions (default 5)")
    parser.add_argument("--jobs", type=int, default=1, help="how many of them side by side (default 1)")
    parser.add_argument(
        "--out",
        type=Path,
        help="JSON file to write; without it the result goes to the screen.  While the study runs, "
        "OUT.parts keeps each seed that is done, and the same command goes on from there.",
    )
    for option, values in (choices or {}).items():
        parser.add_argument(f"--{option}", choices=values, default=values[0], help=f"default {values[0]}")
    options = parser.parse_args(argv)
    settings = {option: getattr(options, option) for option in choices or {}}
    parts = Path(f"{options.out}.parts") if options.out else None
    torch.set_num_threads(1)
    try:
        result = run(name, one_seed, options.seeds, jobs=options.jobs, parts=parts, settings=settings)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"{parser.prog}: {error}")
    result |= {key: measure(**settings) for key, measure in (beside or {}).items()}
    deliver(result, options.out)

"""What the comparisons share: interleaved rounds, counts, a table, a file.

Jobs run in turn, a round at a time, and start elsewhere in each round, so that what the machine does
meanwhile falls on all of them.  Two clocks are read: wall time, and the processor time of the process, which
other people's work on the machine does not lengthen (but for shared caches and memory).  A ratio is the
median of the ratios in each round.  On a GPU only wall time counts, read when the device is done.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Clock = Literal["cpu", "wall"]


class Rounds(NamedTuple):
    """Seconds of each job in each round, by both clocks."""

    wall: dict[str, list[float]]
    cpu: dict[str, list[float]]

    def of(self, clock: Clock) -> dict[str, list[float]]:
        """One clock's seconds."""
        return self.cpu if clock == "cpu" else self.wall

    def median(self, job: str, clock: Clock) -> float:
        """The median second of a job."""
        return statistics.median(self.of(clock)[job])

    def ratio(self, job: str, beside: str, clock: Clock) -> float:
        """The median over rounds of one job's time divided by another's."""
        pairs = zip(self.of(clock)[job], self.of(clock)[beside], strict=True)
        return statistics.median(a / b for a, b in pairs)


class Row(NamedTuple):
    """A line of the table: a value beside what it is compared with, and the bound it should keep."""

    what: str
    value: float
    unit: str
    beside: str
    other: float | None
    ratio: float | None
    bound: float | None
    at_least: bool = False

    @property
    def kept(self) -> bool | None:
        """Whether the bound is kept; None where there is none."""
        judged = self.value if self.ratio is None else self.ratio
        if self.bound is None:
            return None
        return judged >= self.bound if self.at_least else judged <= self.bound


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """A parser with what all comparisons take."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small and few: to see that it runs (seconds)")
    parser.add_argument("--repeat", type=int, help="timed rounds (default: the script's own number)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--clock", choices=["cpu", "wall"], help="what ratios are of (default: wall on a GPU)"
    )
    parser.add_argument("--out", type=Path, help="write the table and the circumstances to this JSON file")
    return parser


def clock_of(options: argparse.Namespace) -> Clock:
    """The clock asked for, or the one that fits the device."""
    return options.clock or ("cpu" if options.device == "cpu" else "wall")


def rounds(jobs: dict[str, Callable[[], Any]], repeat: int, device: str) -> Rounds:
    """Run each job once to warm up, then all of them `repeat` times in turn."""
    found = Rounds({name: [] for name in jobs}, {name: [] for name in jobs})
    names = list(jobs)
    for i in range(repeat + 1):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            _wait(device)
            wall, cpu = time.perf_counter(), time.process_time()
            result = jobs[name]()
            _wait(device)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            del result  # freeing is not timed
            if i:
                found.wall[name].append(wall)
                found.cpu[name].append(cpu)
    return found


def _wait(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def row_of_times(
    what: str, times: Rounds, job: str, beside: str, clock: Clock, bound: float | None = None
) -> Row:
    """The time of a job beside another's, in milliseconds."""
    ms, other = (1000 * times.median(x, clock) for x in (job, beside))
    return Row(what, ms, "ms", beside, other, times.ratio(job, beside, clock), bound)


class Calls(TorchDispatchMode):
    """Counts the operations that reach the dispatcher, those apart that only look at memory another way."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view and func.namespace == "aten" and "promote_types" not in str(func):
            self.kernels[str(func)] += 1
        return func(*args, **(kwargs or {}))

    @property
    def total(self) -> int:
        """All that are not views."""
        return sum(self.kernels.values())


class Touched(TorchDispatchMode):
    """Counts the bytes that operations read and write, of tensors of at least `least` bytes."""

    def __init__(self, least: int) -> None:
        super().__init__()
        self.least, self.total = least, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if not func.is_view and not str(func).startswith(("aten.empty", "aten.detach")):
            tensors = [x for x in (*args, found) if isinstance(x, Tensor)]
            if str(func).endswith("normal_.default"):
                tensors = tensors[:1]  # it writes only, where other operations in place read as well
            self.total += sum(x.nbytes for x in tensors if x.nbytes >= self.least)
        return found


def circumstances(options: argparse.Namespace, packages: Iterable[str]) -> dict[str, Any]:
    """Versions, threads, device: what a number cannot be read without."""
    found: dict[str, Any] = {name: importlib.metadata.version(name) for name in packages}
    found |= {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": _device(options.device),
    }
    found |= {"threads": torch.get_num_threads(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    found |= {
        "device_type": torch.device(options.device).type,
        "quick": options.quick,
        "clock": clock_of(options),
    }
    return found


def _device(device: str) -> str:
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "cpu"
    return next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), "cpu")


def report(title: str, rows: list[Row], about: dict[str, Any], out: Path | None) -> None:
    """Print the table, and write it to a file if one is named."""
    threads = f"{about['threads']} thread" + ("s" if about["threads"] != 1 else "")
    print(f"{title}\n{about['device']}, {threads}, torch {about['torch']}; ratios of {about['clock']} time")
    if about["device_type"] != "cuda":
        print("(no GPU in this run: give --device cuda where there is one)")
    width = max(len(r.what) for r in rows)
    beside = max(len(r.beside) for r in rows)
    print(f"{'':{width}} {'value':>16} {'beside':>{beside}} {'':>10} {'ratio':>7} {'asked':>8} kept")
    for r in rows:
        value = f"{_short(r.value)} {r.unit}".strip()
        other = "" if r.other is None else _short(r.other)
        ratio = "" if r.ratio is None else f"{r.ratio:.3f}"
        bound = "" if r.bound is None else f"{'≥' if r.at_least else '≤'} {_short(r.bound)}"
        kept = {None: "", True: "yes", False: "no"}[r.kept]
        print(f"{r.what:{width}} {value:>16} {r.beside:>{beside}} {other:>10} {ratio:>7} {bound:>8} {kept}")
    if out is not None:
        found = {"title": title, "about": about, "rows": [r._asdict() | {"kept": r.kept} for r in rows]}
        out.parent.mkdir(parents=True, exist_ok=True)
        aside = out.with_name(out.name + ".part")
        aside.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        aside.replace(out)


def _short(x: float) -> str:
    if x == int(x) and abs(x) < 1e15:
        return f"{int(x):,}"
    return f"{x:.2f}" if 0.01 <= abs(x) < 1e5 else f"{x:.1e}"

"""Angles and SLERP beside what one would otherwise pick: accuracy and time in one run.

    python benchmarks/angles.py [--shape 4096 4096] [--repeat 7]

The peers run in turn with the library, on the same tensors; times are medians.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from geolessons import angle, slerp


def arccos(u: Tensor, v: Tensor) -> Tensor:
    """What most code does."""
    return torch.arccos(cosine_similarity(u.flatten(), v.flatten(), dim=0).clamp(-1, 1))


def textbook(u: Tensor, v: Tensor, t: float) -> Tensor:
    """SLERP by arccos and a ratio of sines, as merging tools have it."""
    omega = arccos(u, v)
    return torch.sin((1 - t) * omega) / torch.sin(omega) * u + torch.sin(t * omega) / torch.sin(omega) * v


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--shape", type=int, nargs="+", default=[4096, 4096], help="of the weights (default 4096 4096)"
    )
    parser.add_argument("--repeat", type=int, default=7, help="timed rounds (default 7)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()

    g = torch.Generator().manual_seed(0)
    u = torch.randn(options.shape, generator=g, dtype=torch.float64)
    r = torch.randn(options.shape, generator=g, dtype=torch.float64)
    r = r - (r * u).sum() / (u * u).sum() * u
    print(
        f"{'x'.join(map(str, options.shape))} float32 on {options.device}, {torch.get_num_threads()} threads"
    )
    print(f"{'ω':>8} {'error, arccos':>16} {'error, geolessons':>18}")
    for omega in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5):
        v = (math.cos(omega) * u + math.sin(omega) * u.norm() / r.norm() * r).float()
        true = float(angle(u.float().double(), v.double()))
        errors = (
            abs(float(f(u.float().to(options.device), v.to(options.device))) / true - 1)
            for f in (arccos, angle)
        )
        print("{:8.0e} {:16.1e} {:18.1e}".format(omega, *errors))

    a, b = u.float().to(options.device), v.to(options.device)
    jobs: dict[str, Callable[[], Tensor]] = {
        "angle, arccos": lambda: arccos(a, b),
        "angle, geolessons": lambda: angle(a, b),
        "slerp, textbook": lambda: textbook(a, b, 0.3),
        "slerp, geolessons": lambda: slerp(a, b, 0.3),
    }
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(options.repeat + 1):
        for name, job in jobs.items():
            start = time.perf_counter()
            float(job().flatten()[0])  # waits for the device
            times[name].append(time.perf_counter() - start)
    print(f"\n{'':>18} {'median ms':>10} {'ms each round'}")
    for name, taken in times.items():
        rounds = [1000 * t for t in taken[1:]]
        print(f"{name:>18} {statistics.median(rounds):10.1f}  " + " ".join(f"{t:.0f}" for t in rounds))


if __name__ == "__main__":
    main()

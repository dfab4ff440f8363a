"""SLERP of two models beside what merging tools and textbooks do: time, kernel calls, error, in one run.

    python benchmarks/merging.py [--quick] [--repeat 9] [--device cpu] [--out FILE.json]

The peers are written anew from their descriptions.  Both models, and the two vectors, are 0.29 rad apart,
where none of the peers takes its straight-line short cut.  "Five passes" is the least that SLERP can do to
memory, done by plain sums and one addition: read both ends for the angle, read both again, write the result.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import numpy as np
import torch
from timing import Calls, Rounds, Row, arguments, circumstances, clock_of, report, rounds, row_of_times
from torch import Tensor
from torchvision.models import swin_t

from geolessons import Params, Slerp, params_of, slerp, trees

T = 0.3
APART = 0.3  # the size of the step from W0 to W1, beside W0


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Measure, print, write."""
    options = arguments(__doc__).parse_args(argv)
    rows = one_large_tensor(options) + many_tensors(options)
    about = circumstances(options, ["torch", "torchvision", "numpy"])
    report("SLERP of two tensors, and of two models", rows, about, options.out)
    return rows


def one_large_tensor(options: argparse.Namespace) -> list[Row]:
    """A single float32 tensor of 32 million entries."""
    n = 1 << (16 if options.quick else 25)
    g = torch.Generator().manual_seed(0)
    u = torch.randn(n, generator=g)
    v = u + APART * torch.randn(n, generator=g)
    u, v = u.to(options.device), v.to(options.device)
    jobs: dict[str, Callable[[], object]] = {
        "geolessons": lambda: slerp(u, v, T),
        "mergekit": lambda: mergekit_slerp(T, u, v),
        "nuslerp": lambda: nuslerp(T, u, v),
        "textbook": lambda: textbook(T, u, v),
        "five passes": lambda: (u.sum(), v.sum(), u + v),
    }
    times = rounds(jobs, options.repeat or (2 if options.quick else 9), options.device)
    exact = exact_slerp(T, u, v)
    errors = {name: error(jobs[name](), exact) for name in list(jobs)[:4]}
    return table(f"{n / 2**20:g} Mi entries", times, errors, options, {"mergekit": 2, "nuslerp": 4})


def many_tensors(options: argparse.Namespace) -> list[Row]:
    """The 173 parameters of Swin-T, each of them a vector of its own."""
    W0, W1 = two_models(quick=options.quick, device=options.device)

    def each(one: Callable[[float, Tensor, Tensor], Tensor]) -> Params:
        return {name: one(T, W, W1[name]) for name, W in W0.items()}

    jobs: dict[str, Callable[[], object]] = {
        "geolessons": lambda: Slerp(W0, W1).at(T),
        "mergekit": lambda: each(mergekit_slerp),
        "nuslerp": lambda: each(nuslerp),
        "textbook": lambda: each(textbook),
        "five passes": lambda: each(lambda t, u, v: (u.sum(), v.sum(), u + v)[2]),
    }
    times = rounds(jobs, options.repeat or (2 if options.quick else 9), options.device)
    exact = each(exact_slerp)
    errors = {}
    for name in list(jobs)[:4]:
        found = jobs[name]()
        errors[name] = max(error(found[k], exact[k]) for k in exact)
    rows = table(f"Swin-T, {len(W0)} tensors", times, errors, options, {})
    return rows + kernel_calls(jobs, len(W0))


def table(
    what: str, times: Rounds, errors: dict[str, float], options: argparse.Namespace, faster: dict[str, float]
) -> list[Row]:
    """Times beside each peer, the floor, and the errors."""
    clock = clock_of(options)
    rows = []
    for peer in ("mergekit", "nuslerp", "textbook"):
        row = row_of_times(f"{what}: {peer}", times, peer, "geolessons", clock)
        asked = None if options.quick else faster.get(peer)
        rows.append(row._replace(bound=asked, at_least=True))
    floor = row_of_times(f"{what}: geolessons", times, "geolessons", "five passes", clock)
    rows.append(floor._replace(bound=1.6 if faster and not options.quick else None))
    for name, value in errors.items():
        asked = 1e-6 if name == "geolessons" else None
        rows.append(Row(f"  error of {name}", value, "", "float64", None, None, asked))
    return rows


def kernel_calls(jobs: dict[str, Callable[[], object]], tensors: int) -> list[Row]:
    """Operations that reach the dispatcher (views apart); NumPy's are not seen."""
    found = {}
    size = trees.BLOCK
    for name in ("geolessons", "nuslerp", "textbook"):
        with Calls() as calls:
            jobs[name]()
        found[name] = calls.total
    try:
        trees.BLOCK = 1 << 60
        with Calls() as calls:
            jobs["geolessons"]()
    finally:
        trees.BLOCK = size
    whole = calls.total
    return [
        Row("  kernel calls of geolessons", found["geolessons"], "", "asked", 99, None, 99),
        Row("  … if tensors were not cut for the cache", whole, "", "asked", 99, None, 99),
        Row("  … of these, each tensor", whole / tensors, "", "", None, None, None),
        Row("  kernel calls of nuslerp", found["nuslerp"], "", "", None, None, None),
        Row("  kernel calls of textbook", found["textbook"], "", "", None, None, None),
    ]


def two_models(*, quick: bool, device: str) -> tuple[Params, Params]:
    """Swin-T, freshly drawn, no tensor of it zero, and one a step away; with `quick`, only small tensors."""
    g = torch.Generator().manual_seed(0)
    W0 = {k: p + 0.02 * torch.randn(p.shape, generator=g) for k, p in params_of(swin_t(weights=None)).items()}
    if quick:
        W0 = {k: p for k, p in W0.items() if p.numel() < 1 << 15}
    W1 = {}
    for k, p in W0.items():
        step = torch.randn(p.shape, generator=g)
        W1[k] = p + APART * p.norm() / step.norm() * step
    return {k: p.to(device) for k, p in W0.items()}, {k: p.to(device) for k, p in W1.items()}


def mergekit_slerp(t: float, W0: Tensor, W1: Tensor) -> Tensor:
    """As mergekit does it: float32 NumPy, copies normalised to unit length, arccos, LERP within 1.8°."""
    u, v = (W.detach().cpu().float().numpy() for W in (W0, W1))
    plain_u, plain_v = u.copy(), v.copy()
    u, v = (x / size if (size := np.linalg.norm(x)) > 1e-8 else x for x in (u, v))
    cosine = np.sum(u * v)
    if abs(cosine) > 0.9995:
        found = (1 - t) * plain_u + t * plain_v
    else:
        omega = np.arccos(cosine)
        a, b = np.sin((1 - t) * omega) / np.sin(omega), np.sin(t * omega) / np.sin(omega)
        found = a * plain_u + b * plain_v
    return torch.from_numpy(found).to(W0.dtype).to(W0.device)


def nuslerp(t: float, W0: Tensor, W1: Tensor) -> Tensor:
    """As its newer variant does it: torch, the cosine clamped, LERP where the sine is below 1e-8."""
    u, v = W0.reshape(-1), W1.reshape(-1)
    unit_u, unit_v = (x / x.norm(dim=-1, keepdim=True).clamp(min=1e-7) for x in (u, v))
    omega = (unit_u * unit_v).sum(-1, keepdim=True).clamp(-1, 1).acos()
    sine = omega.sin()
    straight = (sine.abs() < 1e-8).squeeze()
    found = (((1 - t) * omega).sin() * u + (t * omega).sin() * v) / sine
    found[straight] = (1 - t) * u[straight] + t * v[straight]
    return found.view(W0.shape)


def textbook(t: float, W0: Tensor, W1: Tensor) -> Tensor:
    """Normalise, dot product, arccos, sines."""
    omega = torch.dot((W0 / W0.norm()).reshape(-1), (W1 / W1.norm()).reshape(-1)).clamp(-1, 1).acos()
    return ((1 - t) * omega).sin() / omega.sin() * W0 + (t * omega).sin() / omega.sin() * W1


def exact_slerp(t: float, W0: Tensor, W1: Tensor) -> Tensor:
    """The textbook's, in float64; at 0.29 rad arccos costs few digits."""
    return textbook(t, W0.double(), W1.double())


def error(found: object, exact: Tensor) -> float:
    """The largest error beside the largest entry."""
    assert isinstance(found, Tensor)
    return float((found.double() - exact).abs().max() / exact.abs().max())


if __name__ == "__main__":
    main()

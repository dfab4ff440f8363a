"""Largest eigenvalue, trace and a slice of the landscape beside what other tools do: products, time, error.

    python benchmarks/curvature.py [--quick] [--repeat 5] [--device cpu] [--out FILE.json]

The peers are written anew from their descriptions.  Both eigenvalue solvers are run to the same residual
‖Hv − λv‖, which the power iteration gets told after each product, at no cost to it.  Traces are by the same
draws, so that their standard errors are the same; what differs is the cost of a draw.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import warnings
from collections.abc import Callable, Sequence

import torch
from timing import Row, arguments, circumstances, clock_of, report, rounds, row_of_times
from torch import Tensor, nn

from geolessons import Params, params_of
from geolessons.curvature import Hessian, eigenvalues, trace
from geolessons.estimates import Estimate, Loss, estimate, loss_of
from geolessons.landscape import plane, random_direction
from geolessons.models import mlp

TOLERANCE = 1e-3  # of the eigenvalue
MOST = 2000


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Measure, print, write."""
    options = arguments(__doc__).parse_args(argv)
    rows = largest_eigenvalue(options) + traces(options) + planes(options)
    report("Curvature and landscapes", rows, circumstances(options, ["torch"]), options.out)
    return rows


def problem(seed: int, options: argparse.Namespace, steps: int) -> tuple[nn.Module, Tensor, Tensor, Loss]:
    """A network part-way through its training, its data, and the loss as a function of the point."""
    g = torch.Generator().manual_seed(seed)
    sizes = (16, 24, 10) if options.quick else (64, 128, 128, 10)
    model = mlp(sizes, g, dtype=torch.float32)
    centres = torch.randn(10, sizes[0], generator=g)
    labels = torch.randint(0, 10, (256 if options.quick else 1024,), generator=g)
    x = centres[labels] + torch.randn(len(labels), sizes[0], generator=g)
    model, x, labels = model.to(options.device), x.to(options.device), labels.to(options.device)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimiser.step()
    return model, x, labels, loss_of(model, lambda run: nn.functional.cross_entropy(run(x), labels))


def largest_eigenvalue(options: argparse.Namespace) -> list[Row]:
    """Products to the same residual, at the start of training, within it, and later."""
    stages = (0, 20) if options.quick else (0, 30, 300)
    rows, shares = [], []
    for steps in stages:
        for seed in range(1 if options.quick else 3):
            model, _, _, loss = problem(seed, options, steps)
            W = params_of(model)
            found = eigenvalues(loss, W, generator=drawn(options, 1), tolerance=TOLERANCE, max_products=MOST)[
                0
            ]
            value, residual, products = power_iteration(
                loss, W, drawn(options, 1), TOLERANCE * abs(found.value)
            )
            shares.append(found.products / products)
            what = f"products to λ₁, {steps} steps, draw {seed}"
            rows.append(Row(what, found.products, "", "power iteration", products, shares[-1], None))
            if residual <= TOLERANCE * abs(found.value):  # else it was given up
                gap = abs(value - found.value) / abs(found.value)
                rows.append(Row("  apart by", gap, "of λ₁", "", None, None, None))
    asked = None if options.quick else 0.6
    rows.append(Row("share of products, median", statistics.median(shares), "", "asked", 0.6, None, asked))
    rows.append(Row("share of products, worst", max(shares), "", "asked", 0.6, None, asked))
    return rows


def traces(options: argparse.Namespace) -> list[Row]:
    """Thirty draws: ours, draws that build the gradient's graph anew, and one by one."""
    model, _, _, loss = problem(0, options, 20)
    W = params_of(model)
    jobs: dict[str, Callable[[], Estimate]] = {
        "geolessons": lambda: trace(loss, W, generator=drawn(options, 2)),
        "graph each draw": lambda: trace_anew(loss, W, drawn(options, 2)),
        "finite differences": lambda: trace_by_differences(loss, W, drawn(options, 2)),
    }
    times = rounds(jobs, options.repeat or (2 if options.quick else 5), options.device)
    clock, found = clock_of(options), {name: job() for name, job in jobs.items()}
    rows = []
    for peer in ("graph each draw", "finite differences"):
        rows.append(row_of_times("trace, 30 draws: geolessons", times, "geolessons", peer, clock))
    for name, of in found.items():
        rows.append(Row(f"  standard error of {name}", of.stderr, "", "trace", of.value, None, None))
    return rows


def planes(options: argparse.Namespace) -> list[Row]:
    """A 21 × 21 grid: time, and how far the points are from where they should be."""
    model, x, labels, _ = problem(0, options, 20)
    W = params_of(model)
    d1, d2 = (random_direction(W, drawn(options, s)) for s in (3, 4))
    n = 5 if options.quick else 21
    steps = [2 * i / (n - 1) - 1 for i in range(n)]

    def loss(run: Callable[[Tensor], Tensor]) -> float:
        return float(nn.functional.cross_entropy(run(x), labels))

    jobs: dict[str, Callable[[], list[list[float]]]] = {
        "geolessons": lambda: plane(model, W, d1, d2, loss, steps, steps).values,
        "copy each point": lambda: by_copies(model, W, d1, d2, loss, steps),
        "in-place steps": lambda: in_place(model, W, d1, d2, loss, steps),
    }
    times = rounds(jobs, options.repeat or (2 if options.quick else 5), options.device)
    clock, rows = clock_of(options), []
    for peer in ("copy each point", "in-place steps"):
        rows.append(row_of_times(f"plane of {n} × {n}: geolessons", times, "geolessons", peer, clock))
    exact = in_double(model, W, d1, d2, x, labels, steps)
    for name, job in jobs.items():
        worst = max(abs(a - b) for p, q in zip(job(), exact, strict=True) for a, b in zip(p, q, strict=True))
        asked = 1e-5 if name == "geolessons" else None
        rows.append(Row(f"  error of {name}", worst, "", "float64", None, None, asked))
    return rows


def drawn(options: argparse.Namespace, seed: int) -> torch.Generator:
    return torch.Generator(options.device).manual_seed(seed)


def power_iteration(loss: Loss, W: Params, g: torch.Generator, wanted: float) -> tuple[float, float, int]:
    """As PyHessian does it: a random direction, multiplied and normalised, λ = ⟨v, Hv⟩.

    It stops there by the change of λ; here by the residual, so that both give the same.
    """
    H = Hessian(loss, W)
    v = {k: torch.randn(w.shape, generator=g, dtype=w.dtype, device=w.device) for k, w in W.items()}
    value = residual = float("inf")
    for _ in range(MOST):
        v = scaled(v)
        image = H.product(v)
        value = float(sum((v[k] * image[k]).sum() for k in v))
        residual = float(sum((image[k] - value * v[k]).square().sum() for k in v)) ** 0.5
        if residual <= wanted:
            break
        v = image
    else:
        warnings.warn(f"power iteration was stopped at {MOST} products", stacklevel=2)
    return value, residual, H.products


def scaled(v: Params) -> Params:
    size = float(sum(x.square().sum() for x in v.values())) ** 0.5
    return {k: x / (size + 1e-6) for k, x in v.items()}


def signs(W: Params, g: torch.Generator) -> Params:
    return {
        k: (2 * torch.randint(0, 2, w.shape, generator=g, device=w.device) - 1).to(w.dtype)
        for k, w in W.items()
    }


def trace_anew(loss: Loss, W: Params, g: torch.Generator) -> Estimate:
    """One loss, gradient and graph for each draw, as a tool does that takes one product at a time."""
    draws = []
    for _ in range(30):
        z = signs(W, g)
        image = Hessian(loss, W).product(z)
        draws.append(float(sum((z[k] * image[k]).sum() for k in z)))
    return estimate(draws)


def trace_by_differences(loss: Loss, W: Params, g: torch.Generator, step: float = 1e-3) -> Estimate:
    """Products from gradients on both sides, as tools without second derivatives do."""

    def gradient(P: Params) -> Params:
        P = {k: p.requires_grad_() for k, p in P.items()}
        return dict(zip(P, torch.autograd.grad(loss(P), list(P.values())), strict=True))

    draws = []
    for _ in range(30):
        z = signs(W, g)
        there, back = (gradient({k: W[k] + s * z[k] for k in W}) for s in (step, -step))
        draws.append(float(sum((z[k] * (there[k] - back[k])).sum() for k in z)) / (2 * step))
    return estimate(draws)


Metric = Callable[[Callable[[Tensor], Tensor]], float]


def by_copies(
    model: nn.Module, W: Params, d1: Params, d2: Params, loss: Metric, steps: list[float]
) -> list[list[float]]:
    """A copy of the model for each point."""
    values = []
    for a in steps:
        row = []
        for b in steps:
            twin = copy.deepcopy(model)
            with torch.no_grad():
                for k, p in twin.named_parameters():
                    p.copy_(W[k] + a * d1[k] + b * d2[k])
                row.append(loss(twin))
        values.append(row)
    return values


def in_place(
    model: nn.Module, W: Params, d1: Params, d2: Params, loss: Metric, steps: list[float]
) -> list[list[float]]:
    """As loss-landscapes does it: one copy, walked from point to point by adding a step in place."""
    twin, h = copy.deepcopy(model), steps[1] - steps[0]
    values = []
    with torch.no_grad():
        parameters = dict(twin.named_parameters())
        for k, p in parameters.items():
            p.copy_(W[k])
            p.add_(d1[k], alpha=steps[0]).add_(d2[k], alpha=steps[0])
        for i in range(len(steps)):
            row = []
            for j in range(len(steps)):
                row.append(loss(twin))
                if j < len(steps) - 1:  # forwards in even rows, backwards in odd ones
                    for k, p in parameters.items():
                        p.add_(d2[k], alpha=h if i % 2 == 0 else -h)
            values.append(row if i % 2 == 0 else row[::-1])
            for k, p in parameters.items():
                p.add_(d1[k], alpha=h)
    return values


def in_double(
    model: nn.Module, W: Params, d1: Params, d2: Params, x: Tensor, labels: Tensor, steps: list[float]
) -> list[list[float]]:
    """All of it in float64."""
    twin = copy.deepcopy(model).double()
    W, d1, d2 = ({k: p.double() for k, p in P.items()} for P in (W, d1, d2))

    def loss(run: Callable[[Tensor], Tensor]) -> float:
        return float(nn.functional.cross_entropy(run(x.double()), labels))

    return by_copies(twin, W, d1, d2, loss, steps)


if __name__ == "__main__":
    main()

"""Flat-LoRA's noise beside plain LoRA, the published in-place trick and SAM: time, memory, drift, in one run.

    python benchmarks/noise.py [--quick] [--repeat 15] [--device cpu] [--out FILE.json]

A step is forward and backward, without an optimiser, of one linear layer with its frozen weight and bias,
float32, rank 8; the input needs a gradient.  "In place" is written anew from a description of the published
code: lengths of the merged rows, draw, add, step, draw again, subtract.  One core draws normals at 4 to 5 ns
an element, twice a step: with few tokens that is what is left of the cost, of ours as of the trick.  "By the
table" is ours with `draw="table"`; the trick keeps torch's numbers, as published.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import count

import torch
from adapters import RANK, attached, counted, kept_bytes, step
from timing import Row, Touched, arguments, circumstances, clock_of, report, rounds, row_of_times
from torch import Tensor, nn

from geolessons import draws
from geolessons.adapters import LoRA
from geolessons.noise import FlatNoise

SIGMA = 0.05


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Measure, print, write."""
    options = arguments(__doc__).parse_args(argv)
    widths, tokens = ((64,), (96,)) if options.quick else ((384, 768, 1024), (128, 1000, 4096))
    rows = []
    for width in widths:
        for n in tokens:
            rows += one_layer(width, n, options)
    rows += drift(options)
    about = circumstances(options, ["torch", "numpy"])
    report("Noise on weights: one training step of a layer", rows, about, options.out)
    return rows


def one_layer(width: int, tokens: int, options: argparse.Namespace) -> list[Row]:
    """A step without noise, with ours, with the published trick; two passes as SAM takes them."""
    g = torch.Generator().manual_seed(0)
    model = attached(width, g, lambda W: LoRA(W.shape, RANK, generator=g)).to(options.device)
    W0 = model[0].base_weight
    x = torch.randn(tokens, width, generator=g).to(options.device).requires_grad_()
    gy = torch.randn(tokens, width, generator=g).to(options.device)
    plain = step(model, x, gy)

    def flat() -> None:
        with FlatNoise(model, SIGMA, step=1):
            plain()

    def tabled() -> None:
        with FlatNoise(model, SIGMA, step=1, draw="table"):
            plain()

    def sam() -> None:
        plain()
        plain()

    ones, seed = torch.ones(width, device=options.device), torch.tensor(0)
    jobs: dict[str, Callable[[], object]] = {
        "LoRA": plain,
        "flat": flat,
        "by the table": tabled,
        "in place": published_step(model, plain),
        "two passes": sam,
        "drawing": lambda: draws.seeded_noise(ones, width, seed),
        "drawing by the table": lambda: draws.tabled_noise(ones, width, seed),
    }
    before = W0.clone()
    for name in jobs:
        if name != "in place":  # which would move the weight
            jobs[name]()
    ours = float((W0 - before).norm() / before.norm())
    times = rounds(jobs, options.repeat or repeats(options), options.device)
    W0.data.copy_(before)
    with FlatNoise(model, SIGMA, step=1):
        kept = kept_bytes(model, x) - width * 4 - 8  # d deviations and a seed, which are there anyway
    clock, at = clock_of(options), f"{width}, {tokens:,} tokens"
    asked = None if width < 384 else {4096: 1.2, 1000: 1.5}.get(tokens)
    touched, cut = {}, draws.BLOCK
    try:
        draws.BLOCK = 1 << 62  # uncut, so that each pass shows
        for name in ("LoRA", "flat", "in place"):
            with Touched(W0.nbytes) as bytes_:
                jobs[name]()
            touched[name] = bytes_.total / W0.nbytes
    finally:
        draws.BLOCK = cut
    W0.data.copy_(before)
    passes = {name: touched[name] - touched["LoRA"] for name in ("flat", "in place")}
    faster = None if width < 384 else 1.0
    return [
        row_of_times(f"Flat-LoRA {at}", times, "flat", "LoRA", clock, asked),
        row_of_times("  the same by the table", times, "by the table", "LoRA", clock, asked),
        row_of_times("  the published trick", times, "in place", "LoRA", clock),
        row_of_times("  two passes, as SAM needs", times, "two passes", "LoRA", clock),
        row_of_times("  ours beside the published trick", times, "flat", "in place", clock, faster),
        row_of_times("  ours by the table beside it", times, "by the table", "in place", clock, faster),
        row_of_times("  drawing once, alone, by the table", times, "drawing by the table", "drawing", clock),
        counted("  bytes kept for backward", "B", kept, "LoRA", kept_bytes(model, x), 1.02),
        Row("  its drift of the frozen weight", ours, "", "asked", 0.0, None, 0.0),
        counted(
            "  weights read or written besides, uncut",
            "",
            passes["flat"],
            "in place",
            passes["in place"],
            1.0,
        ),
    ]


def repeats(options: argparse.Namespace) -> int:
    """Rounds, unless told."""
    return 2 if options.quick else 15


def published_step(model: nn.Module, plain: Callable[[], None]) -> Callable[[], None]:
    """Perturb the frozen weight, take the step, draw the same noise again and subtract it."""
    layer, seeds = model[0], count()

    def eps(std: Tensor, seed: int) -> Tensor:
        g = torch.Generator(std.device).manual_seed(seed)
        return torch.normal(0, std.repeat(1, layer.in_features), generator=g)

    def run() -> None:
        W, adapter, seed = layer.base_weight.data, layer.adapter, next(seeds)
        with torch.no_grad():
            merged = W + adapter.scale * (adapter.B @ adapter.A)
            std = (SIGMA + 1e-16) / layer.in_features**0.5 * merged.norm(dim=1, keepdim=True)
            W.add_(eps(std, seed))
        plain()
        with torch.no_grad():
            W.sub_(eps(std, seed))

    return run


def drift(options: argparse.Namespace) -> list[Row]:
    """How far both leave the frozen weight from where it was, in two number formats."""
    steps = 20 if options.quick else 1000
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        g = torch.Generator().manual_seed(0)
        model = attached(64, g, lambda W, g=g: LoRA(W.shape, RANK, generator=g)).to(options.device, dtype)
        W0 = model[0].base_weight
        before = W0.detach().clone()

        def moved(W0: Tensor = W0, before: Tensor = before) -> float:
            return float((W0.double() - before.double()).norm() / before.double().norm())

        for i in range(steps):
            with FlatNoise(model, SIGMA, step=i):
                pass
        ours, trick = moved(), published_step(model, lambda: None)
        for _ in range(steps):
            trick()
        name = str(dtype).removeprefix("torch.")
        rows.append(Row(f"drift in {steps:,} steps, {name}", ours, "", "in place", moved(), None, 0.0))
    return rows


if __name__ == "__main__":
    main()

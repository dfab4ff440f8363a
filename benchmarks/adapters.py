"""Adapters beside PEFT and beside parametrisations: time, memory kept, arithmetic, in one run.

    python benchmarks/adapters.py [--quick] [--repeat 15] [--device cpu] [--out FILE.json]

A step is forward and backward, without an optimiser, of one linear layer with its frozen weight and bias,
float32, rank 8.  The input needs a gradient, as inside a network; at a network's first layer it would not.
"""

from __future__ import annotations

import argparse
import copy
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from timing import Calls, Row, arguments, circumstances, clock_of, report, rounds, row_of_times
from torch import Tensor, fx, nn
from torch.nn.utils.parametrize import register_parametrization
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import swin_t

from geolessons.adapters import Adapter, LoRA
from geolessons.attaching import AdaptedLinear, attach, merge_
from geolessons.geodesics import GeodesicLoRA
from geolessons.models import mlp
from geolessons.saved import Saved
from geolessons.velocity import VelocityLoRA

RANK = 8
SWIN = ["*.attn.qkv", "*.attn.proj", "*.mlp.0", "*.mlp.3"]


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Measure, print, write."""
    options = arguments(__doc__).parse_args(argv)
    widths, tokens = ((64,), (96,)) if options.quick else ((384, 768, 1024), (1000, 4096))
    rows = []
    for width in widths:
        for count in tokens:
            rows += one_layer(width, count, options)
    rows += swin_flops()
    rows += merged_inference(options)
    about = circumstances(options, ["torch", "torchvision", "peft", "numpy"])
    report("Adapters: one training step of a layer", rows, about, options.out)
    return rows


def one_layer(width: int, tokens: int, options: argparse.Namespace) -> list[Row]:
    """LoRA beside PEFT's, and the other adapters beside LoRA, on one layer."""
    g = torch.Generator().manual_seed(0)
    layers = {
        "LoRA": attached(width, g, lambda W: LoRA(W.shape, RANK, generator=g)),
        "geodesic": attached(width, g, lambda W: GeodesicLoRA(W.shape, RANK, t=0.5, generator=g)),
        "velocity": attached(width, g, lambda W: VelocityLoRA(W.shape, RANK, generator=g)),
    }
    layers["PEFT"] = from_peft(layers["LoRA"][0])
    layers["dense"] = nn.Sequential(nn.Linear(width, width, bias=False))
    for model in layers.values():
        model.to(options.device)
    x = torch.randn(tokens, width, generator=g).to(options.device).requires_grad_()
    gy = torch.randn(tokens, width, generator=g).to(options.device)
    torch.testing.assert_close(layers["LoRA"](x), layers["PEFT"](x), rtol=1e-4, atol=1e-4)

    steps = {name: step(model, x, gy) for name, model in layers.items()}
    times = rounds(steps, options.repeat or (2 if options.quick else 15), options.device)
    saved = {name: kept_bytes(model, x) for name, model in layers.items()}
    flops = {name: count_flops(job) for name, job in steps.items()}
    factored = 4 * tokens * width**2 + 6 * tokens * RANK * 2 * width
    clock, at = clock_of(options), f"{width}, {tokens:,} tokens"
    many = tokens >= 4096 and width >= 384
    timed = width >= 384  # below that the bounds were not asked for
    return [
        row_of_times(f"LoRA {at}", times, "LoRA", "PEFT", clock, 1.02 if timed else None),
        counted("  bytes kept for backward", "B", saved["LoRA"], "PEFT", saved["PEFT"], 1.0),
        counted("  FLOP, beside 4ndk + 6nr(d+k)", "", flops["LoRA"], "formula", factored, 1.0),
        row_of_times(f"geodesic {at}", times, "geodesic", "LoRA", clock, 1.05 if many else None),
        counted("  bytes kept for backward", "B", saved["geodesic"], "LoRA", saved["LoRA"]),
        counted("  FLOP", "", flops["geodesic"], "LoRA", flops["LoRA"]),
        row_of_times(
            f"velocity {at}",
            times,
            "velocity",
            "LoRA",
            clock,
            {True: 1.25, False: 1.6 if timed else None}[many],
        ),
        row_of_times("  the same beside PEFT's LoRA", times, "velocity", "PEFT", clock),
        row_of_times("  its three dense products alone", times, "dense", "LoRA", clock),
        counted("  FLOP", "", flops["velocity"], "LoRA", flops["LoRA"]),
    ]


def attached(width: int, g: torch.Generator, make: Callable[[Tensor], Adapter]) -> nn.Sequential:
    """A layer with an adapter that is no longer at its start."""
    model = nn.Sequential(nn.Linear(width, width))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=g) / width**0.5)
        attach(model, "*", lambda name, W: make(W))
        adapter = model[0].adapter
        if isinstance(adapter, LoRA):
            adapter.B.copy_(torch.randn(adapter.B.shape, generator=g) / width)
    return model


def from_peft(ours: AdaptedLinear) -> nn.Module:
    """PEFT's LoRA with the same numbers."""
    plain = nn.Linear(ours.in_features, ours.out_features)
    with torch.no_grad():
        plain.weight.copy_(ours.base_weight)
        plain.bias.copy_(ours.bias)
        config = LoraConfig(r=RANK, lora_alpha=RANK, lora_dropout=0.0, target_modules=["0"])
        model = inject_adapter_in_model(config, nn.Sequential(plain))
        model[0].lora_A["default"].weight.copy_(ours.adapter.A)
        model[0].lora_B["default"].weight.copy_(ours.adapter.B)
    return model


def step(model: nn.Module, x: Tensor, gy: Tensor) -> Callable[[], None]:
    """Forward and backward; gradients are fresh each time."""

    def run() -> None:
        x.grad = None
        for p in model.parameters():
            p.grad = None
        model(x).backward(gy)

    return run


def kept_bytes(model: nn.Module, x: Tensor) -> int:
    """What autograd keeps of one forward pass, its input included; parameters are there anyway."""
    with Saved(besides=model.parameters()) as saved:
        model(x)
    return saved.bytes


def count_flops(job: Callable[[], Any]) -> int:
    """FLOP of the matrix products."""
    with FlopCounterMode(display=False) as counter:
        job()
    return counter.get_total_flops()


def counted(what: str, unit: str, value: float, beside: str, other: float, bound: float | None = None) -> Row:
    """A count beside a count."""
    return Row(what, value, unit, beside, other, value / other, bound)


def swin_flops() -> list[Row]:
    """Swin-T, all attention and MLP layers adapted, the rest frozen: FLOP of a step at batch 4, 224×224.

    Counted on the meta device, where shapes are computed and numbers are not.
    """
    x = torch.empty(4, 3, 224, 224, device="meta")
    found = {}
    for way in ("attached", "parametrised"):
        with torch.device("meta"):
            model = swin_t(weights=None)
        if way == "attached":
            attach(model, SWIN, lambda name, W: LoRA(W.shape, RANK, generator=torch.Generator()))
        else:
            parametrise(model.requires_grad_(False))
        found[way] = count_flops(lambda model=model: model(x).sum().backward()) / 1e9
    asked = 88.0
    ours, theirs = found["attached"], found["parametrised"]
    return [
        Row("Swin-T step", ours, "GFLOP", "asked", asked, None, asked),
        Row("  the same by parametrize", theirs, "GFLOP", "attached", ours, theirs / ours, None),
    ]


class Plus(nn.Module):
    """W + B·A, for `torch.nn.utils.parametrize`."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.zeros(RANK, shape[1], device="meta"))
        self.B = nn.Parameter(torch.zeros(shape[0], RANK, device="meta"))

    def forward(self, W: Tensor) -> Tensor:
        """The whole weight."""
        return W + self.B @ self.A


def parametrise(model: nn.Module) -> None:
    """What PyTorch offers for the same: the weight formed anew in each forward pass."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Linear) and name != "head" and "reduction" not in name:
            register_parametrization(layer, "weight", Plus(layer.weight.shape))


def merged_inference(options: argparse.Namespace) -> list[Row]:
    """A merged model beside the one it came from: nothing of the adapter may be left."""
    g = torch.Generator().manual_seed(0)
    if options.quick:
        what, patterns, shape = "MLP", ["fc*"], (8, 32)
        base: nn.Module = mlp((32, 32, 32), g, dtype=torch.float32).eval()
    else:
        what, patterns, shape = "Swin-T", SWIN, (1, 3, 224, 224)
        base = swin_t(weights=None).eval()
    merged = copy.deepcopy(base)
    attach(merged, patterns, lambda name, W: LoRA(W.shape, RANK, generator=g))
    merge_(merged)
    same = graph(base) == graph(merged)
    for model in (base, merged):
        model.to(options.device).requires_grad_(False)
    x = torch.randn(shape, generator=g).to(options.device)
    calls = {}
    for name, model in (("base", base), ("merged", merged)):
        with Calls() as seen:
            model(x)
        calls[name] = seen.total
    jobs = {"base": lambda: base(x), "merged": lambda: merged(x)}
    times = rounds(jobs, options.repeat or (2 if options.quick else 15), options.device)
    return [
        Row(f"merged {what}: same graph and types", float(same), "", "", None, None, 1, at_least=True),
        counted("  aten calls of a forward pass", "", calls["merged"], "base", calls["base"], 1.0),
        row_of_times(
            "  time of a forward pass",
            times,
            "merged",
            "base",
            clock_of(options),
            None if options.quick else 1.02,
        ),
    ]


def graph(model: nn.Module) -> list[tuple[Any, ...]]:
    """The traced graph, node by node, and all modules and parameters with their types."""
    nodes = [(n.op, str(n.target), str(n.args), str(n.kwargs)) for n in fx.symbolic_trace(model).graph.nodes]
    modules = [(name, type(m).__name__) for name, m in model.named_modules()]
    return [*nodes, *modules, *((n, p.shape, p.dtype) for n, p in model.named_parameters())]


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main()

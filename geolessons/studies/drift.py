"""How far do weights drift if noise is added and subtracted again, ten thousand times?

    drift(N) = ‖W_N − W_0‖/‖W_0‖,    W_i = (W_{i−1} + ε_i) − ε_i, each rounded

Chapter 3; one to three minutes a seed.

Flat-LoRA's published code stores a seed instead of a copy of the weights, and takes the noise off again
(arXiv 2409.14396v1, section 3.4).  Here a normal weight (64, 256) in three formats goes through that: at
σ = 0.05 in each step, and with σ growing to 0.15 along the cosine.  Beside it, at the first of the two, the
same weight behind noise that is never stored in it (`noise.FlatNoise`): a pass forward and back in each step.

ε is rounded to the format before it is added.  Added in float32 and rounded once, it leaves about a seventh
less in bfloat16 after 1,000 steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from geolessons.adapters import LoRA
from geolessons.attaching import AdaptedLinear, attach
from geolessons.inplace import in_place_noise
from geolessons.noise import FlatNoise
from geolessons.schedules import Schedule, constant, cosine
from geolessons.studies.record import main
from geolessons.trees import Params

__all__ = ["FORMATS", "NOISES", "SHAPE", "STOPS", "drifts", "functional", "one_seed", "start", "subtracted"]

SHAPE = (64, 256)
FORMATS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
NOISES: dict[str, tuple[float, Schedule]] = {"constant": (0.05, constant), "cosine": (0.15, cosine)}
STOPS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000)
BITS = {2: torch.int16, 4: torch.int32}  # bytes of an entry: integers of that size


def start(seed: int, shape: tuple[int, int] = SHAPE) -> Params:
    """One normal weight (d, k) with entries of size 1/√k, rounded to each format."""
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(shape, generator=generator, dtype=torch.float64) / math.sqrt(shape[1])
    return {name: W.to(dtype) for name, dtype in FORMATS.items()}


def subtracted(
    W0: Params, noise: str, seed: int, stops: tuple[int, ...] = STOPS
) -> Iterator[tuple[int, Params]]:
    """The weights after each number of steps in `stops`; in each step noise is added, and taken off by seed.

    Args:
        W0: Weights (d, k) by name, any formats; they are not changed.
        noise: One of NOISES.  A schedule is walked over 10,000 steps whatever the stops, from its step 0.
        seed: Of the noise.
        stops: Rising numbers of steps.

    Raises:
        KeyError: If `noise` is none of NOISES.

    Example:
        >>> W0 = start(0, (2, 4))
        >>> ((steps, W),) = subtracted(W0, "constant", 0, stops=(100,))
        >>> bool(drifts(W0, W)["bfloat16"][0] > drifts(W0, W)["float32"][0])
        True
    """
    sigma, schedule = NOISES[noise]
    W = {name: w.clone() for name, w in W0.items()}
    for i in range(stops[-1]):
        with in_place_noise(W, sigma * schedule(i, STOPS[-1]), seed=seed, step=i, restore="seed"):
            pass
        if i + 1 in stops:
            yield i + 1, {name: w.clone() for name, w in W.items()}


def functional(
    W0: Params, noise: str, seed: int, stops: tuple[int, ...] = STOPS
) -> Iterator[tuple[int, Params]]:
    """The same with `FlatNoise`: LoRA on each weight, and a pass forward and back within the noise.

    Args:
        W0: As `subtracted`.
        noise: As `subtracted`.
        seed: Of the noise, the adapters and the inputs.
        stops: As `subtracted`.

    Raises:
        KeyError: As `subtracted`.
    """
    sigma, schedule = NOISES[noise]
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential()
    for w in W0.values():
        # the usual start would draw from the global generator
        linear = skip_init(nn.Linear, *reversed(w.shape), bias=False, dtype=w.dtype)  # type: ignore[no-untyped-call]
        linear.weight.data.copy_(w)
        model.append(linear)
    attach(model, "*", lambda _, W: LoRA(W.shape, 2, generator=generator, dtype=W.dtype))
    layers = [layer for layer in model if isinstance(layer, AdaptedLinear)]
    x = [torch.randn(2, w.shape[1], generator=generator).to(w.dtype) for w in W0.values()]
    for i in range(stops[-1]):
        with FlatNoise(model, sigma * schedule(i, STOPS[-1]), seed=seed, step=i):
            for layer, rows in zip(layers, x, strict=True):
                layer(rows).sum().backward()
        if i + 1 in stops:
            bases = [layer.base_weight.detach().clone() for layer in layers]
            yield i + 1, dict(zip(W0, bases, strict=True))


def drifts(W0: Params, W: Params) -> dict[str, tuple[float, float]]:
    """For each weight its drift, and the share of its entries of which any bit is another."""
    found = {}
    for name, before in W0.items():
        length = before.double().norm()
        away = float((W[name].double() - before.double()).norm() / length)
        found[name] = away, float((_bits(W[name]) != _bits(before)).double().mean())
    return found


def one_seed(seed: int) -> dict[str, float]:
    """All values of a seed: `subtracted.constant.float16.30.drift`, `functional.….changed`."""
    W0 = start(seed)
    found: dict[str, float] = {}
    for way, noise in ((subtracted, "constant"), (subtracted, "cosine"), (functional, "constant")):
        for N, W in way(W0, noise, seed):
            for name, (away, changed) in drifts(W0, W).items():
                key = f"{way.__name__}.{noise}.{name}.{N}"
                found[f"{key}.drift"], found[f"{key}.changed"] = away, changed
    return found


def _bits(W: Tensor) -> Tensor:
    return W.contiguous().view(BITS[W.element_size()])


if __name__ == "__main__":
    main("drift", __doc__, one_seed)

"""All methods on all seeds, put together: values by name, differences from joint LoRA, Δ_m, provenance."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from geolessons.multitask_metrics import delta_m
from geolessons.studies.multitask import backbone as backbones
from geolessons.studies.multitask import roads
from geolessons.studies.multitask.effect import changes
from geolessons.studies.multitask.methods import trainings
from geolessons.studies.multitask.pictures import Pictures, pictures
from geolessons.studies.multitask.protocol import PROTOCOLS, Protocol
from geolessons.studies.multitask.training import METRICS, train
from geolessons.studies.record import Found, run, source_digest
from geolessons.studies.running import Machine, kept, processes, share

__all__ = ["NO_REPLICATION", "TINY", "differences", "measured"]

TINY = {"train": 16, "val": 8, "epochs": 1, "batch": 8}
NO_REPLICATION = "a few pictures and steps: shows that the study runs, replicates nothing"


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """The result of a study; `parts` is the folder of its pieces, or None.

    Args:
        options: As `__main__` reads them.

    Raises:
        FileNotFoundError: If photographs are missing.
        ValueError: For options that are none, or photographs that are damaged.
        KeyboardInterrupt: If the run was interrupted; what is done is kept.
    """
    methods, planned = tuple(options.method), PROTOCOLS[options.data]
    for method in methods:
        trainings(method, ())
    if len(set(methods)) < len(methods):
        raise ValueError(f"--method {' '.join(methods)} names one twice")
    given: dict[str, Any] = dict(TINY) if options.tiny else {}
    given |= {f.name: v for f in fields(Protocol) if (v := getattr(options, f.name, None)) is not None}
    del given["data"]
    counts = {key: getattr(options, key) for key in ("seeds", "jobs", "accumulate")}
    numbers = (given | counts).items()
    if wrong := [f"--{key.replace('_', '-')} {value}" for key, value in numbers if not 0 < value < math.inf]:
        raise ValueError(f"{', '.join(wrong)} must be positive, and finite")
    if options.weights and planned.network == "small":
        raise ValueError(f"--weights {options.weights} is for pascal; the small Swin is pre-trained here")
    if options.backbone and planned.network != "small":
        raise ValueError(f"--backbone {options.backbone} is of the small Swin; {options.data} has --weights")
    if options.root and options.data == "scenes":
        raise ValueError(f"--root {options.root} is for photographs; scenes are rendered")
    if options.out and options.out.suffix == ".npz":
        raise ValueError(f"--out {options.out} is for the JSON file; predictions go beside it, to .npz")
    protocol = replace(planned, **given)
    machine = Machine(**{f.name: getattr(options, f.name) for f in fields(Machine)})
    share(protocol.batch, machine)  # before anything is made
    source = (protocol, options.root, options.workers, options.weights, options.backbone)
    seen, backbone = _prepared(*source)
    settings = {f"protocol's {key}": str(value) for key, value in asdict(protocol).items()}
    settings |= {"precision": options.precision, "backbone": backbones.digest(backbone)}
    settings |= {key: str(value) for key, value in seen.facts.items()}
    parts = None
    if options.out:
        laid_out = [str(options.root and options.root.resolve()), machine.accumulate, processes()[1]]
        stamp = json.dumps([source_digest(), settings, laid_out], sort_keys=True)
        parts = Path(f"{options.out}.parts") / hashlib.sha256(stamp.encode()).hexdigest()[:8]
    result = run(
        "multitask",
        partial(_one_seed, source, methods, machine, parts),
        options.seeds,
        jobs=options.jobs,
        settings=settings,
    )
    departures = [
        f"{key} {getattr(protocol, key)}, the protocol's is {value}"
        for key, value in asdict(planned).items()
        if getattr(protocol, key) != value
    ]
    if machine.accumulate > 1:
        departures.append(f"a step's batch in {machine.accumulate} parts")
    pretraining: dict[str, Any] = {"weights": options.weights}
    if protocol.network == "small":
        pretraining = dict(backbones.PRETRAINING)
        pretraining["right"], pretraining["right by the commoner"] = backbones.in_sight(backbone)
    elif options.weights is None:
        departures.append("the backbone is not pre-trained")
    result["what"] = NO_REPLICATION if options.tiny else "; ".join(departures) or "as the protocol"
    result["pretraining"] = pretraining
    result["provenance"]["processes"] = processes()[1]
    if torch.cuda.is_available() and not machine.cpu:
        result["provenance"]["device"] = torch.cuda.get_device_name()
    return result | {"methods": list(methods), "parts": parts}


@cache
def _prepared(
    protocol: Protocol, root: Path | None, workers: int, weights: str | None, kept: Path | None
) -> tuple[Pictures, nn.Module]:
    """Pictures and backbone, once a process."""
    seen = pictures(protocol, root, workers)
    small = protocol.network == "small"
    return seen, backbones.small(kept) if small else backbones.tiny(weights)


def _one_seed(
    source: tuple[Any, ...],
    methods: Sequence[str],
    machine: Machine,
    parts: Path | None,
    seed: int,
    **_: str,
) -> Found:
    """All values of a seed, by name: `lora.semseg.mIoU`, `literal.minus lora.semseg.mIoU`, `lora.delta_m`."""
    protocol: Protocol = source[0]
    seen, backbone = _prepared(*source)
    by_method = {
        method: _one_method(backbone, seen, protocol, method, seed, machine, parts) for method in methods
    }
    found: Found = {
        f"{method}.{key}": value for method, values in by_method.items() for key, value in values.items()
    }
    found |= differences(by_method, tuple(seen.outputs))
    if protocol.network == "small":
        image = next(seen.graded()).image
        found |= {f"before.{key}": values for key, values in changes(backbone, image, seed).items()}
    return found


def differences(by_method: dict[str, Found], tasks: Sequence[str]) -> Found:
    """What methods of one seed say about each other.

    Args:
        by_method: Values of each method, as `training.train` gives them, with or without a road.
        tasks: That were graded.

    Returns:
        `<method>.delta_m`, in percent of the single-task networks, if they are among the methods; along a
        road the same task by task, `<method>.road.<task>.change`; less joint LoRA's, `<method>.minus lora.…`;
        and what Δ_m is with joint LoRA in the place of the single-task networks, `<method>.against lora`.
    """
    keys = {task: f"{task}.{METRICS[task]}" for task in tasks}
    errors = [task for task in tasks if task == "normals"]
    found: Found = {}

    def graded(method: str) -> dict[str, float]:
        return {task: float(by_method[method][key]) for task, key in keys.items()}  # type: ignore[arg-type]

    for method, values in by_method.items():
        if "single" in by_method:
            single = graded("single")
            found[f"{method}.delta_m"] = delta_m(graded(method), single, errors)
            for task, key in keys.items():
                road = values.get(f"road.{key}")
                if isinstance(road, list):
                    sign = -1 if task in errors else 1
                    found[f"{method}.road.{task}.change"] = [
                        100 * sign * (at / single[task] - 1) for at in road
                    ]
        if "lora" in by_method and method != "lora":
            found[f"{method}.against lora"] = delta_m(graded(method), graded("lora"), errors)
            for key in (*keys.values(), "normals.rmse"):
                if key in values:
                    found[f"{method}.minus lora.{key}"] = float(values[key]) - float(by_method["lora"][key])  # type: ignore[arg-type]
    if "lora.delta_m" in found:
        for method in by_method:
            if method != "lora":
                change = float(found[f"{method}.delta_m"]) - float(found["lora.delta_m"])  # type: ignore[arg-type]
                found[f"{method}.minus lora.delta_m"] = change
    return found


def _one_method(
    backbone: nn.Module,
    seen: Pictures,
    protocol: Protocol,
    method: str,
    seed: int,
    machine: Machine,
    parts: Path | None,
) -> Found:
    """A method's values, and beside them, for the first seed, its answers to some pictures."""

    def measure(checkpoints: Path | None) -> Found:
        values, answering = train(
            backbone, seen, protocol, method, seed, machine=machine, checkpoints=checkpoints
        )
        if method in roads.ON_THE_ROAD:
            model = roads.plain(answering[0], backbone, seen, protocol)
            read = roads.readings(model, answering[0], seen)
            values |= {f"road.{key}": row for key, row in read.items()}
        if parts and not seed and not processes()[0]:
            roads.keep(parts / f"{method}-0.npz", method, answering, backbone, seen, protocol)
        return values

    return kept(parts, f"{method}-{seed}", measure)

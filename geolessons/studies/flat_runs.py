"""The command line of the studies on Flat-LoRA's own protocols: many arms and seeds, to one result file.

A study is stopped by Ctrl-C, or killed, and the same command goes on: from finished seeds, within a seed from
finished arms, within an arm from its newest checkpoint.  All of that lies in OUT.parts until OUT is written.
Several GPUs: `accelerate launch -m geolessons.studies.flat_lora_t5 …`; the processes share the paper's batch.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch

from geolessons.studies.flat_protocol import Protocol, Task, arm_of
from geolessons.studies.flat_training import train
from geolessons.studies.record import Found, deliver, run, source_digest
from geolessons.studies.running import Machine, kept, leads, processes

__all__ = ["NO_REPLICATION", "compared_with", "main", "parser", "pretrained", "reason"]

NO_REPLICATION = "generated data and a tiny random network: shows that the study runs, replicates nothing"
READINGS = """readings:
  Where the paper is silent, both do what the published code does (flat_protocol.py says what).
  paper  the numbers of the paper; all processes share one draw of noise a step
  code   where the code differs, its numbers: {}; no weight decay;
         each process draws a noise of its own.  Not taken over, as they are faults: noise from the clock,
         a weight that drifts as noise is added and subtracted, and accumulation that loses its phase."""


def parser(
    name: str, doc: str | None, data: tuple[str, ...], model: str, code: str
) -> argparse.ArgumentParser:
    """The options that both studies have.

    Args:
        name: Of the study's module.
        doc: Its description.
        data: The paper's data sets.
        model: Default of `--model`.
        code: What the published code's training numbers are, in words.
    """
    made = argparse.ArgumentParser(
        prog=f"python -m geolessons.studies.{name}",
        description=doc,
        epilog=READINGS.format(code),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("--data", choices=data, default=data[0], help=f"default {data[0]}")
    add("--reading", choices=("paper", "code"), default="paper", help="see below; default paper")
    add("--arms", nargs="+", metavar="ARM", help="which arms; default those of the paper's table")
    add("--seeds", type=int, default=3, help="how many repetitions (default 3, the paper's)")
    add("--model", default=model, help=f"name on the Hugging Face hub, or a folder (default {model})")
    add("--tokenizer", help="the same for the tokeniser; default that of --model")
    add("--offline", action="store_true", help="fetch nothing: weights and data must be on disk")
    add("--tiny", action="store_true", help=f"{NO_REPLICATION}; seconds on a CPU")
    add("--epochs", type=int, help="instead of the protocol's")
    add("--batch", type=int, help="examples a step, all processes together, instead of the protocol's")
    add("--accumulate", type=int, default=1, help="read a step's batch in so many parts (default 1)")
    add("--precision", choices=("no", "bf16", "fp16"), default="no", help="of the forward pass (default no)")
    add("--workers", type=int, default=0, help="processes that read data (default 0)")
    add("--cpu", action="store_true", help="stay on the processor")
    add("--out", type=Path, help="JSON file to write; without it the result goes to the screen")
    made.set_defaults(paper_model=model)
    return made


def pretrained(kind: str, options: argparse.Namespace) -> tuple[Any, Any]:
    """Network and tokeniser from the Hugging Face hub or from folders, in float32.

    Args:
        kind: Name of a class of transformers.
        options: As `parser` read them.

    Raises:
        ValueError: That says what is missing and what would help.
    """
    only = {"local_files_only": options.offline}
    try:
        import transformers

        model = getattr(transformers, kind).from_pretrained(options.model, **only).float()
        tokenizer = transformers.AutoTokenizer.from_pretrained(options.tokenizer or options.model, **only)
    except Exception as error:  # what a hub raises hangs on its version
        raise ValueError(
            f"--model {options.model} cannot be loaded: {reason(error)}\n"
            'It needs `pip install "geolessons[papers]"` and a network, or --model (and --tokenizer) with a '
            "folder that save_pretrained wrote; --tiny runs without either"
        ) from error
    return model, tokenizer


def reason(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def compared_with(name: str) -> str | None:
    """The arm that an arm is compared with: its own without noise, LoRA of rank 8 for the rest.

    Example:
        >>> compared_with("dora.0.05"), compared_with("dora.0"), compared_with("r8.0")
        ('dora.0', 'r8.0', None)
    """
    if name == "r8.0":
        return None
    return f"{name.partition('.')[0]}.0" if arm_of(name).sigma else "r8.0"


def main(
    name: str,
    options: argparse.Namespace,
    protocol: Protocol,
    arms: tuple[str, ...],
    prepare: Callable[[], Task],
    printed: dict[str, str],
) -> None:
    """Measure all arms on all seeds and write the result.

    Args:
        name: Of the study's module.
        options: As `parser` read them.
        protocol: The numbers of the reading asked for.
        arms: The default arms.
        prepare: Loads network and data, or says by a ValueError what is missing.
        printed: What the paper prints, by arm: mean and deviation of accuracy, in percent.
    """
    prog = f"python -m geolessons.studies.{name}"
    try:
        result = _measured(name, options, protocol, tuple(options.arms or arms), prepare)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"{prog}: {error}")
    except KeyboardInterrupt:
        advice = f"{options.out}.parts keeps what is done: the same command goes on" if options.out else ""
        sys.exit(f"{prog}: stopped.  {advice or 'Nothing is kept without --out.'}")
    shown = {} if options.tiny else {key: printed[key] for key in result["arms"] if key in printed}
    result |= {"printed": shown}
    if leads():
        deliver(result, options.out)


def _measured(
    name: str,
    options: argparse.Namespace,
    protocol: Protocol,
    arms: tuple[str, ...],
    prepare: Callable[[], Task],
) -> dict[str, Any]:
    for one in arms:
        arm_of(one)
    if len(set(arms)) < len(arms):
        raise ValueError(f"--arms {' '.join(arms)} names an arm twice")
    given = {key: value for key in ("epochs", "batch") if (value := getattr(options, key)) is not None}
    if wrong := [f"--{key} {value}" for key, value in given.items() if value < 1]:
        raise ValueError(f"{', '.join(wrong)} must be 1 or more")
    printed, protocol = protocol, replace(protocol, **given)
    machine = Machine(**{f.name: getattr(options, f.name) for f in fields(Machine)})
    task = prepare()
    settings = {key: str(getattr(options, key)) for key in ("data", "reading", "tiny", "precision")}
    settings |= {key: str(value) for key, value in task.facts.items()}
    settings |= {f"protocol's {key}": str(value) for key, value in asdict(protocol).items()}
    parts = Path(f"{options.out}.parts") if options.out else None
    stamp = json.dumps([source_digest(), settings])
    place = parts / hashlib.sha256(stamp.encode()).hexdigest()[:8] if parts else None

    def arm_values(one: str, seed: int) -> Found:
        def measure(checkpoints: Path | None) -> Found:
            return train(task, protocol, one, seed, machine=machine, checkpoints=checkpoints)

        return kept(place, f"{one}-{seed}", measure)

    def one_seed(seed: int, **_: str) -> Found:
        by_arm = {one: arm_values(one, seed) for one in arms}
        found: Found = {f"{one}.{key}": v for one, values in by_arm.items() for key, v in values.items()}
        for one in arms:
            other = compared_with(one)
            for key in ("accuracy", "matthews") if other in by_arm else ():
                if key in by_arm[one]:
                    difference = float(by_arm[one][key]) - float(by_arm[str(other)][key])  # type: ignore[arg-type]
                    found[f"{one}.minus {other}.{key}"] = difference
        return found

    seeds = place / "seeds" / hashlib.sha256(" ".join(arms).encode()).hexdigest()[:8] if place else None
    result = run(name, one_seed, options.seeds, parts=seeds, settings=settings)
    found = None if machine.cpu else torch.accelerator.current_accelerator(check_available=True)
    device = torch.cuda.get_device_name() if found and found.type == "cuda" else str(found or "cpu")
    result["provenance"] |= {
        "device": device,
        "processes": processes()[1],
        "machine": asdict(machine),
        "versions": {package: _version(package) for package in ("transformers", "peft", "accelerate")},
    }
    departures = [
        f"{key} {here}, the protocol's is {theirs}"
        for key, here, theirs in (
            ("model", options.model, options.paper_model),
            *((key, getattr(protocol, key), getattr(printed, key)) for key in given),
        )
        if here != theirs
    ]
    what = NO_REPLICATION if options.tiny else "replication: " + ("; ".join(departures) or "as the protocol")
    return result | {"what": what, "arms": list(arms), "protocol": asdict(protocol)}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None

"""Four dense tasks at once: does the softmax field beat LoRA at equal size, and what does each way cost?

Chapter 4.  Expected on one core, scenes: the backbone 12 min, once; a seed of all nine methods 45 min.

The full protocol of PASCAL-Context, for one or several GPUs:

    accelerate launch -m geolessons.studies.multitask --data pascal --root PASCAL_MT
        --weights IMAGENET1K_V1 --precision bf16 --workers 8 --out pascal.json

It was never run on the real pictures.  By count, a picture takes 106 GFLOP forward and backward and keeps
0.42 GiB in float32 (MTLoRA 139 and 1.1), so a batch of 32 wants 14 GiB (36) beside the weights.  A method
reads 1.5 million pictures in training: at ten a second and worker, 8 workers need 5 hours for it.  Four of
the methods are graded at 11 points of their road as well, 11 passes over the pictures that are graded.

A run is stopped by Ctrl-C, or killed, and the same command goes on: from finished methods, within a method
from its newest checkpoint.  All of that lies in OUT.parts until OUT is written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from geolessons.studies.multitask.methods import METHODS
from geolessons.studies.multitask.protocol import DATA
from geolessons.studies.multitask.roads import bundle
from geolessons.studies.multitask.seeds import NO_REPLICATION, measured
from geolessons.studies.record import deliver
from geolessons.studies.running import leads, processes


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    options = _parser().parse_args(argv)
    prog = "python -m geolessons.studies.multitask"
    if processes()[1] == 1:
        torch.set_num_threads(1)
    try:
        result = measured(options)
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
        sys.exit(f"{prog}: {error}")
    except KeyboardInterrupt:
        kept = f"{options.out}.parts keeps what is done: the same command goes on" if options.out else ""
        sys.exit(f"{prog}: stopped.  {kept or 'Nothing is kept without --out.'}")
    if leads():
        parts = result.pop("parts")
        if parts:
            bundle(parts, result["methods"], options.out.with_suffix(".npz"))
        deliver(result, options.out)


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m geolessons.studies.multitask",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("--data", choices=DATA, default=DATA[0], help=f"default {DATA[0]}")
    add(
        "--method",
        nargs="+",
        metavar="METHOD",
        default=list(METHODS),
        help=f"of {', '.join(METHODS)}; default all",
    )
    add("--seeds", type=int, default=3, help="how many repetitions (default 3)")
    add("--jobs", type=int, default=1, help="how many of them side by side, on the CPU (default 1)")
    add("--root", type=Path, help="folder of the photographs: PASCAL_MT as extracted, or what holds ccp")
    add(
        "--weights",
        help="torchvision's name of Swin-Tiny's weights (IMAGENET1K_V1), for pascal; without it random",
    )
    add("--backbone", type=Path, help="file of the small Swin's weights, made if it is not there")
    for name in ("train", "val", "epochs", "batch", "size", "rank"):
        add(f"--{name}", type=int, help="instead of the protocol's")
    add("--lr", type=float, help="the same")
    add("--full-lr", type=float, help="the same")
    add("--tiny", action="store_true", help=NO_REPLICATION)
    add("--accumulate", type=int, default=1, help="read a step's batch in so many parts (default 1)")
    add("--precision", choices=("no", "bf16", "fp16"), default="no", help="of the forward pass (default no)")
    add("--workers", type=int, default=0, help="processes that read photographs (default 0)")
    add("--cpu", action="store_true", help="stay on the processor")
    add(
        "--out",
        type=Path,
        help="JSON file to write, and beside it predictions, .npz; without it the result goes to the screen",
    )
    return made


if __name__ == "__main__":
    main()

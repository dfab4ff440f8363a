"""Four dense tasks: a training step of each way to tune, and one inference for all beside four networks.

    OMP_NUM_THREADS=1 python benchmarks/multitask.py [--quick] [--repeat 9] [--device cuda] [--out FILE.json]

Steps are of the study's small Swin at 64 px (`--tiny-swin`: Swin-Tiny at 224), batches of 8 rendered scenes:
forward, the benchmark's four losses, backward.  Time stands beside joint LoRA's, and what autograd keeps
beside that of full fine-tuning.  Peak memory is given on a GPU, where it can be read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from timing import Row, arguments, circumstances, clock_of, report, rounds, row_of_times

from geolessons.attaching import merge_
from geolessons.data.scenes import scenes
from geolessons.models.multitask import MultiTask, swin, swin_tiny
from geolessons.studies.multitask.backbone import DEPTHS
from geolessons.studies.multitask.methods import METHODS, ready, trainings
from geolessons.studies.multitask.training import kept_bytes, loss

OUTPUTS = {"semseg": 7, "human_parts": 7, "saliency": 1, "normals": 3}
RANK = 8


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Measure, print, write."""
    parser = arguments(__doc__)
    parser.add_argument("--tiny-swin", action="store_true", help="Swin-Tiny at 224 px, full decoders")
    options = parser.parse_args(argv)
    if options.device == "cpu":
        torch.set_num_threads(1)
    repeat = options.repeat or (1 if options.quick else 9)
    size = 224 if options.tiny_swin else (32 if options.quick else 64)
    drawn = scenes(2 if options.quick else 8, size, seed=0)
    batch = tuple(x.to(options.device) for x in drawn)
    methods = ("single", "full", "lora", "literal", "mtlora") if options.quick else METHODS
    networks = {
        method: [_ready(options, method, tasks) for tasks in trainings(method, OUTPUTS)] for method in methods
    }
    steps: dict[str, Callable[[], Any]] = {
        method: (lambda made=made: [_step(answers, batch) for answers in made])
        for method, made in networks.items()
    }
    times = rounds(steps, repeat, options.device)
    clock = clock_of(options)
    rows = [row_of_times(f"step, {method}", times, method, "lora", clock) for method in methods]
    kept = {method: max(kept_bytes(answers, batch) for answers in made) for method, made in networks.items()}
    for method in methods:
        value, other = (kept[name] / 2**20 for name in (method, "full"))
        rows.append(Row(f"kept, {method}", value, "MB", "full", other, value / other, None))
    if torch.device(options.device).type == "cuda":
        rows += [_peak(method, networks[method], batch, options.device) for method in methods]
    rows += _inference(options, batch[0], repeat)
    report("Four dense tasks", rows, _told(options), options.out)
    return rows


def _ready(options: Any, method: str, tasks: tuple[str, ...]) -> Any:
    g = torch.Generator().manual_seed(0)
    network = swin_tiny(g) if options.tiny_swin else swin(g, depths=DEPTHS)
    model = MultiTask(network, g, outputs=OUTPUTS, narrow=1 if options.tiny_swin else 6)
    return ready(model, method, RANK, tasks, g).to(options.device).train()


def _step(answers: Any, batch: Any) -> None:
    loss(answers, batch).backward()
    answers.zero_grad()


def _peak(method: str, made: list[Any], batch: Any, device: str) -> Row:
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    for answers in made:
        _step(answers, batch)
    peak = (torch.cuda.max_memory_allocated(device) - before) / 2**20
    return Row(f"peak, {method}", peak, "MB", "", None, None, None)


def _inference(options: Any, image: torch.Tensor, repeat: int) -> list[Row]:
    """One network for four tasks, adapters merged, beside one network a task and an inference for each."""
    joint = _ready(options, "lora", tuple(OUTPUTS)).eval()
    merge_(joint.model)
    each = _ready(options, "lora-each", tuple(OUTPUTS)).eval()
    four = [_ready(options, "single", (task,)).eval() for task in OUTPUTS]
    with torch.no_grad():
        times = rounds(
            {
                "one inference, four tasks": lambda: joint(image),
                "an inference a task": lambda: each(image),
                "four networks": lambda: [answers(image) for answers in four],
            },
            repeat,
            options.device,
        )
    clock = clock_of(options)
    return [row_of_times(name, times, name, "four networks", clock) for name in times.wall]


def _told(options: Any) -> dict[str, Any]:
    return circumstances(options, ["torch", "torchvision"]) | {"rank": RANK, "tiny_swin": options.tiny_swin}


if __name__ == "__main__":
    main()

"""Runs of `fit` in processes of their own, to be killed and to be run in pairs.

`python processes.py killed FOLDER` and `python processes.py pairs FOLDER` print what came out, as JSON.
PyTorch is imported once and each run is a fork, as fresh as a new process, without the seconds of imports.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from itertools import count
from pathlib import Path

import accelerate  # noqa: F401 (before the forks)
import torch
from torch import nn

from geolessons import checkpoints
from geolessons.attaching import attach
from geolessons.geodesics import GeodesicLoRA, set_t
from geolessons.seeding import seeded
from geolessons.training import fit, read_in_batches

Step = Callable[[int], None]


def nothing(i: int) -> None:
    pass


def train(
    folder: Path | None,
    on_step: Step = nothing,
    *,
    dropout: float = 0.2,
    examples: int = 38,
    batch: int = 4,
    **options: object,
) -> dict:
    """What a run of adapters on the arc ends with: steps 5 an epoch, the last of them shorter, 15 in all."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(examples, 4, generator=draw, dtype=torch.float64)
    y = x.square().sum(1, keepdim=True)
    with seeded(0):
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(dropout), nn.Linear(6, 1)).double()

    def make(name: str, W: torch.Tensor) -> GeodesicLoRA:
        return GeodesicLoRA(W.shape, 1, t=0.1, dropout=dropout, generator=draw, dtype=W.dtype)

    attach(model, "*", make)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    drawn = []

    def before(i: int, N: int) -> None:
        drawn.append(torch.rand(1).item())
        set_t(model, i / N)
        on_step(i)

    history = fit(
        model,
        lambda model, batch: (model(batch[0]) - batch[1]).square().mean(),
        read_in_batches(x, y, batch=batch, generator=draw),
        optimiser,
        schedule=torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 15),
        on_step=before,
        checkpoints=folder,
        **{"epochs": 3, "accumulate": 2, "clip": 1.0, "every": 3, "cpu": True} | options,
    )
    measured = {name: value for name, value in asdict(history).items() if name != "seconds"}
    content = hashlib.sha256(json.dumps(measured).encode())
    for state in (model.state_dict(), *optimiser.state.values()):
        for tensor in state.values():
            content.update(tensor.detach().numpy().tobytes())
    weights = torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()
    return {"digest": content.hexdigest(), "weights": weights, "drawn": drawn, **measured}


def fork(work: Callable[[], object]) -> int:
    """Do work in a new process, which ends without any of this one's cleaning up."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def end(*children: int) -> list[int]:
    """How processes ended, signals negative.  If one fails the others are not waited for."""
    ended: dict[int, int] = {}
    while len(ended) < len(children):
        child, status = os.waitpid(-1, 0)
        ended[child] = os.waitstatus_to_exitcode(status)
        if ended[child]:
            for other in set(children) - set(ended):
                os.kill(other, signal.SIGKILL)
    return [ended[child] for child in children]


def finish(folder: Path, **options: object) -> str:
    """The digest of a run that is left alone."""
    out = folder.with_suffix(".json")
    assert end(fork(lambda: out.write_text(json.dumps(train(folder, **options))))) == [0]
    return json.loads(out.read_text())["digest"]


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_while_writing(place: int) -> None:
    """Kill this process at one of the places where writing a checkpoint can be cut off, counted from 1."""
    places = count(1)

    def perhaps_die() -> None:
        if next(places) == place:
            kill_me()

    def before(owner: object, name: str) -> None:
        act = getattr(owner, name)

        def acting(*args: object, **options: object) -> object:
            perhaps_die()
            return act(*args, **options)

        setattr(owner, name, acting)

    def halfway(owner: object, name: str) -> None:
        write = getattr(owner, name)

        def writing(*args: object, **options: object) -> None:
            write(*args, **options)
            path = next(Path(arg) for arg in args if isinstance(arg, str | Path))
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) // 2])
            perhaps_die()
            path.write_bytes(whole)

        setattr(owner, name, writing)

    for owner, name in ((os, "mkdir"), (os, "replace"), (os, "rmdir"), (shutil, "rmtree")):
        before(owner, name)
    halfway(torch, "save")
    halfway(checkpoints, "_write")


def killed(folder: Path) -> dict:
    """Kill runs at every place of a checkpoint's writing, and at any time; let each be finished."""

    def at(steps: dict[int, Callable[[], None]]) -> Step:
        return lambda i: steps[i]() if i in steps else None

    begun = folder / "begun"  # holds the checkpoints of steps 3 and 6
    assert end(fork(lambda: train(begun, at({8: kill_me})))) == [-signal.SIGKILL]
    found: dict = {"undisturbed": finish(folder / "undisturbed"), "writing": [], "left": [], "anytime": []}
    for place in range(1, 60):
        run = folder / f"place{place}"
        shutil.copytree(begun, run)
        ways = {9: lambda place=place: die_while_writing(place), 11: kill_me}
        assert end(fork(lambda run=run, ways=ways: train(run, at(ways)))) == [-signal.SIGKILL]
        left = sorted(path.name for path in run.iterdir())
        found["left"].append(left)
        found["writing"].append(finish(run))
        if left == ["step-00000006", "step-00000009"]:
            break  # all places are behind, or the last of them: it came to step 11
    pause = random.Random(0)
    for trial in range(2):
        run = folder / f"anytime{trial}"
        for _ in range(3):
            child = fork(lambda run=run: train(run, lambda i: time.sleep(0.02), every=1))
            time.sleep(pause.uniform(0.05, 0.4))
            os.kill(child, signal.SIGKILL)
            end(child)
        found["anytime"].append(finish(run, every=1))
    return found


def pair(work: Callable[[int], object]) -> list[int]:
    """Do work in two processes that know of each other, as `accelerate launch` would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def of(rank: int) -> None:
        here = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        os.environ.update({name: str(value) for name, value in here.items()})
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        work(rank)

    return end(*(fork(lambda rank=rank: of(rank)) for rank in range(2)))


def pairs(folder: Path) -> dict:
    """What both of two processes end with: left alone, killed or interrupted, and called again."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also if this process was started deaf to it

    def both(name: str, run: Path | None, disturb: Callable[[int, int], None], **options: object) -> list:
        def work(rank: int) -> None:
            out = folder / f"{name}{rank}.json"
            out.write_text(json.dumps(train(run, lambda i: disturb(rank, i), **options)))

        ended = pair(work)
        if any(ended):
            return ended
        return [json.loads((folder / f"{name}{rank}.json").read_text()) for rank in range(2)]

    def alone(rank: int, i: int) -> None:
        pass

    def kill(rank: int, i: int) -> None:
        if i == 5:
            kill_me()

    def interrupt(rank: int, i: int) -> None:
        if (rank, i) == (1, 4):
            signal.raise_signal(signal.SIGINT)

    def starve(rank: int) -> None:
        data, model = torch.utils.data.TensorDataset(torch.zeros(4, 1)), nn.Linear(1, 1)
        loader = torch.utils.data.DataLoader(data, 4, drop_last=True, generator=torch.Generator())
        try:
            fit(
                model,
                lambda m, b: m(b[0]).sum(),
                loader,
                torch.optim.SGD(model.parameters()),
                epochs=1,
                cpu=True,
            )
        except ValueError as error:
            (folder / f"starved{rank}.txt").write_text(str(error))

    pair(starve)
    return {
        "one batch": [path.read_text() for path in folder.glob("starved*")],
        "without dropout": both("without", None, alone, dropout=0.0, examples=40),
        "undisturbed": both("undisturbed", folder / "undisturbed", alone),
        "killed": both("killed", folder / "killed", kill),
        "killed, again": both("killed again", folder / "killed", alone),
        "interrupted": both("interrupted", folder / "interrupted", interrupt),
        "interrupted, again": both("interrupted again", folder / "interrupted", alone),
    }


if __name__ == "__main__":
    which, where = sys.argv[1:]
    train(None)  # imports what PyTorch imports late
    print(json.dumps({"killed": killed, "pairs": pairs}[which](Path(where))))

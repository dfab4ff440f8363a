"""Runs one exercise of a stranger, apart, and hands back data: the process on the far side of `isolation`.

PyTorch is imported once, by a process that never sees a submission.  For each exercise that process forks a
supervisor, which confines a child and ends it, with all that it left behind, when it is done or late.  The
child runs the setup, the student's cells and the probe, and writes what the probe returns to a file that has
no name.  Requests and answers are open files, handed over; the first process never reads them.

What this keeps, and what not: no expected value is here to be found, and nothing that is printed is kept.  A
submission can look for the answer file and write to it, or read the inputs of the probe that calls it; to
gain a mark by that, it must write the right values, which is the exercise.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

if (
    __name__ == "__main__"
):  # run by its path, so that neither the folder nor the environment says what is imported
    sys.path.append(str(Path(__file__).parents[2]))

from geolessons.coursework import confinement, processes

__all__ = ["serve", "supervise"]

TICK, LOOK = 0.01, 0.1  # seconds between looks at the clock, at the memory
CLEAN = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "OMP_WAIT_POLICY": "PASSIVE"}
CLEAN |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def serve(control: socket.socket, modules: list[str]) -> None:
    """Import what will be needed, then fork a supervisor for each order that comes, until none can come."""
    import torch

    torch.set_num_threads(1)
    for name in ("geolessons.coursework.answers", *modules):
        with contextlib.suppress(Exception):  # what is missing is missed where it is used
            importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # supervisors are not waited for here
    processes.adopt_orphans()  # of a supervisor that a submission has ended
    control.send(b"r")
    while True:
        word, files, _, _ = socket.recv_fds(control, 1, 3)
        if not word:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return processes.end_all()
        if not os.fork():
            control.close()
            _last(functools.partial(supervise, *files))
        for file in files:
            os.close(file)


def supervise(life: int, request: int, answer: int) -> None:
    """Have one exercise run, and see to its end.

    Args:
        life: A socket: the limits come from it in one line, and when its other side closes, all ends; it gets
            a line on how it ended, when no process is left.
        request: A file, see `answers.run`.
        answer: A file to write to.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with socket.socket(fileno=life) as link:
        order = json.loads(link.makefile("rb").readline())
        processes.adopt_orphans()
        confined, ready = os.pipe()
        started, own = time.monotonic(), False
        why = ""
        with contextlib.suppress(OSError):
            if order["rung"] == "namespaces":
                own = confinement.leave()
            child = os.fork()
            if not child:
                _last(lambda: _exercise(order, own, request, answer, ready))
            why = _watch(child, link, order)
        processes.end_all()
        os.close(ready)
        if not os.read(confined, 1):
            why = "unconfined"
        with contextlib.suppress(OSError):
            link.sendall(json.dumps({"why": why, "seconds": time.monotonic() - started}).encode() + b"\n")


def _watch(child: int, link: socket.socket, order: dict[str, Any]) -> str:
    """Wait for a child's end, too much time or memory, or the other side's end; say which it was."""
    own, started, looked = processes.memory_of([os.getpid()]), time.monotonic(), 0.0
    while True:
        now = time.monotonic()
        if now > started + order["patience"]:
            return "time"
        if now > looked + LOOK:
            looked, here = now, processes.offspring(os.getpid())
            if sum(map(processes.seconds_of, here)) > order["seconds"]:
                return "time"
            if processes.memory_of(here) - own * len(here) > order["memory"]:
                return "memory"
        with contextlib.suppress(ChildProcessError):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                late = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU
                return "time" if late else "ended" if status else ""
        if select.select([link], [], [], TICK)[0]:
            return "stopped"


def _exercise(order: dict[str, Any], own: bool, request: int, answer: int, ready: int) -> None:
    """Give up what is not needed, and run the exercise.

    Where there is a space of processes, this is its first: when it ends, the kernel ends all others in it.
    """
    os.setsid()
    confinement.confine(order, own=own)
    processes.end_with_parent()
    os.write(ready, b"1")
    null = os.open("/dev/null", os.O_RDWR)
    for file in range(3):
        os.dup2(null, file)
    last = 2
    for file in sorted((request, answer)):
        os.closerange(last + 1, file)
        last = file
    os.closerange(last + 1, 4096)
    os.environ.clear()
    os.environ.update(CLEAN, HOME=os.getcwd(), TMPDIR=os.getcwd())
    from geolessons.coursework import answers

    answers.run(request, answer)


def _last(work: Any) -> None:
    """Do this and end, without any cleaning up."""
    try:
        work()
        os._exit(0)
    except BaseException:
        os._exit(1)


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    serve(socket.socket(fileno=settings["control"]), settings["modules"])

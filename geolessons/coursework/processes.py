"""The processes below one: to find them, to count what they use, and to end every one of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from geolessons.coursework.confinement import LINUX, call

__all__ = ["adopt_orphans", "end_all", "end_with_parent", "memory_of", "offspring", "seconds_of"]

PARENT_DEATH, SUBREAPER = 1, 36  # of prctl


def end_with_parent() -> None:
    """Be killed when the parent ends, however that comes about; to be said after a change of user."""
    if LINUX:
        call("prctl", PARENT_DEATH, signal.SIGKILL, 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of processes whose own parent in this tree has ended, so that they can be found."""
    if LINUX:
        call("prctl", SUBREAPER, 1, 0, 0, 0)


def offspring(of: int) -> list[int]:
    """The processes below one."""
    children: dict[int, list[int]] = {}
    if LINUX:
        listed = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):  # gone meanwhile
                fields = Path(f"/proc/{entry}/stat").read_text(errors="replace").rpartition(")")[2].split()
                listed.append((int(entry), int(fields[1])))
    else:
        text = subprocess.run(
            ["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=False
        ).stdout
        pairs = (line.split() for line in text.splitlines())
        listed = [(int(child), int(parent)) for child, parent in pairs]
    for child, parent in listed:
        children.setdefault(parent, []).append(child)
    found, ahead = [], [of]
    while ahead:
        below = children.get(ahead.pop(), [])
        found += below
        ahead += below
    return found


def seconds_of(process: int) -> float:
    """Of processor time that a process and its children that have ended have used."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0


def memory_of(processes: Iterable[int]) -> int:
    """Bytes that processes hold alone or share by fork, which counts shared ones once for each."""
    pages = 0
    for process in processes:
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = Path(f"/proc/{process}/statm").read_text().split()
            pages += int(fields[1]) - int(fields[2])
    return pages * os.sysconf("SC_PAGE_SIZE")


def end_all() -> None:
    """End every process below this one; wait until none is there."""
    while True:
        for process in offspring(os.getpid()):
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.002)

"""Where submissions run: the best kind of isolation that this machine has, of four, and what it leaves open.

    bubblewrap     a sandbox of its own for each submission, by `bwrap`
    namespaces     the same by Linux's namespaces, for each exercise
    landlock       no files but Python's and a scratch folder; processes are seen, and only TCP is shut
    limits         time, memory, sizes of files, and an end for every process that stays behind

In all four a submission has a scrubbed environment, a scratch folder that is removed, nowhere to print to,
and one thread.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from geolessons.coursework import answers
from geolessons.coursework.worker import CLEAN

__all__ = ["KINDS", "Ended", "Jail", "Limits", "best", "sentence"]

KINDS = {
    "bubblewrap": "bubblewrap: each submission has a sandbox of its own, without network, other files or "
    "hidden checks. Not covered: faults of the kernel; exercises of one submission share a sandbox.",
    "namespaces": "Linux namespaces: each exercise has a root folder of its own, without network, other "
    "files or hidden checks. Not covered: faults of the kernel.",
    "landlock": "Landlock: no file but Python's and the library's can be read, none written outside a "
    "scratch folder. Not covered: network other than TCP; names of running programs; faults of the kernel.",
    "limits": "limits of time and memory alone. Not covered: network, and all that your user may read, "
    "write or end, solved notebooks included. Only for people you trust.",
}
WORKER, TRIAL = (str(Path(__file__).with_name(f"{name}.py")) for name in ("worker", "confinement"))
PATIENCE = 4
GRACE, START = 10, 120  # seconds for what is not the submission's own work: ending it, importing PyTorch


class Limits(NamedTuple):
    """What a submission may use up.

    Attributes:
        seconds: Processor time of one exercise; on the clock it may take `PATIENCE` times as long, so that a
            busy machine costs nobody marks.
        memory: Bytes, beyond those that Python with PyTorch takes.
        written: Bytes of files, the answer among them.
        processes: Processes and threads at a time.
    """

    seconds: float = 20.0
    memory: int = 4 << 30
    written: int = 64 << 20
    processes: int = 64


class Ended(NamedTuple):
    """How an exercise ended, and what it answered.

    Attributes:
        why: Nothing if it came to its end; else "time", "memory" or "ended".
        seconds: That it took.
        answers: Bytes, for `answers.frames`.
    """

    why: str
    seconds: float
    answers: bytes


def sentence(kind: str) -> str:
    """One line: which isolation is in force, and what it does not cover."""
    as_root = kind == "limits" and os.geteuid() == 0
    return f"Isolation: {KINDS[kind]}{' And this is root.' if as_root else ''}"


@functools.cache
def best(wanted: str = "auto") -> str:
    """The best kind of isolation that works here.

    Args:
        wanted: One kind, or "auto".

    Raises:
        ValueError: If there is no such kind, or it does not work here.
    """
    if wanted not in ("auto", *KINDS):
        raise ValueError(f"isolation={wanted!r} must be auto, {', '.join(KINDS)}")
    for kind in KINDS if wanted == "auto" else (wanted,):
        with tempfile.TemporaryDirectory() as place:
            inner = "limits" if kind == "bubblewrap" else kind
            trial = {"rung": inner, "place": place, "readable": _readable(), "masked": []}
            run = _python(kind, [], TRIAL, json.dumps({**trial, **Limits()._asdict()}))
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                if not subprocess.run(
                    run, env=CLEAN, capture_output=True, timeout=30, check=False
                ).returncode:
                    return kind
    raise ValueError(f"isolation={wanted!r} does not work on this machine")


def _readable() -> list[str]:
    """What a submission may read: this Python, its packages, the library."""
    found = {sys.prefix, sys.base_prefix, sys.exec_prefix, str(Path(__file__).parents[1])}
    found |= {os.path.realpath(path) for path in found} | {os.path.realpath(sys.executable)}
    found = {path for path in found if not Path(path).is_relative_to("/usr")}
    return sorted(p for p in found if not any(Path(p).is_relative_to(q) for q in found - {p}))


def _python(kind: str, masked: Iterable[str], *arguments: str) -> list[str]:
    """The command that starts Python, in a sandbox if that is the kind."""
    run = [sys.executable, "-I", "-B", *arguments]
    if kind != "bubblewrap":
        return run
    box = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--die-with-parent", "--new-session"]
    box += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    for path in ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime"):
        if os.path.islink(path) and path.count("/") == 1:
            box += ["--symlink", os.readlink(path), path]
        else:
            box += ["--ro-bind-try", path, path]
    shown = _readable()
    for path in shown:
        box += ["--ro-bind", path, path]
    for path in _inside(masked, shown):
        box += ["--tmpfs", path] if os.path.isdir(path) else ["--ro-bind", "/dev/null", path]
    return [*box, "--chdir", "/tmp", "--", *run]


def _inside(paths: Iterable[str], folders: Iterable[str]) -> list[str]:
    """The paths that are in one of these folders."""
    return [
        p for p in paths if any(Path(p).is_relative_to(f) for f in (*folders, "/usr")) and os.path.exists(p)
    ]


class Jail:
    """A place to run exercises in, one at a time; for one thread.

    Args:
        kind: Of isolation, one that works here.
        limits: For each submission.
        modules: To import once, before any submission is there.
        masked: Files and folders that a submission must not see even where Python's own are.

    Raises:
        RuntimeError: If the worker cannot be started, or cannot be confined.
    """

    def __init__(
        self, kind: str, limits: Limits, *, modules: Iterable[str] = (), masked: Iterable[str | Path] = ()
    ) -> None:
        self.kind, self.limits, self._modules = kind, limits, sorted(set(modules))
        self._masked = [os.path.realpath(path) for path in masked]
        self._worker: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._closed = False

    def __enter__(self) -> Jail:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker and all below it, for good."""
        self._closed = True
        self._end()

    def next_submission(self) -> None:
        """Keep nothing that the last submission may have changed."""
        if self.kind == "bubblewrap":
            self._end()

    def run(self, first: dict[str, Any], second: dict[str, Any]) -> Ended:
        """Run one exercise.

        Args:
            first: See `answers.evaluate`.
            second: See there.
        """
        with contextlib.ExitStack() as stack:
            place = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            request, answer = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(2))
            request.write(answers.frame(first) + answers.frame(second))
            request.flush()
            order = {**self.limits._asdict(), "patience": PATIENCE * self.limits.seconds}
            order |= {"rung": self.kind, "place": place}
            order |= {"readable": _readable(), "masked": _inside(self._masked, _readable())}
            if self.kind == "bubblewrap":  # the worker is inside already, where there is another /tmp
                order |= {"rung": "limits", "place": "/tmp" + place.replace("/", "_")}
            ended = self._ordered(order, request.fileno(), answer.fileno())
            if self._closed:
                raise RuntimeError("the jail was closed while an exercise ran")
            if ended is None:
                self._end()
                return Ended("ended", 0.0, b"")
            if ended["why"] == "unconfined":
                raise RuntimeError(f"isolation by {self.kind} failed, so nothing was run: {ended}")
            answer.seek(0)
            return Ended(ended["why"], ended["seconds"], answer.read(self.limits.written))

    def _ordered(self, order: dict[str, Any], request: int, answer: int) -> dict[str, Any] | None:
        """What the supervisor says when no process is left; None if it cannot say anything any more."""
        near, far = socket.socketpair()
        with near, contextlib.suppress(OSError, ValueError):
            with far:
                socket.send_fds(self._started(), [b"x"], [far.fileno(), request, answer])
            near.settimeout(order["patience"] + GRACE)
            near.sendall(json.dumps(order).encode() + b"\n")
            return json.loads(near.makefile("rb").readline())
        return None

    def _started(self) -> socket.socket:
        """The socket of a worker that is there and ready."""
        if self._control is not None and self._worker is not None and self._worker.poll() is None:
            return self._control
        self._end()
        self._control, far = socket.socketpair()
        with far:
            settings = json.dumps({"control": far.fileno(), "modules": self._modules})
            self._worker = subprocess.Popen(
                _python(self.kind, self._masked, WORKER, settings),
                env=CLEAN,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[far.fileno()],
                start_new_session=True,
            )
        self._control.settimeout(START)
        try:
            ready = self._control.recv(1)
        except TimeoutError:
            ready = b""
        if not ready:
            raise RuntimeError(f"the worker for {self.kind} did not start within {START} s")
        return self._control

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._worker is not None:
            try:
                self._worker.wait(GRACE)
            except subprocess.TimeoutExpired:
                self._worker.kill()
                self._worker.wait()
        self._control = self._worker = None

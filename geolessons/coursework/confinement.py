"""What a process does to itself before it runs a stranger's code: what it can see, use up, and leave behind.

Linux's own means, called without any helper: namespaces (a root folder with Python and the library in it, no
network, no other process), Landlock where those are not allowed, limits on memory, files and processes.
It can be run by itself, to try a kind, so it needs nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["LINUX", "call", "confine", "leave"]

LINUX = sys.platform == "linux"
NOBODY = 65534
HOME = "/desk"  # inside a root folder of our own, by a name that no real one has
USER, MOUNT, PID, NET, IPC, UTS = 0x10000000, 0x00020000, 0x20000000, 0x40000000, 0x08000000, 0x04000000
NOSUID_NODEV, REC, BIND, PRIVATE, READ_ONLY, DETACH = 6, 1 << 14, 1 << 12, 1 << 18, 1, 2
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41}
MOUNT_SETATTR, CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 442, 444, 445, 446  # the same on all machines
NO_NEW_PRIVS, BOUNDING_DROP = 38, 24
SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


def call(name: str, *values: int | bytes | None) -> int:
    """A function of libc; its error becomes an OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    long = [ctypes.c_long(v) if isinstance(v, int) else v for v in values]
    done = int(getattr(libc, name)(*long))
    if done < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return done


def _mount(source: str | None, target: str, kind: str | None = None, flags: int = 0, data: str = "") -> None:
    words = [None if v is None else os.fsencode(v) for v in (source, target, kind)]
    call("mount", *words, flags, data.encode() or None)


def confine(order: dict[str, Any], *, own: bool) -> None:
    """Do what an order says: `rung`, `place`, `readable`, `masked`, and the limits by their names.

    Args:
        order: From the grader.
        own: What `leave` returned, where it was called.

    Raises:
        OSError: If the system does not allow it.
    """
    if order["rung"] == "namespaces":
        enter(order["place"], order["readable"], order["masked"], room=order["written"], own=own)
    else:
        os.makedirs(order["place"], exist_ok=True)
        os.chdir(order["place"])
        if order["rung"] == "landlock":
            landlock(order["readable"], order["place"])
    if LINUX:
        call("prctl", NO_NEW_PRIVS, 1, 0, 0, 0)
    limit(**{name: order[name] for name in ("seconds", "memory", "written", "processes")})


def leave() -> bool:
    """Part from the network, and for children from other processes, in a user space of one's own.

    Returns:
        Whether there is a user space of one's own; root needs none, and has none.

    Raises:
        OSError: If the system does not allow it.
    """
    apart = PID | NET | IPC | UTS
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            call("unshare", apart)
            return False
    user, group = os.geteuid(), os.getegid()
    call("unshare", apart | USER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return True


def enter(place: str, readable: Iterable[str], masked: Iterable[str], *, room: int, own: bool) -> None:
    """Make a root folder in which little is seen and nothing can be changed; go there without any rights.

    Args:
        place: An empty folder to build it on; nothing is written to it.
        readable: Folders and files to be seen in it, as they are; the system's own are added.
        masked: Folders and files inside those that must not be.
        room: Bytes that may be written, into memory, under `/desk`, which is gone with the last process.
        own: What `leave` returned; without a user space of its own, the process becomes nobody in a new one.

    Raises:
        OSError: If the system does not allow it.
    """
    call("unshare", MOUNT)
    _mount(None, "/", flags=REC | PRIVATE)
    _mount("tmpfs", place, "tmpfs", NOSUID_NODEV, "size=4m,mode=755")
    for path in dict.fromkeys((*SYSTEM, *readable, *DEVICES)):
        if os.path.lexists(path):
            _show(path, place)
    for name in (HOME, "/dev/shm"):
        os.makedirs(place + name, exist_ok=True)
        _mount("tmpfs", place + name, "tmpfs", NOSUID_NODEV, f"size={room},nr_inodes=2000,mode=1777")
    if not os.path.lexists(place + "/tmp"):  # something in it may have to be seen
        os.symlink(HOME, place + "/tmp")
    os.makedirs(place + "/proc")
    with contextlib.suppress(OSError):  # not allowed where the outer one is partly hidden
        _mount("proc", place + "/proc", "proc", NOSUID_NODEV)
    for path in masked:
        if os.path.isdir(place + path):
            _mount("tmpfs", place + path, "tmpfs", NOSUID_NODEV | READ_ONLY, "size=4k,mode=755")
        elif os.path.exists(place + path):
            _mount("/dev/null", place + path, flags=BIND)
    _set_read_only(place, recursive=False)
    os.chdir(place)
    call("syscall", PIVOT_ROOT[os.uname().machine], b".", b".")
    call("umount2", b".", DETACH)
    os.chdir(HOME)
    if not own:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        with contextlib.suppress(OSError):  # so that processes are counted for this one alone
            call("unshare", USER)
            own = True
    if own:
        with contextlib.suppress(OSError):
            Path("/proc/sys/user/max_user_namespaces").write_text("0")
    for capability in range(64):
        with contextlib.suppress(OSError):
            call("prctl", BOUNDING_DROP, capability, 0, 0, 0)
    call("capset", struct.pack("=Ii", 0x20080522, 0), bytes(24))


def _show(path: str, place: str) -> None:
    """Bind one path, with all that is mounted below it, to be read only."""
    target = place + path
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.islink(path):
        if not os.path.lexists(target):
            os.symlink(os.readlink(path), target)
        return
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        Path(target).touch()
    _mount(path, target, flags=BIND | REC)
    _set_read_only(target, recursive=True)


def _set_read_only(target: str, *, recursive: bool) -> None:
    flags = READ_ONLY | NOSUID_NODEV
    if target.endswith(DEVICES):
        flags &= ~4  # a device must stay one
    how = 0x1000 | (0x8000 if recursive else 0)  # the mount at this place, and those below it
    here = os.open(target, os.O_PATH | os.O_CLOEXEC)
    try:
        call("syscall", MOUNT_SETATTR, here, b"", how, struct.pack("=QQQQ", flags, 0, 0, 0), 32)
    finally:
        os.close(here)


def landlock(readable: Iterable[str], writable: str) -> int:
    """Forbid this process and its children every file but these, by Landlock; for good.

    Returns:
        The version of Landlock: from 4 it forbids TCP as well, from 6 signals to other processes.

    Raises:
        OSError: If the kernel has no Landlock.
    """
    version = call("syscall", CREATE_RULESET, None, 0, 1)
    every = (1 << 13) - 1
    for since, bit in ((2, 13), (3, 14), (5, 15)):
        every |= (version >= since) << bit
    size = 8 if version < 4 else 16 if version < 6 else 24
    rules = struct.pack("=QQQ", every, 3, 3)[:size]
    ruleset = call("syscall", CREATE_RULESET, rules, size, 0)
    for path in (*SYSTEM, *DEVICES, "/proc", *readable, writable):
        if os.path.exists(path):
            to_write = path == writable or path in DEVICES
            allowed = every if to_write else 1 | 4 | 8  # execute, read files, read folders
            if not os.path.isdir(path):
                allowed &= 1 | 2 | 4 | 1 << 14  # what there is for a file
            _allow(ruleset, path, allowed & every)
    call("prctl", NO_NEW_PRIVS, 1, 0, 0, 0)
    call("syscall", RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    return version


def _allow(ruleset: int, path: str, allowed: int) -> None:
    here = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        call("syscall", ADD_RULE, ruleset, 1, struct.pack("=Qi", allowed, here), 0)
    finally:
        os.close(here)


def limit(*, seconds: float, memory: int, written: int, processes: int) -> None:
    """Limit what this process may use up: beyond what it has, where memory is meant."""
    limits = {
        resource.RLIMIT_CPU: int(seconds) + 2,
        resource.RLIMIT_FSIZE: written,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 256,
    }
    if LINUX:
        mapped = (
            int(Path("/proc/self/statm").read_text().split()[0]) if os.path.exists("/proc/self/statm") else 0
        )
        limits[resource.RLIMIT_AS] = memory + (mapped * os.sysconf("SC_PAGE_SIZE") or 1 << 32)
        limits[resource.RLIMIT_NPROC] = processes
    for which, most in limits.items():
        with contextlib.suppress(OSError, ValueError):  # a lower one may be in force
            resource.setrlimit(which, (most, most))


if __name__ == "__main__":  # a trial: exit status 0 if an order can be followed here
    trial = json.loads(sys.argv[1])
    apart = trial["rung"] == "namespaces" and leave()
    if not os.fork():
        confine(trial, own=apart)
        os._exit(0)
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))

"""From a student's cells and a probe to data, and from data to bytes that are safe to read.

Bytes come as frames: the lengths of a JSON text and of a safetensors file, then both.  Nothing that is read
here can run code; what is no number, text, tensor, list or dict becomes the name of its kind.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import json
import os
import re
import struct
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

__all__ = ["Other", "evaluate", "frame", "frames", "run"]

DEEPEST = 20
TEXT = 1 << 20  # bytes of the JSON of one frame
LENGTHS = struct.Struct("<QQ")
Emit = Callable[[dict[str, Any], Any], None]


class Other(str):
    """Stands for a value that is not sent: the name of its kind."""


def run(request: int, answer: int) -> None:
    """Evaluate what one file asks and write to another; for a process that ends with it.

    Args:
        request: Holds two frames, see `evaluate`; the second is read when the student's cells have run.
        answer: Gets the frames of the answers.
    """
    torch.set_num_threads(1)
    sys.modules["__main__"] = types.ModuleType("__main__")
    write, encode = os.write, frame  # a submission may put others in their place

    def emit(about: dict[str, Any], value: Any) -> None:
        left = memoryview(encode(about, value))
        while left:
            left = left[write(answer, left) :]

    def read() -> dict[str, Any]:
        texts, _ = LENGTHS.unpack(os.read(request, LENGTHS.size))
        got = b""
        while len(got) < texts and (more := os.read(request, texts - len(got))):
            got += more
        return json.loads(got)

    os.lseek(request, 0, os.SEEK_SET)
    evaluate(read(), read, emit, sys.modules["__main__"].__dict__)


def evaluate(
    first: dict[str, Any], second: Callable[[], dict[str, Any]], emit: Emit, space: dict[str, Any]
) -> None:
    """Run the setup, the student's cells that matter, the probe in each of its cases, and the visible check.

    Args:
        first: `setup`, a list of sources; `cells`, number to [name, source] in the assignment's order;
            `number`, of the exercise; `also`, numbers of others that its checks call.
        second: Gives `probe`, a source; `takes`, the names it is called with; `cases`, a list of
            keywords; `check`, a source.
        emit: Takes facts and a value: `{"case": 0}` and what the probe returned; `{"case": 0, "error": kind,
            "line": of the student's cell}`; `{"cell": …}` likewise, if the cell itself does not run;
            `{"check": whether it passes}`.
        space: Where it all runs.
    """
    pristine = dict(vars(builtins))
    number = first["number"]
    for i, source in enumerate(first["setup"]):
        exec(compile(source, f"<setup {i}>", "exec"), space)
    needed = _needed(first["cells"], number, first["also"])
    for other in needed:
        with contextlib.suppress(BaseException):
            exec(compile(first["cells"][other][1], f"<{other}>", "exec"), space)
    try:
        exec(compile(first["cells"][number][1], f"<{number}>", "exec"), space)
    except BaseException as error:
        emit({"cell": _kind(error), "line": _line(error, number)}, None)
        return
    asked = second()
    hidden: dict[str, Any] = {"__builtins__": pristine, "__name__": "probe"}
    exec(compile(asked["probe"], "<probe>", "exec"), hidden)
    for case, keywords in enumerate(asked["cases"]):
        named = {k: getattr(torch, v) if k == "dtype" else v for k, v in keywords.items()}
        torch.manual_seed(keywords.get("seed", 0))
        torch.set_default_dtype(torch.float32)
        try:
            missing = [name for name in asked["takes"] if name not in space]
            if missing:
                raise NameError(missing[0])
            with torch.enable_grad():
                value = hidden["probe"](*(space[name] for name in asked["takes"]), **named)
            emit({"case": case}, value)
        except BaseException as error:
            emit({"case": case, "error": _kind(error), "line": _line(error, number)}, None)
    torch.manual_seed(0)
    try:
        exec(compile(asked["check"], "<check>", "exec"), space)
    except BaseException:
        emit({"check": False}, None)
    else:
        emit({"check": True}, None)


def _needed(cells: dict[str, list[str]], number: str, also: list[str]) -> list[str]:
    """The other cells whose function this one calls, directly or not, and those that are named."""
    found, ahead = set(also) & cells.keys(), [number, *also]
    while ahead:
        source = cells.get(ahead.pop(), ["", ""])[1]
        try:
            names = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        more = {other for other, (name, _) in cells.items() if name in names} - found - {number}
        found |= more
        ahead += more
    return [other for other in cells if other in found - {number}]


def _kind(error: BaseException) -> str:
    """The name of a kind of exception, if it is one that everybody knows."""
    from geolessons.coursework.checks import Unwritten

    kinds = type(error).__mro__
    if Unwritten in kinds:
        return "Unwritten"
    return next((k.__name__ for k in kinds if k.__module__ == "builtins"), "Exception")


def _line(error: BaseException, number: str) -> int:
    """The last line of the student's cell that an exception came through; 0 if none."""
    here = f"<{number}>"
    if isinstance(error, SyntaxError) and error.filename == here:
        return error.lineno or 0
    lines = [n for f, n in traceback.walk_tb(error.__traceback__) if f.f_code.co_filename == here]
    return lines[-1] if lines else 0


def frame(about: dict[str, Any], value: Any = None) -> bytes:
    """Bytes of facts and a value."""
    tensors: dict[str, Tensor] = {}
    text = json.dumps({**about, "value": _plain(value, tensors, DEEPEST)}).encode()
    data = safetensors.torch.save(tensors) if tensors else b""
    return LENGTHS.pack(len(text), len(data)) + text + data


def _plain(value: Any, tensors: dict[str, Tensor], deep: int) -> Any:
    kind = type(value)
    if value is None or kind is bool:
        return value
    if issubclass(kind, Tensor):
        with torch._C.DisableTorchFunctionSubclass():
            x = value.as_subclass(Tensor).detach()
            if x.layout is not torch.strided or x.device.type != "cpu":
                return {"other": f"a tensor that is {x.layout}, on {x.device.type}"}
            if x.is_quantized or x.numel() * x.element_size() > 1 << 28:
                return {"other": "a tensor that is too large"}
            key, pair = str(len(tensors)), x.is_complex()
            tensors[key] = (torch.view_as_real(x.resolve_conj()) if pair else x).contiguous().clone()
        return {"tensor": key, "complex": pair}
    if issubclass(kind, int):
        whole = int(value)
        return whole if abs(whole) < 1 << 63 else {"other": "a number that is too large"}
    if issubclass(kind, float):
        return float(value)
    if issubclass(kind, str):
        return str(value)[:10000]
    if issubclass(kind, dict | list | tuple) and deep:
        if issubclass(kind, dict):
            pairs = list(dict.items(value))
            return {"dict": [[str(k), _plain(v, tensors, deep - 1)] for k, v in pairs[:10000]]}
        return [_plain(v, tensors, deep - 1) for v in list(value)[:10000]]
    return {"other": kind.__name__[:40]}


def frames(data: bytes) -> Iterator[tuple[dict[str, Any], Any]]:
    """(facts, value) of each frame that is whole, up to the first that is not.

    Values are None, bool, int, float, str, `Other`, tensors, lists and dicts of these.
    """
    at = 0
    while at + LENGTHS.size <= len(data):
        texts, size = LENGTHS.unpack_from(data, at)
        at += LENGTHS.size
        if texts > TEXT or at + texts + size > len(data):
            return
        try:
            about = json.loads(data[at : at + texts])
            tensors = safetensors.torch.load(data[at + texts : at + texts + size]) if size else {}
            value = _back(about.pop("value"), tensors)
        except (RecursionError, Exception):  # of bytes that a stranger may have written
            return
        at += texts + size
        yield about, value


def _back(plain: Any, tensors: dict[str, Tensor]) -> Any:
    match plain:
        case {"tensor": key, "complex": pair}:
            return torch.view_as_complex(tensors[key]) if pair else tensors[key]
        case {"other": kind}:
            return Other(re.sub(r"\W", " ", str(kind)))
        case {"dict": pairs}:
            return {str(k): _back(v, tensors) for k, v in pairs}
        case list():
            return [_back(v, tensors) for v in plain]
        case None | bool() | int() | float() | str():
            return plain
    raise ValueError("no such value")

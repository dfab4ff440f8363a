"""MATLAB files of level 5 (as `save` writes them), read with every length checked.

    file      128 bytes, then parts: a matrix, or a compressed matrix (zlib, whose checksum is looked at)
    part      type and length, 4 bytes each, then that many bytes, filled up to a multiple of 8
    small     part: both in the first 4 bytes, and up to 4 bytes of data in the next 4
    matrix    flags, shape, name; then numbers, text, or a struct's fields' names and a matrix for each

A matrix that is not compressed has no checksum: a flipped bit in its numbers cannot be noticed.

scipy.io.loadmat reads more kinds of them, but on some damaged files it ends the process, which is no message.
The format is described in "MAT-File Format", The MathWorks, chapter 1.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["mat", "shape_in_mat"]

HEADER = 128
MATRIX, COMPRESSED = 14, 15
STRUCT, CHAR, NUMBERS = 2, 4, range(6, 16)
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
TEXT = {1: "latin1", 2: "latin1", 4: "utf-16", 16: "utf8", 17: "utf-16", 18: "utf-32"}
CLASSES = dict(zip(NUMBERS, ("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"), strict=True))


def mat(path: Path, name: str) -> Any:
    """A variable of a file: numbers as an array, text as str, structs as a list of dicts (column by column).

    Args:
        path: Of the file.
        name: Of the variable.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is no MATLAB 5 file, truncated, damaged, of a kind not read here (cells, sparse or
            complex numbers, rows of text, objects), or has no such variable.
    """
    order, parts = _parts_of_file(path)
    names = []
    for kind, data in parts:
        try:
            if kind == COMPRESSED:
                data = zlib.decompress(data)
                ((kind, data),) = _parts(data, order)
            if kind != MATRIX:
                raise _Odd(f"a part of type {kind}")
            names.append(_head(data, order)[2])
            if names[-1] == name:
                return _matrix(data, order)
        except (zlib.error, _Odd, ValueError) as error:
            raise ValueError(f"{path} is damaged, or of a kind not read here: {error}") from error
    raise ValueError(f"{path} has no variable {name}; it has {', '.join(names) or 'none'}")


def shape_in_mat(path: Path, name: str) -> tuple[int, ...]:
    """The shape of a variable, by the beginnings of the file's parts; all of them must be there.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is no MATLAB 5 file, truncated, or has no such variable.
    """
    order, parts = _parts_of_file(path)
    found = {}
    for kind, data in parts:
        try:
            if kind == COMPRESSED:
                data = zlib.decompressobj().decompress(data, 512)[8:]
            _, shape, this = _head(data, order)
            found[this] = shape
        except (zlib.error, _Odd) as error:
            raise ValueError(f"{path} is damaged, or of a kind not read here: {error}") from error
    if name not in found:
        raise ValueError(f"{path} has no variable {name}; it has {', '.join(found) or 'none'}")
    return found[name]


class _Odd(Exception):
    """What the format does not allow, or is not read here."""


def _parts_of_file(path: Path) -> tuple[str, list[tuple[int, bytes]]]:
    """The order of bytes, and (type, data) of each part."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    whole = path.read_bytes()
    if len(whole) < HEADER or whole[124:128] not in (b"\x00\x01IM", b"\x01\x00MI"):
        raise ValueError(f"{path} is no MATLAB file of level 5 (version 7.3 is another format)")
    order = "<" if whole[126:128] == b"IM" else ">"
    try:
        return order, list(_parts(whole[HEADER:], order))
    except _Odd as error:
        raise ValueError(f"{path} is truncated or damaged: {error}") from error


def _parts(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """(type, data) of each part in a run of them."""
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            raise _Odd("a part ends within its first 8 bytes")
        kind, length = struct.unpack_from(order + "2I", data, at)
        if kind >> 16:  # both in 4 bytes
            kind, length, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
            if length > 4:
                raise _Odd(f"a short part of {length} bytes")
        else:
            start = at + 8
            end = start + length + (0 if kind == COMPRESSED else -length % 8)
        if end > len(data):
            raise _Odd(f"a part of {length} bytes ends after its surroundings do")
        yield kind, data[start : start + length]
        at = end


def _head(data: bytes, order: str) -> tuple[int, tuple[int, ...], str]:
    """Flags, shape and name of a matrix; `data` may end after them."""
    parts = _parts(data, order)
    try:
        (_, flags), (kind, shape), (_, name) = next(parts), next(parts), next(parts)
    except StopIteration:
        raise _Odd("a matrix without flags, shape or name") from None
    if len(flags) != 8 or kind not in (5, 6) or len(shape) % 4:
        raise _Odd("a matrix whose flags or shape are none")
    sides = struct.unpack(f"{order}{len(shape) // 4}i", shape)
    if len(sides) < 2 or min(sides) < 0:
        raise _Odd(f"a matrix of shape {sides}")
    return struct.unpack(order + "I", flags[:4])[0], sides, name.decode("latin1")


def _matrix(data: bytes, order: str) -> Any:
    import numpy

    if not data:
        return numpy.zeros((0, 0))
    flags, shape, _ = _head(data, order)
    rest, count = list(_parts(data, order))[3:], math.prod(shape)
    kind, is_complex = flags & 0xFF, bool(flags & 0x800)
    if kind == STRUCT and len(rest) >= 2:
        return _structs(rest, count, order)
    if len(rest) != 1 or is_complex or (kind != CHAR and kind not in CLASSES):
        raise _Odd(f"a matrix of class {kind} in {len(rest)} parts")
    ((of, values),) = rest
    if kind == CHAR:
        if of not in TEXT or shape[0] > 1:
            raise _Odd(f"text of type {of} in {shape[0]} rows")
        wide = ("-le" if order == "<" else "-be") if "utf-" in TEXT[of] else ""
        return values.decode(TEXT[of] + wide)
    if of not in TYPES or len(values) != count * int(TYPES[of][1]):
        raise _Odd(f"{len(values)} bytes of type {of} for the shape {shape}")
    found = numpy.frombuffer(values, order + TYPES[of]).reshape(shape, order="F")
    return found.astype(CLASSES[kind])  # numbers are stored in the smallest type that holds them


def _structs(rest: list[tuple[int, bytes]], count: int, order: str) -> list[dict[str, Any]]:
    (_, width), (_, names), *values = rest
    step = struct.unpack(order + "i", width)[0] if len(width) == 4 else 0
    if step < 1 or len(names) % step:
        raise _Odd("a struct whose fields have no names")
    fields = [names[i : i + step].split(b"\0")[0].decode("latin1") for i in range(0, len(names), step)]
    if len(values) != count * len(fields) or any(kind != MATRIX for kind, _ in values):
        raise _Odd(f"{len(values)} values for {count} structs of {len(fields)} fields")
    found = iter(values)
    return [{field: _matrix(next(found)[1], order) for field in fields} for _ in range(count)]

"""Adapters that PEFT does not know, in files of its layout but of a type that it refuses.

The config has one entry a layer: the kind of adapter and the options that make it again.  The tensors have
the names of the model's `state_dict`, `<layer>.adapter.<parameter>`; t, which a schedule moves, is one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import pi
from types import NoneType
from typing import Any

import torch
from torch import Tensor

from geolessons.adapters import Adapter, LoRA, Rows
from geolessons.arcs import check_t
from geolessons.geodesics import GeodesicLoRA, RampedLoRA
from geolessons.matching import some
from geolessons.velocity import VelocityLoRA

__all__ = ["TYPE", "read", "write"]

TYPE = "GEOLESSONS"

NUMBER = (int, float)
LOW_RANK: dict[str, Any] = {"rank": int, "alpha": NUMBER, "scaling": str, "dropout": NUMBER}
ARC = {"scope": str, "norm_mode": str, "detach_angle": bool}
FIELD = {"axis": str, "temperature": NUMBER, "reference": (str, NoneType), "normalise": bool}
KINDS: dict[type[Any], dict[str, Any]] = {
    LoRA: LOW_RANK,
    RampedLoRA: LOW_RANK,
    GeodesicLoRA: LOW_RANK | ARC,
    VelocityLoRA: {"rank": int, "steps": int, "horizon": NUMBER} | FIELD,
}
NAMES = {kind.__name__: kind for kind in KINDS}


def write(adapters: Mapping[str, Adapter]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and tensors.

    Raises:
        ValueError: If an adapter is of a kind that has no place in a file.
    """
    layers = {name: _described(name, adapter) for name, adapter in adapters.items()}
    tensors = {
        f"{name}.adapter.{key}": tensor.cpu().contiguous().clone()
        for name, adapter in adapters.items()
        for key, tensor in adapter.state_dict().items()
    }
    return {"peft_type": TYPE, "layers": layers}, tensors


def read(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], shape_of: Callable[[str], tuple[int, int]]
) -> dict[str, Adapter]:
    """The adapters by their layers' names.

    Args:
        config: As `write` gives it.
        tensors: Likewise.
        shape_of: The shape (d, k) of the weight of a layer, or an error.

    Raises:
        ValueError: If a field is missing, unknown or not what it should be, or the tensors do not fit.
    """
    layers = _object(config, {"peft_type", "layers"})["layers"]
    if not isinstance(layers, dict) or not layers:
        raise ValueError("layers must map the name of each adapted layer to its adapter")
    adapters = {}
    for name, found in layers.items():
        shape = shape_of(name)
        try:
            adapters[name] = _made(shape, found)
        except ValueError as error:
            raise ValueError(f"the adapter of {name!r} cannot be made: {error}") from None
    states = {name: adapter.state_dict() for name, adapter in adapters.items()}
    wanted = {f"{name}.adapter.{key}": W for name, state in states.items() for key, W in state.items()}
    problems = [f"{key} is missing" for key in wanted if key not in tensors]
    problems += [f"{key} belongs to no adapter" for key in tensors if key not in wanted]
    problems += [
        f"{key} has shape {tuple(tensors[key].shape)}; the model and the config need {tuple(W.shape)}"
        for key, W in wanted.items()
        if key in tensors and tensors[key].shape != W.shape
    ]
    if problems:
        raise ValueError(f"the tensors do not fit: {some(problems)}")
    for name, state in states.items():
        adapter = adapters[name]
        adapter.load_state_dict({key: tensors[f"{name}.adapter.{key}"] for key in state}, assign=True)
        for part in adapter.modules():
            if isinstance(part, RampedLoRA):
                check_t(part.t, extrapolate=False)
            if isinstance(part, GeodesicLoRA) and part.scope == "model":
                omega, *lengths = part.arc.tolist()
                unknown = omega == -1  # set_t has not measured yet
                if not (unknown or (0 <= omega <= pi and min(lengths) > 0)):
                    raise ValueError(f"{name}: arc={part.arc.tolist()} must be an angle and two lengths")
    return adapters


def _described(name: str, adapter: Adapter) -> dict[str, Any]:
    """What makes an adapter again, but for its tensors."""
    if isinstance(adapter, Rows):
        parts = zip(adapter.slices, adapter.adapters, strict=True)
        blocks = [{"rows": list(ends), "adapter": _described(name, a)} for ends, a in parts]  # type: ignore[arg-type]
        return {"kind": "Rows", "blocks": blocks}
    if type(adapter) not in KINDS:
        raise ValueError(
            f"the adapter of {name!r} is a {type(adapter).__name__}, which has no place in a file: save the "
            "state_dict to go on training, or merge_(model) and save the merged weights"
        )
    source = vars(adapter) | (vars(adapter.field) if isinstance(adapter, VelocityLoRA) else {})
    return {"kind": type(adapter).__name__} | {key: source[key] for key in KINDS[type(adapter)]}


def _made(shape: tuple[int, int], found: Any) -> Adapter:
    """The adapter that an entry describes, with numbers that are to be replaced."""
    name = found.get("kind") if isinstance(found, dict) else None
    if name == "Rows":
        blocks = _object(found, {"kind", "blocks"})["blocks"]
        if not isinstance(blocks, list):
            raise ValueError(f"blocks={blocks!r} must be a list")
        return Rows(shape, [_block(shape, block) for block in blocks])
    kind = NAMES.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(f"kind is {name!r}; it is one of Rows, {', '.join(NAMES)}")
    options = dict(_object(found, {"kind", *KINDS[kind]}))
    del options["kind"]
    wrong = [f"{key}={x!r}" for key, x in options.items() if not _is(x, KINDS[kind][key])]
    if wrong:
        raise ValueError(f"{some(wrong)} is not of the right type")
    options |= {"t": 1.0} if issubclass(kind, RampedLoRA) else {}
    return kind(shape, generator=torch.Generator(), **options)


def _block(shape: tuple[int, int], block: Any) -> tuple[slice, Adapter]:
    found = _object(block, {"rows", "adapter"})
    rows = found["rows"]
    if not isinstance(rows, list) or len(rows) != 2 or not all(_is(end, int) and end >= 0 for end in rows):
        raise ValueError(f"rows={rows!r} must be [start, stop]")
    return slice(*rows), _made((rows[1] - rows[0], shape[1]), found["adapter"])


def _object(found: Any, keys: set[str]) -> dict[str, Any]:
    """A JSON object with exactly these fields."""
    if not isinstance(found, dict):
        raise ValueError(f"{found!r} must be an object with the fields {sorted(keys)}")
    unknown, missing = sorted(found.keys() - keys), sorted(keys - found.keys())
    if unknown or missing:
        raise ValueError(f"the fields {unknown} are unknown, {missing} are missing")
    return found


def _is(x: Any, kind: Any) -> bool:
    """As isinstance, where true and false are no numbers."""
    return isinstance(x, kind) and isinstance(x, bool) == (kind is bool)

"""Low-rank adapters to and from files, in the layout of Hugging Face PEFT.

A folder with `adapter_config.json` and `adapter_model.safetensors`, whose tensors are called
`base_model.model.<layer>.lora_A.weight` (r, k) and `….lora_B.weight` (d, r).  What PEFT writes for plain
LoRA we read, and the other way round.  Whatever would change the function and is not plain LoRA is refused.
Ours: `Rows` of LoRA become one block-structured pair, `GeodesicLoRA` at t = 1 a LoRA.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from glob import escape
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geolessons.adapters import Adapter, LoRA, Rows
from geolessons.attaching import adapted_layers, attach
from geolessons.geodesics import RampedLoRA
from geolessons.matching import some
from geolessons.trees import check_finite

__all__ = ["load", "save"]

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."

# What `load` reads, and what says nothing about the function (the tensors' names say where adapters sit).
# Any other field must be empty, or have a value listed below.
READ = {"peft_type", "r", "lora_alpha", "lora_dropout", "use_rslora", "rank_pattern", "alpha_pattern"}
WHERE = {"target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"}
NOTES = {"auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "task_type"}
NOTES |= {"revision", "runtime_config"}
ALLOWED = {
    "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian", "orthogonal"),  # others change the frozen weights
    "megatron_core": ("megatron.core",),
    "qalora_group_size": (16,),
}


def save(model: nn.Module, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a model's adapters; the folder appears complete or not at all.

    Args:
        model: With adapters attached: `LoRA`, `Rows` of it, or a ramped one at t = 1.
        folder: Where to; made if need be.
        overwrite: Replace an adapter that is there.

    Raises:
        FileExistsError: If something is there and is not an adapter, or `overwrite` was not asked for.
        ValueError: If the model has no adapters, one is not a plain LoRA now, has NaN or infinite entries, or
            parameters besides the adapters are trainable, for which the layout has no place.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    if folder.exists() and not (overwrite and (folder / CONFIG).is_file()):
        raise FileExistsError(f"{folder} exists; overwrite=True replaces an adapter, and nothing else")
    layers = adapted_layers(model)
    if not layers or "" in layers:
        raise ValueError(f"the model {'is itself a layer' if layers else 'has no adapters'}: nothing to save")
    ours = {id(p) for layer in layers.values() for p in layer.adapter.parameters()}
    besides = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in ours]
    if besides:
        raise ValueError(
            f"{some(besides)} is trainable besides the adapters and has no place in this layout: save the "
            "state_dict instead, or freeze it if it is as it was"
        )
    tensors: dict[str, Tensor] = {}
    lora: dict[str, tuple[int, float]] = {}
    for name, layer in layers.items():
        A, B, scale = _factors(name, layer.adapter)
        tensors[f"{PREFIX}{name}.lora_A.weight"] = A
        tensors[f"{PREFIX}{name}.lora_B.weight"] = B
        lora[name] = (len(A), scale)
    check_finite(tensors, "the adapter")
    config = _config(model, lora, {p for layer in layers.values() for p in _dropouts(layer.adapter)})

    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        new, old = aside / "new", aside / "old"
        new.mkdir()
        (new / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf8")
        save_file(tensors, new / TENSORS, metadata={"format": "pt"})
        if folder.exists():
            folder.rename(old)
        try:
            new.rename(folder)
        except BaseException:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def load(model: nn.Module, folder: str | os.PathLike[str]) -> list[str]:
    """Attach the LoRA adapters of a folder to a model; all else is frozen, as by `attach`.

    Args:
        model: The one that the adapters were made for, without adapters.
        folder: With `adapter_config.json` and `adapter_model.safetensors`.

    Returns:
        The names of the adapted layers.

    Raises:
        FileNotFoundError: If one of the two files is not there.
        ValueError: If a file is corrupt, asks for what is not plain LoRA, or does not fit the model; and as
            `attach`.
    """
    folder = Path(folder)
    config = _read_config(folder / CONFIG)
    pairs = _pairs(folder)
    layers = dict(model.named_modules())
    for name, pair in pairs.items():
        layer = layers.get(name)
        if not isinstance(layer, nn.Linear):
            what = f"is a {type(layer).__name__}, not an nn.Linear" if layer else "is not in the model"
            raise ValueError(f"{folder} has an adapter for {name!r}, which {what}")
        r = _of_pattern(config["rank_pattern"], name, config["r"])
        for letter, shape in {"A": (r, layer.in_features), "B": (layer.out_features, r)}.items():
            got = tuple(pair[letter].shape)
            if got != shape:
                raise ValueError(
                    f"{folder}: lora_{letter} of {name!r} has shape {got}; the model and r={r} need {shape}"
                )

    def make(name: str, W: Tensor) -> Adapter:
        A, B = pairs[name]["A"], pairs[name]["B"]
        adapter = LoRA(
            W.shape,
            len(A),
            _of_pattern(config["alpha_pattern"], name, config["lora_alpha"]),
            scaling="rank_stabilised" if config["use_rslora"] else "standard",
            dropout=config["lora_dropout"],
            generator=torch.Generator(),
            dtype=A.dtype,
        )
        with torch.no_grad():
            adapter.A.copy_(A)
            adapter.B.copy_(B)
        return adapter

    return attach(model, [escape(name) for name in pairs], make)


def _factors(name: str, adapter: Adapter) -> tuple[Tensor, Tensor, float]:
    """(A, B, s) of an adapter that is W0 + s·B·A now, on the CPU."""
    if isinstance(adapter, Rows):
        blocks = [_factors(name, a) for a in adapter.adapters]  # type: ignore[arg-type]
        scale = blocks[0][2]
        A = torch.cat([A for A, _, _ in blocks])
        B = A.new_zeros(adapter.shape[0], len(A))
        column = 0
        for (start, stop), (_, b, s) in zip(adapter.slices, blocks, strict=True):
            B[start:stop, column : column + b.shape[1]] = b if s == scale else b * (s / scale)
            column += b.shape[1]
        return A, B, scale
    if not isinstance(adapter, LoRA):
        raise ValueError(
            f"the adapter of {name!r} is a {type(adapter).__name__}; this layout holds LoRA only"
        )
    if isinstance(adapter, RampedLoRA) and float(adapter.t) != 1:
        raise ValueError(
            f"the adapter of {name!r} is at t={float(adapter.t):g}; only at t = 1 is it a LoRA: "
            "set_t(model, 1) first, or save the state_dict to go on training"
        )
    A, B = (p.detach().cpu().contiguous().clone() for p in (adapter.A, adapter.B))
    return A, B, adapter.scale


def _dropouts(adapter: Adapter) -> set[float]:
    return {m.dropout for m in adapter.modules() if isinstance(m, LoRA)}


def _config(model: nn.Module, lora: Mapping[str, tuple[int, float]], dropouts: set[float]) -> dict[str, Any]:
    if len(dropouts) > 1:
        raise ValueError(f"the adapters have different dropouts, {sorted(dropouts)}; this layout holds one")
    ranks = [r for r, _ in lora.values()]
    r = max(set(ranks), key=ranks.count)
    alphas = {name: scale * rank for name, (rank, scale) in lora.items()}
    alpha = max(set(alphas.values()), key=list(alphas.values()).count)
    # PEFT takes listed names as endings and patterns as regular expressions; anchored, they mean one layer
    ambiguous = any(
        other.endswith(f".{name}") and other not in lora
        for name in lora
        for other, _ in model.named_modules()
    )
    targets = "|".join(map(re.escape, lora)) if ambiguous else sorted(lora)
    return {
        "peft_type": "LORA",
        "r": r,
        "lora_alpha": _number(alpha),
        "lora_dropout": dropouts.pop(),
        "rank_pattern": {f"^{re.escape(n)}": rank for n, (rank, _) in lora.items() if rank != r},
        "alpha_pattern": {f"^{re.escape(n)}": _number(a) for n, a in alphas.items() if a != alpha},
        "target_modules": targets,
        "use_rslora": False,
        "use_dora": False,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "modules_to_save": None,
        "base_model_name_or_path": None,
        "task_type": None,
        "revision": None,
        "inference_mode": True,
    }


def _number(x: float) -> float:
    return int(x) if x == int(x) else x


def _of_pattern(patterns: Mapping[str, float], name: str, default: Any) -> Any:
    """As PEFT: the value of the first key that, as a regular expression, ends the name."""
    return next((v for key, v in patterns.items() if re.match(rf"(.*\.)?({key})$", name)), default)


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there")
    try:
        config = json.loads(path.read_text(encoding="utf8"))
    except ValueError as error:
        raise ValueError(f"{path} is not readable JSON: {error}") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise ValueError(f"{path} has peft_type {kind!r}; only 'LORA' can be loaded")
    unfit = [
        f"{key}={value!r}"
        for key, value in config.items()
        if key not in READ | WHERE | NOTES and value and value not in ALLOWED.get(key, ())
    ]
    if unfit:
        raise ValueError(f"{path} asks for what is not plain LoRA: {some(sorted(unfit))}")
    filled = {key: value for key, value in config.items() if value is not None}
    filled = {"lora_dropout": 0.0, "use_rslora": False, "rank_pattern": {}, "alpha_pattern": {}} | filled
    for key, kind, pattern in (
        ("r", int, "rank_pattern"),
        ("lora_alpha", (int, float), "alpha_pattern"),
        ("lora_dropout", (int, float), ""),
        ("use_rslora", bool, ""),
    ):
        values = [filled.get(key), *(filled[pattern].values() if _is_pattern(filled.get(pattern)) else [])]
        fits = all(isinstance(x, kind) and isinstance(x, bool) == (kind is bool) for x in values)
        if not fits or not all(math.isfinite(x) for x in values):
            raise ValueError(f"{path}: {key} must be a number (use_rslora: true or false); it is {values}")
        if pattern and not _is_pattern(filled[pattern]):
            raise ValueError(f"{path}: {pattern} must map regular expressions to numbers")
    return filled


def _is_pattern(found: Any) -> bool:
    try:
        return isinstance(found, dict) and all(re.compile(key) for key in found)
    except re.error:
        return False


def _pairs(folder: Path) -> dict[str, dict[str, Tensor]]:
    """Layer name to its tensors {"A": (r, k), "B": (d, r)}."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / TENSORS
    if not path.is_file():
        pickled = " (adapter_model.bin is a pickle, which can run code; convert it with PEFT)"
        raise FileNotFoundError(
            f"{path} is not there{pickled if (folder / 'adapter_model.bin').exists() else ''}"
        )
    try:
        tensors = load_file(path)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is corrupt or cut short: {error}") from None
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        parts = re.fullmatch(re.escape(PREFIX) + r"(.+)\.lora_([AB])\.weight", key)
        if not parts:
            raise ValueError(f"{path} has a tensor {key!r}, which is not part of a plain LoRA")
        found.setdefault(parts[1], {})[parts[2]] = tensor
    halves = [name for name, pair in found.items() if len(pair) < 2]
    if halves or not found:
        what = f"only one of lora_A and lora_B for {some(halves)}" if halves else "no tensors"
        raise ValueError(f"{path} has {what}")
    try:
        check_finite(tensors, str(path))
    except TypeError as error:
        raise ValueError(str(error)) from None
    return found

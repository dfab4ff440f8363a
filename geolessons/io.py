"""Adapters to and from files: a folder with `adapter_config.json` and `adapter_model.safetensors`.

If all adapters are plain LoRA now (a ramped one is at t = 1), it is Hugging Face PEFT's own layout, which
PEFT loads; see `peft_files`.  If not, it is ours, which PEFT refuses; see `own_files`.
Nothing is read that is not understood.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from glob import escape
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from geolessons import own_files, peft_files
from geolessons.attaching import adapted_layers, attach, check_gathered
from geolessons.matching import some
from geolessons.trees import check_finite

__all__ = ["load", "save"]

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"


def save(model: nn.Module, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a model's adapters; the folder appears complete or not at all.

    Args:
        model: With adapters attached, of the kinds that this library has.
        folder: Where to; made if need be.
        overwrite: Replace an adapter that is there.

    Raises:
        FileExistsError: If something is there and is not an adapter, or `overwrite` was not asked for.
        ValueError: If the model has no adapters, or parameters in shards; if one is of another kind, or has
            NaN or infinite entries; or if parameters besides the adapters are trainable, for which the layout
            has no place.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    if folder.exists() and not (overwrite and (folder / CONFIG).is_file()):
        raise FileExistsError(f"{folder} exists; overwrite=True replaces an adapter, and nothing else")
    check_gathered(model)
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
    adapters = {name: layer.adapter for name, layer in layers.items()}
    plain = all(map(peft_files.fits, adapters.values()))
    config, tensors = peft_files.write(model, adapters) if plain else own_files.write(adapters)
    check_finite(tensors, "the adapter")

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
    """Attach the adapters of a folder to a model; all else is frozen, as by `attach`.

    Args:
        model: The one that the adapters were made for, without adapters.
        folder: With `adapter_config.json` and `adapter_model.safetensors`, by `save` or by PEFT.

    Returns:
        The names of the adapted layers.

    Raises:
        FileNotFoundError: If one of the two files is not there.
        ValueError: If a file is corrupt, asks for what is not plain LoRA or one of our adapters, or does not
            fit the model; and as `attach`.
    """
    folder = Path(folder)
    config, tensors = _read_config(folder / CONFIG), _read_tensors(folder / TENSORS)
    modules = dict(model.named_modules())

    def shape_of(name: str) -> tuple[int, int]:
        layer = modules.get(name)
        if not isinstance(layer, nn.Linear):
            what = f"is a {type(layer).__name__}, not an nn.Linear" if layer else "is not in the model"
            raise ValueError(f"there is an adapter for {name!r}, which {what}")
        return layer.out_features, layer.in_features

    files = peft_files if config["peft_type"] == peft_files.TYPE else own_files
    try:
        adapters = files.read(config, tensors, shape_of)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{folder} cannot be loaded: {error}") from None
    return attach(model, [escape(name) for name in adapters], lambda name, W: adapters[name])


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there")
    try:
        config = json.loads(path.read_text(encoding="utf8"))
    except ValueError as error:
        raise ValueError(f"{path} is not readable JSON: {error}") from None
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind not in (peft_files.TYPE, own_files.TYPE):
        raise ValueError(
            f"{path} has peft_type {kind!r}; only {peft_files.TYPE!r} and {own_files.TYPE!r} can be loaded"
        )
    return config


def _read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        pickled = " (adapter_model.bin is a pickle, which can run code; convert it with PEFT)"
        there = (path.parent / "adapter_model.bin").exists()
        raise FileNotFoundError(f"{path} is not there{pickled if there else ''}")
    try:
        tensors = load_file(path)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is corrupt or cut short: {error}") from None
    try:
        check_finite(tensors, str(path))
    except TypeError as error:
        raise ValueError(str(error)) from None
    return tensors

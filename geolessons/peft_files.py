"""Plain LoRA as Hugging Face PEFT keeps it in files: what PEFT writes we read, and the other way round.

The tensors are `base_model.model.<layer>.lora_A.weight` (r, k) and `….lora_B.weight` (d, r); rank and scale
of a layer are found by regular expressions.  Whatever would change the function is refused.
Ours: `Rows` of LoRA become one block-structured pair, a ramped adapter at t = 1 a LoRA.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from geolessons.adapters import Adapter, LoRA, Rows
from geolessons.geodesics import GeodesicLoRA, RampedLoRA
from geolessons.matching import some

__all__ = ["TYPE", "fits", "read", "write"]

TYPE = "LORA"
PREFIX = "base_model.model."

# What `read` reads, and what says nothing about the function (the tensors' names say where adapters sit).
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


def fits(adapter: Adapter) -> bool:
    """Whether an adapter is W0 + s·B·A now."""
    if isinstance(adapter, Rows):
        return all(fits(a) for a in adapter.adapters)  # type: ignore[arg-type]
    if type(adapter) in (RampedLoRA, GeodesicLoRA):
        return float(adapter.t) == 1  # type: ignore[arg-type]
    return type(adapter) is LoRA  # a subclass may be anything


def write(model: nn.Module, adapters: Mapping[str, Adapter]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and tensors of adapters that fit.

    Raises:
        ValueError: If their dropouts differ, for which the layout has no place.
    """
    tensors: dict[str, Tensor] = {}
    lora: dict[str, tuple[int, float]] = {}
    for name, adapter in adapters.items():
        A, B, scale = _factors(adapter)
        tensors[f"{PREFIX}{name}.lora_A.weight"] = A
        tensors[f"{PREFIX}{name}.lora_B.weight"] = B
        lora[name] = (len(A), scale)
    parts = [m for adapter in adapters.values() for m in adapter.modules()]
    return _config(model, lora, {m.dropout for m in parts if isinstance(m, LoRA)}), tensors


def read(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], shape_of: Callable[[str], tuple[int, int]]
) -> dict[str, Adapter]:
    """The adapters by their layers' names.

    Args:
        config: As PEFT writes it.
        tensors: Likewise.
        shape_of: The shape (d, k) of the weight of a layer, or an error.

    Raises:
        ValueError: If the config asks for what is not plain LoRA, or the tensors are not what it says.
    """
    config = _checked(config)
    adapters: dict[str, Adapter] = {}
    for name, pair in _pairs(tensors).items():
        d, k = shape_of(name)
        r = _of_pattern(config["rank_pattern"], name, config["r"])
        for letter, shape in {"A": (r, k), "B": (d, r)}.items():
            got = tuple(pair[letter].shape)
            if got != shape:
                raise ValueError(
                    f"lora_{letter} of {name!r} has shape {got}; the model and r={r} need {shape}"
                )
        adapters[name] = adapter = LoRA(
            (d, k),
            r,
            _of_pattern(config["alpha_pattern"], name, config["lora_alpha"]),
            scaling="rank_stabilised" if config["use_rslora"] else "standard",
            dropout=config["lora_dropout"],
            generator=torch.Generator(),
        )
        adapter.load_state_dict(pair, assign=True)
    return adapters


def _factors(adapter: Adapter) -> tuple[Tensor, Tensor, float]:
    """(A, B, s) of an adapter that is W0 + s·B·A now, on the CPU."""
    if isinstance(adapter, Rows):
        blocks = [_factors(a) for a in adapter.adapters]  # type: ignore[arg-type]
        scale = max((s for _, _, s in blocks), key=abs)
        A = torch.cat([A for A, _, _ in blocks])
        B = A.new_zeros(adapter.shape[0], len(A))
        column = 0
        for (start, stop), (_, b, s) in zip(adapter.slices, blocks, strict=True):
            B[start:stop, column : column + b.shape[1]] = b if s == scale else b * (s / scale)
            column += b.shape[1]
        return A, B, scale
    assert isinstance(adapter, LoRA)
    A, B = (p.detach().cpu().contiguous().clone() for p in (adapter.A, adapter.B))
    return A, B, adapter.scale


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
        "peft_type": TYPE,
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


def _checked(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with its gaps filled; refused if it asks for what is not plain LoRA."""
    unfit = [
        f"{key}={value!r}"
        for key, value in config.items()
        if key not in READ | WHERE | NOTES and value and value not in ALLOWED.get(key, ())
    ]
    if unfit:
        raise ValueError(f"the config asks for what is not plain LoRA: {some(sorted(unfit))}")
    filled: dict[str, Any] = {
        "lora_dropout": 0.0,
        "use_rslora": False,
        "rank_pattern": {},
        "alpha_pattern": {},
    }
    filled |= {key: value for key, value in config.items() if value is not None}
    for key, kind, pattern in (
        ("r", int, "rank_pattern"),
        ("lora_alpha", (int, float), "alpha_pattern"),
        ("lora_dropout", (int, float), ""),
        ("use_rslora", bool, ""),
    ):
        values = [filled.get(key), *(filled[pattern].values() if _is_pattern(filled.get(pattern)) else [])]
        right = all(isinstance(x, kind) and isinstance(x, bool) == (kind is bool) for x in values)
        if not right or not all(math.isfinite(x) for x in values):
            raise ValueError(f"{key} must be a number (use_rslora: true or false); it is {values}")
        if pattern and not _is_pattern(filled[pattern]):
            raise ValueError(f"{pattern} must map regular expressions to numbers")
    return filled


def _is_pattern(found: Any) -> bool:
    try:
        return isinstance(found, dict) and all(re.compile(key) for key in found)
    except re.error:
        return False


def _pairs(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Layer name to its tensors {"A": (r, k), "B": (d, r)}."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        parts = re.fullmatch(re.escape(PREFIX) + r"(.+)\.lora_([AB])\.weight", key)
        if not parts:
            raise ValueError(f"there is a tensor {key!r}, which is not part of a plain LoRA")
        found.setdefault(parts[1], {})[parts[2]] = tensor
    halves = [name for name, pair in found.items() if len(pair) < 2]
    if halves:
        raise ValueError(f"there is only one of lora_A and lora_B for {some(halves)}")
    if not found:
        raise ValueError("there are no tensors")
    return found

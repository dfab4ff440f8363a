"""Which layers of a model can carry an adapter, and what to say about those that cannot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn

__all__ = ["join", "match_layers", "match_trained", "spread"]


def match_layers(model: nn.Module, patterns: Sequence[str]) -> dict[str, nn.Linear]:
    """The `nn.Linear` layers whose names match, in the model's order.

    Containers and other kinds of layers that match besides are passed over.

    Args:
        model: Any module.
        patterns: Shell-style; each must reach at least one layer.

    Raises:
        ValueError: If a pattern reaches none, or meets `nn.MultiheadAttention`, a subclass of `nn.Linear`,
            or a weight that is tied, computed or not floating-point.
    """
    if not patterns:
        raise ValueError(f"patterns is empty; linear layers of this model: {_linears(model)}")
    modules = dict(model.named_modules())
    attentions = [name for name, m in modules.items() if isinstance(m, nn.MultiheadAttention)]
    found: dict[str, nn.Linear] = {}
    for pattern in patterns:
        met = {name: m for name, m in modules.items() if fnmatchcase(name, pattern)}
        if not met:
            raise ValueError(f"{pattern!r} matches no layer; linear layers of this model: {_linears(model)}")
        inside = [a for a in attentions if any(name == a or name.startswith(join(a, "")) for name in met)]
        if inside:
            raise ValueError(
                f"{pattern!r} meets nn.MultiheadAttention at {some(inside)}: it keeps q, k and v in one "
                "parameter, in_proj_weight, and reads out_proj.weight itself, so no adapter can sit there. "
                f"What can be reached in this model: {_linears(model)}"
            )
        layers = {name: m for name, m in met.items() if isinstance(m, nn.Linear)}
        if not layers:
            what = some(f"{name} ({type(m).__name__})" for name, m in met.items())
            raise ValueError(
                f"{pattern!r} matches only layers that are not nn.Linear: {what}. Linear layers of this "
                f"model: {_linears(model)}"
            )
        found |= layers
    layers = {name: m for name, m in modules.items() if name in found and isinstance(m, nn.Linear)}
    _refuse_unfit(layers)
    _refuse_tied(model, layers)
    return layers


def match_trained(model: nn.Module, patterns: Sequence[str], layers: Mapping[str, nn.Linear]) -> list[str]:
    """The names of the parameters that are to stay trainable.

    Raises:
        ValueError: If a pattern matches none, a weight that gets an adapter, or one that is not
            floating-point.
    """
    parameters = dict(model.named_parameters())
    frozen = {join(name, "weight") for name in layers}
    found: list[str] = []
    for pattern in patterns:
        met = [name for name in parameters if fnmatchcase(name, pattern)]
        if not met:
            raise ValueError(f"train={pattern!r} matches no parameter; there are {some(parameters)}")
        clash = sorted(frozen.intersection(met))
        if clash:
            raise ValueError(f"train={pattern!r} matches {some(clash)}, which an adapter needs frozen")
        unfit = [name for name in met if not parameters[name].is_floating_point()]
        if unfit:
            raise ValueError(f"train={pattern!r} matches {some(unfit)}, which is not floating-point")
        found += met
    return found


def spread(model: nn.Module) -> set[str]:
    """What has spread a model over processes, by its classes' names; empty for one that is whole.

    `DistributedDataParallel` keeps whole copies; all others keep each parameter in shards.
    """
    wrappers = {"DistributedDataParallel", "FSDPModule", "FullyShardedDataParallel"}
    # by name: importing the modules that define them takes 0.8 s
    found = wrappers.intersection(kind.__name__ for m in model.modules() for kind in type(m).__mro__)
    return found | {"DTensor" for p in model.parameters() if hasattr(p, "full_tensor")}


def join(owner: str, name: str) -> str:
    """The dotted name of something in a module, whose own name is empty for the model itself."""
    return f"{owner}.{name}" if owner else name


def some(words: Iterable[str], most: int = 8) -> str:
    """The first words of a list, for a message, and how many there are more."""
    words = list(words)
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")


def _linears(model: nn.Module) -> str:
    return some(name for name, m in model.named_modules() if type(m) is nn.Linear) or "none"


def _refuse_unfit(layers: Mapping[str, nn.Linear]) -> None:
    unfit = []
    for name, layer in layers.items():
        if type(layer) is not nn.Linear:
            unfit.append(f"{name} is a {type(layer).__name__}, whose forward may be its own")
        elif "weight" not in layer._parameters:
            unfit.append(f"{name}'s weight is computed from something else (pruning, weight norm)")
        elif not layer.weight.is_floating_point():
            unfit.append(f"{name}'s weight is {layer.weight.dtype}")
    if unfit:
        raise ValueError(f"an adapter needs a plain nn.Linear: {some(unfit)}")


def _refuse_tied(model: nn.Module, layers: Mapping[str, nn.Linear]) -> None:
    """Refuse a weight that goes by two names, or whose memory another parameter shares."""
    names: dict[tuple[str, int], list[str]] = {}
    for name, p in model.named_parameters(remove_duplicate=False):
        names.setdefault((str(p.device), p.data_ptr() or id(p)), []).append(name)
    wanted = {join(name, "weight") for name in layers}
    tied = [" = ".join(group) for group in names.values() if len(group) > 1 and wanted.intersection(group)]
    if tied:
        raise ValueError(
            f"tied weights cannot have an adapter, which would move one of two places only: {some(tied)}"
        )

"""Adapters inside a model: attach them, look at the weights they make, merge them, take them off.

`attach` turns chosen `nn.Linear` layers, in place, into `AdaptedLinear`: the frozen tensor is called
`base_weight`, `weight` is what the adapter makes of it, `forward` uses the adapter's cheaper form.  So models
that call the layer and models that only read `layer.weight` (torchvision's Swin) both see the adapter.
The layer stays the same object and its tensor the same `Parameter`; `detach` gives both back, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geolessons.adapters import Adapter
from geolessons.matching import join, match_layers, match_trained, some, spread
from geolessons.probing import without_effect
from geolessons.trees import Params, check_finite

__all__ = ["AdaptedLinear", "adapted_layers", "attach", "detach", "effective_weights", "merge_"]

FLAGS = "_requires_grad_before_attach"  # on the module given to attach: parameter name to requires_grad


class AdaptedLinear(nn.Linear):
    """A linear layer whose weight is what an adapter makes of a frozen one.  Made by `attach`.

    `weight` is formed at each read.  Hugging Face's T5 reads `wo.weight.dtype` twice in each forward: with
    adapters on `wo` a forward of one token takes two to three times as long; `merge_` before generating.

    Attributes:
        base_weight: The frozen tensor, (d, k).
        adapter: Its adapter.
    """

    base_weight: nn.Parameter
    adapter: Adapter

    def __init__(self) -> None:
        raise TypeError("an AdaptedLinear is made by attach(model, …), from a layer of the model")

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The effective weight, (d, k)."""
        return self.adapter.weight(self.base_weight)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output, for x of shape (…, k): (…, d)."""
        return self.adapter.linear(x, self.base_weight, self.bias)


def attach(
    model: nn.Module,
    patterns: str | Sequence[str],
    make: Callable[[str, Tensor], Adapter],
    *,
    train: str | Sequence[str] = (),
    probe: Tensor | Sequence[Any] | Mapping[str, Any] | None = None,
) -> list[str]:
    """Give the chosen linear layers adapters and freeze all else.  Changes the model, in place.

    A call that fails leaves the model as it was.

    To train in several processes attach first, then wrap: `DistributedDataParallel(model)` or FSDP2's
    `fully_shard`.  Where adapters have another dtype than their layers, `fully_shard` each `layer.adapter`
    first and call `register_fsdp_forward_method` for its `"linear"` and its `"weight"`.

    Args:
        model: Any module.
        patterns: Shell-style, for layer names: `"*.attn.qkv"`.
        make: Called with each layer's name and frozen weight (d, k); gives a new adapter for it.
        train: Shell-style, for the names of parameters that stay trainable besides: `"*norm*"`.
        probe: A batch to run the model on once, in evaluation mode: a tensor, a sequence of arguments or
            a mapping of keyword arguments.  Adapters that the output does not depend on are reported.

    Returns:
        The names of the adapted layers.

    Raises:
        TypeError: If `make` gives anything but an adapter.
        ValueError: If a pattern matches nothing or only layers that are not `nn.Linear`, meets
            `nn.MultiheadAttention`, a tied weight, or a model that has adapted layers or is spread over
            processes; if an adapter is used twice or made for another shape; or if no adapter has an effect
            on the probe.

    Warns:
        UserWarning: If some adapters have no effect on the probe.

    Example:
        >>> from geolessons.adapters import LoRA
        >>> g = torch.Generator().manual_seed(0)
        >>> attach(nn.Sequential(nn.Linear(4, 3)), "*", lambda name, W: LoRA(W.shape, rank=2, generator=g))
        ['0']
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    wrappers = spread(model)
    if wrappers:
        raise ValueError(
            f"the model is spread over processes ({', '.join(sorted(wrappers))}), which would not see "
            "adapters that come after: attach first, then wrap it"
        )
    held = adapted_layers(model)
    if held:
        raise ValueError(
            f"the model already has adapters, at {some(held)}: detach or merge_ them first, or name all "
            "layers in one attach, where `make` gets the layer's name"
        )
    layers = match_layers(model, patterns)
    trained = match_trained(model, [train] if isinstance(train, str) else list(train), layers)
    adapters = _made(layers, make)
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    try:
        for p in model.parameters():
            p.requires_grad_(False)
        for name in trained:
            model.get_parameter(name).requires_grad_(True)
        model.__dict__[FLAGS] = flags
        for name, layer in layers.items():
            _rename(layer, "weight", "base_weight")
            layer.__class__ = AdaptedLinear
            layer.adapter = adapters[name]
        if probe is not None:
            without_effect(model, {name: list(a.parameters()) for name, a in adapters.items()}, probe)
    except BaseException:
        model.__dict__[FLAGS] = flags
        _restore(model, layers)
        raise
    return list(layers)


def detach(model: nn.Module) -> None:
    """Take all adapters off: parameters, buffers, names, order and requires_grad as before `attach`.

    Parameters that were trained besides (`train=`) keep their values; they were never copied.

    Raises:
        ValueError: If the model has no adapters, its parameters are sharded, or `attach` was called on a
            module around it.
    """
    _check_covered(model)
    _restore(model, adapted_layers(model))


def merge_(model: nn.Module) -> None:
    """Make the adapted weights the model's own, and take the adapters off.  Changes the model, in place.

    Each weight is computed in float32 or wider and cast once.  Nothing is changed unless all are finite; the
    tensors that the weights were stored in are left alone, so older snapshots stay valid.

    Raises:
        ValueError: As `detach`; or if a merged weight has NaN or infinite entries.
    """
    _check_covered(model)
    layers = adapted_layers(model)
    merged = {join(name, "weight"): _weight(layer) for name, layer in layers.items()}
    check_finite(merged, "merged weight")
    _restore(model, layers)
    for name, W in merged.items():
        model.get_parameter(name).data = W


def effective_weights(model: nn.Module) -> Params:
    """The point that the model is at: its parameters by their names before `attach`, adapters applied.

    Detached copies, as `params_of` gives them; the values are those that `merge_` would store.  Those of
    sharded parameters are sharded too.
    """
    layers = adapted_layers(model)
    found = {}
    for name, p in model.named_parameters():
        owner, _, last = name.rpartition(".")
        if last == "base_weight" and owner in layers:
            found[join(owner, "weight")] = _weight(layers[owner])
        elif not any(name.startswith(join(layer, "adapter.")) for layer in layers):
            found[name] = p.detach().clone()
    return found


def adapted_layers(model: nn.Module) -> dict[str, AdaptedLinear]:
    """The adapted layers of a model, by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, AdaptedLinear)}


def check_gathered(model: nn.Module) -> None:
    """Refuse a model whose parameters are in shards, each process with its own.

    Raises:
        ValueError: If they are (FSDP, tensor parallelism).
    """
    shards = spread(model) - {"DistributedDataParallel"}
    if shards:
        raise ValueError(
            f"the model's parameters are in shards ({', '.join(sorted(shards))}): gather its state_dict "
            "(torch.distributed.checkpoint.state_dict.get_model_state_dict, full_state_dict=True), load that "
            "into a model in one process with the same adapters attached, and do this there"
        )


def _made(layers: Mapping[str, nn.Linear], make: Callable[[str, Tensor], Adapter]) -> dict[str, Adapter]:
    """A new adapter for each layer, on the layer's device and checked against its weight."""
    adapters: dict[str, Adapter] = {}
    used: dict[int, str] = {}
    for name, layer in layers.items():
        adapter = make(name, layer.weight.detach())
        if not isinstance(adapter, Adapter):
            raise TypeError(f"make gave a {type(adapter).__name__} for {name!r}; it must give an Adapter")
        if adapter.shape != layer.weight.shape:
            raise ValueError(
                f"the adapter for {name!r} is made for {adapter.shape}, its weight is "
                f"{tuple(layer.weight.shape)}; give it W.shape"
            )
        if id(adapter) in used:
            raise ValueError(
                f"make gave {name!r} the adapter of {used[id(adapter)]!r}; make a new one in each call"
            )
        used[id(adapter)] = name
        adapters[name] = adapter.to(layer.weight.device).train(layer.training)
    return adapters


def _weight(layer: AdaptedLinear) -> Tensor:
    """The effective weight in float32 or wider, cast once to the layer's dtype."""
    W0 = layer.base_weight.detach()
    with torch.no_grad():
        W = layer.adapter.weight(W0.to(torch.promote_types(W0.dtype, torch.float32)))
        return W.to(W0.dtype, copy=True)


def _check_covered(model: nn.Module) -> None:
    check_gathered(model)
    layers = adapted_layers(model)
    if not layers:
        raise ValueError("the model has no adapters: nothing to detach or merge")
    roots = [name for name, m in model.named_modules() if FLAGS in m.__dict__]
    loose = [n for n in layers if not any(n == r or n.startswith(join(r, "")) or not r for r in roots)]
    if loose:
        raise ValueError(
            f"the adapters at {some(loose)} were attached to a larger module; call this on that module, "
            "which knows what was trainable before"
        )


def _restore(model: nn.Module, layers: Mapping[str, nn.Linear]) -> None:
    """Undo `attach`, also one that stopped at any point."""
    for layer in layers.values():
        layer._modules.pop("adapter", None)
        layer.__class__ = nn.Linear
        _rename(layer, "base_weight", "weight")
    # an inner module's flags are younger than those of the module around it
    for _, module in reversed(list(model.named_modules())):
        flags = module.__dict__.pop(FLAGS, {})
        for name, p in module.named_parameters():
            if name in flags:
                p.requires_grad_(flags[name])


def _rename(layer: nn.Linear, old: str, new: str) -> None:
    """Rename a parameter in its place, so that the order of parameters and state_dict is kept."""
    held = [(new if name == old else name, p) for name, p in layer._parameters.items()]
    layer._parameters.clear()
    layer._parameters.update(held)

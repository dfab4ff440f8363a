"""Renaming hidden neurons: the same function at another place of parameter space.

Permute the neurons of a hidden layer (rows of its weight, entries of its bias) and undo that in the
next layer (columns): the network computes the same.  `match` looks for the renaming that brings one
network closest to another, by the weight matching of Ainsworth, Hayase, Srinivasa (2022,
arXiv 2209.04836, algorithm 1) with scipy's assignment solver.  It is a good assignment, not a
proof of sameness: the problem over several layers is NP-hard.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from geolessons.trees import Params, check_alike

__all__ = ["match", "random_renaming", "rename"]


def rename(P: Params, orders: list[Tensor]) -> Params:
    """The same multilayer perceptron with its hidden neurons in other orders.

    Args:
        P: Parameters `fc1.weight`, `fc1.bias`, `fc2.weight`, … as `models.mlp` names them.
        orders: One permutation for each hidden layer; entry i is the old place of new neuron i.

    Raises:
        ValueError: If P has other names, or an order is not a permutation of its layer's neurons.
    """
    layers = _layers(P)
    if len(orders) != len(layers) - 1:
        raise ValueError(f"orders has {len(orders)} entries; the network has {len(layers) - 1} hidden layers")
    renamed = dict(P)
    for layer, following, order in zip(layers, layers[1:], orders, strict=False):
        width = len(P[f"{layer}.weight"])
        if not torch.equal(order.sort().values.cpu(), torch.arange(width)):
            raise ValueError(f"orders: the one for {layer} is not a permutation of its {width} neurons")
        renamed[f"{layer}.weight"] = renamed[f"{layer}.weight"][order]
        renamed[f"{layer}.bias"] = renamed[f"{layer}.bias"][order]
        renamed[f"{following}.weight"] = renamed[f"{following}.weight"][:, order]
    return renamed


def random_renaming(P: Params, generator: torch.Generator) -> list[Tensor]:
    """A random order for each hidden layer of a multilayer perceptron."""
    return [torch.randperm(len(P[f"{layer}.weight"]), generator=generator) for layer in _layers(P)[:-1]]


def match(P: Params, reference: Params, *, max_rounds: int = 100) -> list[Tensor]:
    """Find orders that bring P close to a reference, for `rename(P, orders)`.

    Each hidden layer in turn is assigned best, the others held; a round over all layers is repeated
    until none changes (the distance cannot rise, so it ends).

    Args:
        P: The network to rename.
        reference: The network to come close to, of the same shape.
        max_rounds: Stop after so many rounds even if something still changes.

    Raises:
        ValueError: If the two are not points of the same space, or not multilayer perceptrons.
    """
    from scipy.optimize import linear_sum_assignment

    check_alike(P, reference, ("P", "reference"))
    layers = _layers(P)
    orders = [torch.arange(len(P[f"{layer}.weight"])) for layer in layers[:-1]]
    for _ in range(max_rounds):
        changed = False
        for i, (layer, following) in enumerate(pairwise(layers)):
            held = [torch.arange(len(o)) if j == i else o for j, o in enumerate(orders)]
            current = rename(P, held)
            likeness = (
                reference[f"{layer}.weight"] @ current[f"{layer}.weight"].T
                + torch.outer(reference[f"{layer}.bias"], current[f"{layer}.bias"])
                + reference[f"{following}.weight"].T @ current[f"{following}.weight"]
            )
            _, best = linear_sum_assignment(likeness.detach().double().cpu().numpy(), maximize=True)
            order = torch.from_numpy(best)
            changed |= not torch.equal(order, orders[i])
            orders[i] = order
        if not changed:
            break
    return orders


def _layers(P: Params) -> list[str]:
    layers = [f"fc{i}" for i in range(1, len(P) // 2 + 1)]
    if len(layers) < 2 or set(P) != {f"{n}.{kind}" for n in layers for kind in ("weight", "bias")}:
        raise ValueError(
            f"expected fc1.weight, fc1.bias, fc2.weight, … of at least two layers, got {sorted(P)}"
        )
    return layers

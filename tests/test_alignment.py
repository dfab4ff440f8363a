"""Renaming neurons: the function stays, a planted renaming is found, brute force agrees."""

from itertools import permutations

import pytest
import torch

from geolessons.alignment import match, random_renaming, rename
from geolessons.models import mlp
from geolessons.trees import axpy, norm, params_of


def network(seed: int, sizes=(5, 8, 7, 3)):
    return mlp(sizes, torch.Generator().manual_seed(seed))


def distance(P, Q) -> float:
    return float(norm(axpy(-1, P, Q)))


def test_a_renaming_keeps_the_function():
    model = network(0)
    P = params_of(model)
    orders = random_renaming(P, torch.Generator().manual_seed(1))
    assert [sorted(o.tolist()) for o in orders] == [list(range(8)), list(range(7))]
    Q = rename(P, orders)
    assert distance(P, Q) > 0.1
    x = torch.randn(20, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(torch.func.functional_call(model, Q, (x,)), model(x), rtol=0, atol=1e-14)
    assert torch.equal(Q["fc1.bias"], P["fc1.bias"][orders[0]])
    assert all(torch.equal(p, P[k]) for k, p in model.named_parameters())  # P itself is not changed


def test_random_renaming_is_reproducible_and_leaves_the_global_generator():
    P = params_of(network(0))
    before = torch.get_rng_state()
    first, again = (random_renaming(P, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("seed", range(3))
def test_match_undoes_a_planted_renaming_exactly(seed, dtype):
    P = {k: x.to(dtype) for k, x in params_of(network(seed, (6, 12, 12, 4))).items()}
    shuffled = rename(P, random_renaming(P, torch.Generator().manual_seed(seed + 10)))
    back = rename(shuffled, match(shuffled, P))
    assert all(torch.equal(back[k], P[k]) for k in P)


@pytest.mark.parametrize("seed", range(4))
def test_match_does_not_move_away(seed):
    P, Q = params_of(network(seed)), params_of(network(seed + 50))
    found = rename(P, match(P, Q))
    assert distance(found, Q) <= distance(P, Q) + 1e-12
    nearer = [distance(rename(P, match(P, Q, max_rounds=n)), Q) for n in (1, 2, 3)]
    assert nearer == sorted(nearer, reverse=True)


@pytest.mark.parametrize("seed", range(4))
def test_match_of_one_hidden_layer_is_the_best_of_all(seed):
    P, Q = params_of(network(seed, (3, 5, 2))), params_of(network(seed + 50, (3, 5, 2)))
    best = min(distance(rename(P, [torch.tensor(o)]), Q) for o in permutations(range(5)))
    assert distance(rename(P, match(P, Q)), Q) == pytest.approx(best, rel=1e-12)


def test_match_ends_with_dead_neurons():
    P = {k: x.clone() for k, x in params_of(network(0)).items()}
    for k in P:
        if k != "fc3.bias":
            P[k][:3] = 0
    orders = match(P, P)
    assert distance(rename(P, orders), P) == pytest.approx(0, abs=1e-12)


def test_refusals():
    P = params_of(network(0))
    with pytest.raises(ValueError, match="orders has 1 entries; the network has 2 hidden layers"):
        rename(P, [torch.arange(8)])
    for wrong in (torch.tensor([0] * 8), torch.arange(7), torch.arange(1, 9)):
        with pytest.raises(ValueError, match="the one for fc1 is not a permutation of its 8 neurons"):
            rename(P, [wrong, torch.arange(7)])
    for strange in ({"w": torch.ones(2)}, {"fc1.weight": P["fc1.weight"], "fc1.bias": P["fc1.bias"]}):
        with pytest.raises(ValueError, match=r"expected fc1.weight, fc1.bias, fc2.weight"):
            random_renaming(strange, torch.Generator())
        with pytest.raises(ValueError, match=r"expected fc1.weight, fc1.bias, fc2.weight"):
            match(strange, strange)
    with pytest.raises(ValueError, match="P and reference are not points of the same space"):
        match(P, params_of(network(0, (5, 8, 6, 3))))

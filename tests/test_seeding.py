"""Global random state: the same inside for the same seed, and as before outside."""

import random

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from geolessons.seeding import seeded


def states() -> tuple:
    return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002


def test_the_seed_decides_what_is_drawn_inside():
    def mask(seed):
        with seeded(seed):
            return F.dropout(torch.ones(100)), torch.rand(3)

    for a, b in zip(mask(1), mask(1), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(mask(1)[0], mask(2)[0])
    with seeded(1):
        drawn = torch.rand(3)
    assert torch.equal(drawn, torch.rand(3, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("fails", [False, True])
def test_outside_all_global_generators_are_as_before(fails):
    before = states()
    try:
        with seeded(7):
            torch.rand(1), random.random(), np.random.rand()  # noqa: NPY002
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert states() == before


def test_one_inside_the_other_goes_on_where_the_outer_was():
    with seeded(1):
        whole = torch.rand(2)
    with seeded(1):
        first = torch.rand(1)
        with seeded(2):
            torch.rand(5)
        assert torch.equal(torch.cat([first, torch.rand(1)]), whole)


def test_it_works_as_a_decorator_each_time_anew():
    @seeded(3)
    def draw():
        return torch.rand(1)

    assert torch.equal(draw(), draw())


@pytest.mark.parametrize("seed", [-1, 2**64, 0.5, True, None])
def test_other_seeds_are_refused(seed):
    before = states()
    with (
        pytest.raises(ValueError, match=rf"seed={seed!r} must be a whole number from 0 to 2\*\*64 - 1"),
        seeded(seed),
    ):
        pass
    assert states() == before


@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1])
def test_the_ends_of_the_range_are_seeds(seed):
    with seeded(seed):
        assert torch.initial_seed() % 2**64 == seed


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_generators_of_every_gpu_are_as_before():
    before = torch.cuda.get_rng_state_all()
    with seeded(5):
        drawn = torch.rand(3, device="cuda")
        torch.cuda.manual_seed_all(9)
    assert all(map(torch.equal, before, torch.cuda.get_rng_state_all()))
    with seeded(5):
        assert torch.equal(drawn, torch.rand(3, device="cuda"))

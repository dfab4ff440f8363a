"""The one place where global random state is set: for code, such as dropout, that takes no generator."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["seeded"]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, torch's global generators start from `seed`; afterwards all global generators are as before.

    Those of Python and numpy are put back too, if something inside changed them.

    Args:
        seed: Any whole number.

    Example:
        >>> with seeded(0):
        ...     first = torch.rand(1)
        >>> with seeded(0):
        ...     print(torch.equal(torch.rand(1), first))
        True
    """
    import numpy

    python, legacy = random.getstate(), numpy.random.get_state()  # noqa: NPY002 (to put it back)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(python)
        numpy.random.set_state(legacy)  # noqa: NPY002

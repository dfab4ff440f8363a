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
        seed: A whole number from 0 to 2⁶⁴ - 1.

    Raises:
        ValueError: For any other seed.

    Example:
        >>> with seeded(0):
        ...     first = torch.rand(1)
        >>> with seeded(0):
        ...     print(torch.equal(torch.rand(1), first))
        True
    """
    import numpy

    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise ValueError(f"seed={seed!r} must be a whole number from 0 to 2**64 - 1")
    python, legacy = random.getstate(), numpy.random.get_state()  # noqa: NPY002 (to put it back)
    try:
        with torch.random.fork_rng(range(torch.accelerator.device_count())):
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(python)
        numpy.random.set_state(legacy)  # noqa: NPY002

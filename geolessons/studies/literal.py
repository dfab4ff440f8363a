"""Algorithm 1 of GLRA, taken literally: why the library trains through the path instead.

As printed, each stage puts the weights at a point of the arc between two fixed ends and trains them there.
The next stage starts at the next point, so whatever the stage before it learned is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from geolessons.paths import Path
from geolessons.trees import Params

__all__ = ["restarted_stages"]


def restarted_stages(
    path: Path, ts: Sequence[float], steps: Sequence[int], step: Callable[[Params], Params]
) -> Params:
    """The weights at the end of Algorithm 1, a stage being one restart at `path.at(t)` (reading R2).

    Args:
        path: From the pre-trained weights to those of a trained LoRA.
        ts: Where the stages start, the last at 1.
        steps: How many steps each stage takes.
        step: One step of training all weights, from a point to the next.

    Raises:
        ValueError: If there is no stage, or not one number of steps for each.

    References:
        Abraham, Hauenstein, Scheirer 2024, OpenReview ig4gYlF8Z5, Algorithm 1.
    """
    if not ts or len(ts) != len(steps):
        raise ValueError(f"{len(ts)} stages need as many numbers of steps, not {len(steps)}; at least one")
    for t, count in zip(ts, steps, strict=True):
        W = path.at(t)
        for _ in range(count):
            W = step(W)
    return W

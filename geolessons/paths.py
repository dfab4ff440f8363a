"""Roads through parameter space: the straight line, the arc, and what a model does along them.

A path is a map t ↦ W(t) from [0, 1] to points, with W(0) = W0 and W(1) = W1.  Everything that must
be refused is refused when the path is made or evaluated, so that `at(t)` has no branches: it can be
differentiated, compiled, and mapped over many t by `torch.vmap`.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from geolessons.arcs import NormMode, arcs_between, check_t
from geolessons.scopes import Scope
from geolessons.trees import Params, axpy, check_alike, check_finite, check_real, map_tensors, norm, wide

__all__ = ["Curve", "Line", "Path", "Slerp", "check_stop", "evaluate", "length", "speed"]


class Path(ABC):
    """A road from W0 to W1.

    The tensors are held, not copied: do not change them while the path is in use (`params_of` gives copies).

    Args:
        W0: The start.
        W1: The end, alike in names, shapes, dtypes and devices.
        extrapolate: Allow `evaluate` to leave [0, 1].
        look: Look for NaN and infinite entries; a path that measures the ends sees them then.

    Attributes:
        W0: The start, a point.
        W1: The end, a point.
        extrapolate: Whether `evaluate` may leave [0, 1].
    """

    def __init__(self, W0: Params, W1: Params, *, extrapolate: bool = False, look: bool = True) -> None:
        check = check_finite if look else check_real
        check(W0, "W0")
        check(W1, "W1")
        check_alike(W0, W1)
        self.W0, self.W1, self.extrapolate = W0, W1, extrapolate

    @abstractmethod
    def at(self, t: float | Tensor) -> Params:
        """The point W(t); t is a number or a 0-d tensor, taken as it comes."""

    @abstractmethod
    def velocity(self, t: float | Tensor) -> Params:
        """The derivative dW/dt at t, a vector of the same names and shapes as the points."""


class Line(Path):
    """The straight road W(t) = W0 + t·(W1 − W0).

    Raises:
        TypeError: For integer tensors.
        ValueError: For NaN or infinite entries, or points of different spaces.

    Example:
        >>> Line({"w": torch.tensor([0.0])}, {"w": torch.tensor([2.0])}).at(0.25)
        {'w': tensor([0.5000])}
    """

    def at(self, t: float | Tensor) -> Params:
        """The point (1 − t)·W0 + t·W1: exactly the ends at t = 0 and t = 1."""
        t = wide(t) if isinstance(t, Tensor) else t
        return map_tensors(lambda p, q: ((1 - t) * p + t * q).to(p.dtype), self.W0, self.W1)

    def velocity(self, t: float | Tensor) -> Params:
        """The displacement W1 − W0, at every t."""
        return axpy(-1, self.W0, self.W1)


class Slerp(Path):
    """The round road: SLERP from W0 to W1, vector by vector (Shoemake 1985; GLRA Eq. 2).

    Angles are measured once, here.  Vectors that are all zero at either end have no direction, and
    one-element vectors have only a sign: both take the straight line.  A fresh Swin-T has 78 such tensors.

    Args:
        W0: Start.
        W1: End, alike in names, shapes, dtypes and devices.
        scope: What turns as one vector: each `"tensor"`, each `"row"`, or the whole `"model"`.
        norm_mode: `"raw"` (Eq. 2), `"direction_linear"` or `"direction_geometric"`; see `sphere.slerp`.
        extrapolate: Allow `evaluate` to leave [0, 1].

    Attributes:
        straight: Names of the tensors that take the straight line, wholly or in some rows.

    Raises:
        TypeError: For integer tensors.
        ValueError: For antipodal vectors (all are listed), NaN or infinite entries, points of
            different spaces, or an unknown scope or norm_mode.

    Example:
        >>> road = Slerp({"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 1.0])})
        >>> road.at(0.5)
        {'w': tensor([0.7071, 0.7071])}
    """

    def __init__(
        self,
        W0: Params,
        W1: Params,
        *,
        scope: Scope = "tensor",
        norm_mode: NormMode = "raw",
        extrapolate: bool = False,
    ) -> None:
        super().__init__(W0, W1, extrapolate=extrapolate, look=False)  # measuring will show
        self.arcs = arcs_between(W0, W1, scope, norm_mode, zero="straight")
        self.straight = self.arcs.straight

    def at(self, t: float | Tensor) -> Params:
        """The point f(t)·W0 + g(t)·W1, with SLERP's coefficients for each vector."""
        return self.arcs.at(t)

    def velocity(self, t: float | Tensor) -> Params:
        """The derivative f'(t)·W0 + g'(t)·W1."""
        return self.arcs.velocity(t)


def speed(path: Path, t: float | Tensor) -> Tensor:
    """The length of the velocity, ‖dW/dt‖, over all tensors together: a 0-d tensor.

    Raises:
        ValueError: If t is not a finite number, or outside [0, 1] on a path that does not extrapolate.
    """
    check_t(t, path.extrapolate)
    return norm(path.velocity(t))


def length(path: Path, *, steps: int = 64) -> Tensor:
    """The length ∫₀¹ ‖dW/dt‖ dt of a path (GLRA Eq. 1), by Simpson's rule: a 0-d tensor.

    Args:
        path: Any path with a smooth velocity.
        steps: Number of intervals, even; the error falls with its fourth power.

    Raises:
        ValueError: If `steps` is not a positive even number.
    """
    if steps < 2 or steps % 2:
        raise ValueError(f"steps={steps} must be a positive even number: Simpson's rule takes pairs")
    speeds = torch.stack([speed(path, i / steps) for i in range(steps + 1)])
    return (speeds[0] + 4 * speeds[1:-1:2].sum() + 2 * speeds[2:-1:2].sum() + speeds[-1]) / (3 * steps)


class Curve(NamedTuple):
    """What a metric said along a path: `values[i]` at `ts[i]`."""

    ts: list[float]
    values: list[Any]


def evaluate(
    path: Path,
    model: nn.Module,
    metric: Callable[[Callable[..., Any]], Any],
    ts: Iterable[float],
    *,
    batchnorm: Literal["refuse", "keep"] | Sequence[Tensor] = "refuse",
) -> Curve:
    """Run a metric on the model at points along a path, without touching the model.

    The model runs in evaluation mode (no dropout) and without gradients, on a copy that shares the
    parameters it does not replace; the caller's model is bit for bit as it was, also after an exception.

    Args:
        path: Its tensors replace the model's parameters of the same names.
        model: Supplies the forward pass, and the parameters and buffers that the path does not name.
        metric: Gets one argument, a function that runs the model (`run(x)` for `model(x)`), and returns
            anything.
        ts: Where to look; numbers in [0, 1], or any if the path extrapolates.
        batchnorm: Running statistics of batch-norm layers belong to one end, not to the road between.
            `"refuse"` a model that has them; `"keep"` them; or give input batches, from which they
            are measured afresh at each t.

    Returns:
        A `Curve` with `ts` and one value for each.

    Raises:
        ValueError: If the path's names or shapes are not the model's, `ts` is empty or leaves [0, 1]
            unasked, or the model has batch norm and `batchnorm` was left at `"refuse"`.
    """
    given = list(ts)
    if not given:
        raise ValueError("ts is empty: give at least one t")
    for t in given:
        check_stop(t, path.extrapolate)
    ts = [float(t.detach() if isinstance(t, Tensor) else t) for t in given]
    parameters = dict(model.named_parameters())
    check_alike(path.W0, {k: v for k, v in parameters.items() if k in path.W0}, ("path.W0", "model"))
    norms = list(_statistics(model))
    if norms and isinstance(batchnorm, str) and batchnorm != "keep":
        raise ValueError(
            f"model has batch-norm layers ({', '.join(norms)}), whose running statistics fit one end of the "
            'path only; pass batchnorm="keep" to use them all the same, or input batches to measure them anew'
        )
    batches = [] if isinstance(batchnorm, str) else list(batchnorm)
    if not isinstance(batchnorm, str) and (isinstance(batchnorm, Tensor) or not batches):
        raise ValueError(
            'batchnorm must be "refuse", "keep" or a list of at least one input batch, not '
            + ("one tensor" if isinstance(batchnorm, Tensor) else "an empty one")
        )
    # the parameters' memory is shared with the caller's model; gradients, buffers and modes are our own
    shared = {id(p): nn.Parameter(p.detach(), p.requires_grad) for p in parameters.values()}
    inner = copy.deepcopy(model, dict(shared)).eval()
    ours = {name: shared[id(parameters[name])] for name in path.W0}
    values, here = [], None

    def stand_at(point: Params) -> None:
        nonlocal here
        if here is not point:  # once a point, where functional_call would do it once a run
            here = point
            for name, tensor in point.items():
                ours[name].data = tensor

    with torch.no_grad():
        for t in ts:
            point = path.at(t)

            def run(*args: Any, _point: Params = point, **kwargs: Any) -> Any:
                stand_at(_point)
                return inner(*args, **kwargs)

            if norms and batches:
                _measure_statistics(inner, run, batches)
            values.append(metric(run))
    return Curve(ts, values)


def check_stop(t: float | Tensor, extrapolate: bool) -> None:
    """As `arcs.check_t`, which makes tensors of a number to look at it: a plain one that passes needs none.

    Raises:
        TypeError: If t is not a number.
        ValueError: If t is not finite, or outside [0, 1] unasked.
    """
    plain = type(t) in (float, int) and math.isfinite(t)
    if not plain or not (extrapolate or 0 <= t <= 1):
        check_t(t, extrapolate)


def _statistics(model: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    """The batch-norm layers that keep running statistics, by name."""
    layers = {k: m for k, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    return {name: layer for name, layer in layers.items() if layer.running_mean is not None}


def _measure_statistics(inner: nn.Module, run: Callable[..., Any], batches: Sequence[Tensor]) -> None:
    layers = _statistics(inner).values()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # plain average over the batches
        layer.train()
    for batch in batches:
        run(batch)
    for layer in layers:
        layer.eval()

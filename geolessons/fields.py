"""Velocity fields: rules that say, at each weight, where it goes next.

Fine-tuning follows a field v: dW/dt = v(W, t), W(0) = W0 (DELoRA Eq. 2; Mantri et al. 2024, OpenReview
FFQ5T3EN18).  A constant field and one Euler step of length 1 are LoRA, W0 + B·A (Eq. 6).  DELoRA's own
field looks at the weight (Eq. 7, repaired):

    v(W) = softmax(Z),   Z = (W·W1)·(W2·W)/√d,   W (d, k), W1 (k, r), W2 (r, d).

As printed, softmax((W2·W)(W·W1)ᵀ/√d) multiplies (r, k) by (r, d): no such product exists.
Ours: that repair, the options of `SoftmaxField` (left alone they are the paper's), the integrators.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from geolessons.paths import Path
from geolessons.trees import Params, any_true, check_finite, check_rank, finite, wide

__all__ = ["ConstantField", "Field", "Flow", "Method", "SoftmaxField", "VelocityField", "integrate"]

Axis = Literal["in", "out", "all"]
Method = Literal["euler", "midpoint", "rk4"]
Field = Callable[[Tensor, float | Tensor], Tensor]


class VelocityField(nn.Module, ABC):
    """A field v(W, t) on matrices of one `shape` (d, k), outputs and inputs; its parameters say which."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        if len(shape) != 2:
            raise ValueError(f"shape={tuple(shape)} is not a matrix's; a field needs (outputs, inputs)")
        self.shape = (shape[0], shape[1])

    @abstractmethod
    def forward(self, W: Tensor, t: float | Tensor = 0.0) -> Tensor:
        """The velocity at W and t, (d, k), in the dtype of W, which `check` must not refuse."""

    def check(self, W: Tensor) -> None:
        """Refuse a W that this field cannot move: TypeError for integers, ValueError for another shape."""
        if not W.is_floating_point():
            raise TypeError(f"W is {W.dtype}; only floating-point weights can move".replace("torch.", "", 1))
        if W.shape != self.shape:
            raise ValueError(f"W has shape {tuple(W.shape)}; this field is for (d, k) = {self.shape}")


class ConstantField(VelocityField):
    """The same velocity everywhere and always, v(W, t) = s·B·A: LoRA's (DELoRA Eq. 6).

    Parameters are shared: `ConstantField(lora.A, lora.B, scale=lora.scale)` trains with its adapter.

    Args:
        A: (r, k); or, if there is no B, the whole velocity (d, k).
        B: (d, r), in the dtype of A.  Plain tensors are copied.
        scale: s.

    Raises:
        ValueError: If A or B is not a matrix, B·A does not exist, or `scale` is not finite.

    Example:
        >>> ConstantField(torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0]]))(torch.zeros(1, 2)).detach()
        tensor([[2., 6.]])
    """

    def __init__(self, A: Tensor, B: Tensor | None = None, *, scale: float = 1.0) -> None:
        first = A if B is None else B
        if A.dim() != 2 or first.dim() != 2 or (B is not None and B.shape[1] != A.shape[0]):
            raise ValueError(f"B·A needs B (d, r), A (r, k); A is {tuple(A.shape)}, B {tuple(first.shape)}")
        super().__init__((first.shape[0], A.shape[1]))
        if not math.isfinite(scale):
            raise ValueError(f"scale={scale} must be a finite number")
        self.A = A if isinstance(A, nn.Parameter) else nn.Parameter(A.detach().clone())
        self.B = B if isinstance(B, nn.Parameter | None) else nn.Parameter(B.detach().clone())
        self.scale = scale

    def forward(self, W: Tensor, t: float | Tensor = 0.0) -> Tensor:
        """The velocity s·B·A, whatever W and t are."""
        self.check(W)
        return (self.scale * (self.A if self.B is None else self.B @ self.A)).to(W.dtype)


class SoftmaxField(VelocityField):
    """DELoRA's field: a weight attends to itself, v(W) = softmax((W·W1)(W2·W)/τ) (Eq. 7, repaired).

    Every entry is positive and each row sums to 1: unless told otherwise, it only ever raises weights.  It
    does not depend on t, and on its r·(d + k) parameters only through W1·W2; they start uniform in ±1/√k
    and ±1/√d (Kaiming).  Half precision is computed in float32 and rounded once.

    Args:
        shape: (d, k) of the weights: outputs, inputs.
        rank: r, from 1 to min(d, k).
        axis: What sums to 1: the inputs of each output, `"in"`; the outputs of each input, `"out"`; `"all"`.
        temperature: τ: `"paper"`, √d; `"rank"`, √r as in attention, the default of `normalise`; or a number.
        reference: What is subtracted: nothing, or the `"uniform"` field, all 1/k (1/d, 1/(d·k)).
        normalise: Put W/(rms(W)·√k) for W in Z, start W1 in ±1, W2 in ±√(k/d): the spread of Z starts at 1/3.
        zero_init: Start W2 at zero; with `reference="uniform"` nothing moves at first, exactly.
        generator: Where W1, then W2, are drawn from.
        dtype: Of W1 and W2.
        device: Of W1 and W2; the generator must live there.

    Raises:
        ValueError: If an option is unknown, or `shape`, `rank` or `temperature` not as above and positive.

    Example:
        >>> SoftmaxField((1, 4), 1, zero_init=True, generator=torch.Generator())(torch.ones(1, 4)).detach()
        tensor([[0.2500, 0.2500, 0.2500, 0.2500]])
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        rank: int,
        *,
        axis: Axis = "in",
        temperature: Literal["paper", "rank"] | float | None = None,
        reference: Literal["uniform"] | None = None,
        normalise: bool = False,
        zero_init: bool = False,
        generator: torch.Generator,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(shape)
        d, k = self.shape
        rank = check_rank(rank, self.shape)
        if axis not in get_args(Axis):
            raise ValueError(f"axis={axis!r} is unknown; it is one of {', '.join(get_args(Axis))}")
        if reference not in (None, "uniform"):
            raise ValueError(f'reference={reference!r} is unknown; it is None or "uniform"')
        named = {"paper": math.sqrt(d), "rank": math.sqrt(rank), None: math.sqrt(rank if normalise else d)}
        tau = temperature if isinstance(temperature, int | float) else named.get(temperature, 0.0)
        if not 0 < tau < math.inf:
            raise ValueError(f'temperature={temperature!r} must be "paper", "rank" or finite and positive')
        bound1, bound2 = (1.0, math.sqrt(k / d)) if normalise else (1 / math.sqrt(k), 1 / math.sqrt(d))
        W1, W2 = (torch.zeros(s, dtype=dtype, device=device) for s in ((k, rank), (rank, d)))
        self.W1 = nn.Parameter(W1.uniform_(-bound1, bound1, generator=generator))
        self.W2 = nn.Parameter(W2 if zero_init else W2.uniform_(-bound2, bound2, generator=generator))
        self.axis, self.temperature, self.reference, self.normalise = axis, float(tau), reference, normalise

    def logits(self, W: Tensor) -> Tensor:
        """Z, of rank r at most: (d, k), in float32 or wider."""
        self.check(W)
        W = W.to(torch.promote_types(torch.promote_types(W.dtype, self.W1.dtype), torch.float32))
        if self.normalise:
            size = torch.linalg.vector_norm(W)
            if any_true(size == 0):
                raise ValueError("W is all zero: it has no size to normalise by; use normalise=False")
            W = W * (math.sqrt(self.shape[0]) / size)  # rms(W)·√k = ‖W‖/√d
        W1 = self.W1.to(W.dtype).t().contiguous() / self.temperature  # W times columns takes up to ten times
        return (W1 @ W.t()).t() @ (self.W2.to(W.dtype) @ W)

    def forward(self, W: Tensor, t: float | Tensor = 0.0) -> Tensor:
        """The velocity at W, at any t: (d, k), in the dtype of W."""
        d, k = self.shape
        cells, dim = {"in": (k, 1), "out": (d, 0), "all": (d * k, 0)}[self.axis]
        Z = self.logits(W)
        v = torch.softmax(Z.flatten() if self.axis == "all" else Z, dim).view(d, k)
        return (v - 1 / cells if self.reference == "uniform" else v).to(W.dtype)


def integrate(
    field: Field,
    W0: Tensor,
    *,
    horizon: float | Tensor = 1.0,
    steps: int = 1,
    method: Method = "euler",
    t0: float | Tensor = 0.0,
) -> Tensor:
    """Follow a field from W0 for a time, in equal steps: dW/dt = v(W, t), W(t0) = W0.

    One Euler step is W0 + horizon·v(W0, t0).  Differentiable in W0, the horizon and the field's parameters.
    The steps are fixed, so that their number cannot change with the weights while they train.

    Args:
        field: Any v(W, t) that returns the shape of W, such as a `VelocityField`.
        W0: Where to start.  Half precision is summed in float32, where small steps are not lost, and
            rounded once; the field sees W in the dtype of W0.
        horizon: How long to follow, a number or a 0-d tensor; a negative one goes back.
        steps: K, of length horizon/K each.
        method: `"euler"`, `"midpoint"`, `"rk4"` (Kutta 1901): of order 1, 2, 4, at as many looks at v a step.
        t0: The time at W0.

    Returns:
        W(t0 + horizon), in the shape and dtype of W0.

    Raises:
        TypeError: If W0 is no floating-point tensor, or `horizon` or `t0` no number.
        ValueError: For unknown options, NaN or infinity on the way, or a velocity of another shape than W.

    Example:
        >>> integrate(lambda W, t: W, torch.tensor([1.0]), steps=10, method="rk4")
        tensor([2.7183])
    """
    if method not in get_args(Method):
        raise ValueError(f"method={method!r} is unknown; it is one of {', '.join(get_args(Method))}")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps={steps!r} must be a whole number, 1 or more")
    horizon, t0 = _check_number(horizon, "horizon"), _check_number(t0, "t0")
    if not (isinstance(W0, Tensor) and W0.is_meta):  # shapes can be had without values
        check_finite({"": W0}, "W0")

    def v(W: Tensor, t: float | Tensor) -> Tensor:
        V = field(W.to(W0.dtype), t)
        if V.shape != W0.shape:
            raise ValueError(f"field returned a {tuple(V.shape)} at a W of {tuple(W0.shape)}, not its shape")
        return V.to(W.dtype)

    W, h = W0.to(torch.promote_types(W0.dtype, torch.float32)), horizon / steps
    for t in (t0 + j * h for j in range(steps)):
        slope = v(W, t)
        if method == "midpoint":
            slope = v(W + h / 2 * slope, t + h / 2)
        elif method == "rk4":
            v1, v2 = slope, v(W + h / 2 * slope, t + h / 2)
            v3 = v(W + h / 2 * v2, t + h / 2)
            slope = (v1 + 2 * v2 + 2 * v3 + v(W + h * v3, t + h)) / 6
        # a number is multiplied by while adding, without a copy of the slope
        W = (W + h * slope).to(W.dtype) if isinstance(h, Tensor) else torch.add(W, slope, alpha=h)
    W = W.to(W0.dtype)
    if not finite(W):
        raise ValueError(f"the flow became infinite in steps={steps}; take more, or a shorter horizon")
    return W


class Flow(Path):
    """The road that fields make: W(t) is where W0 has been carried to at time t·horizon.

    W(t) takes `steps` steps of length t·horizon/steps: it is smooth in t, and `torch.vmap` works over t.
    Tensors without a field stay.  Training the fields moves the road, all but the attribute W1.

    Args:
        W0: Start.
        fields: Name of a tensor of W0 to its v(W, t).
        horizon: The time that t = 1 stands for.
        steps: As in `integrate`.
        method: As in `integrate`.
        extrapolate: Allow `evaluate` to leave [0, 1].

    Raises:
        TypeError: As `integrate`.
        ValueError: As `integrate`; also if `fields` is empty or names a tensor that W0 does not have.

    Example:
        >>> Flow({"w": torch.ones(1)}, {"w": lambda W, t: -W}, steps=100).at(0.5)
        {'w': tensor([0.6058])}
    """

    def __init__(
        self,
        W0: Params,
        fields: dict[str, Field],
        *,
        horizon: float = 1.0,
        steps: int = 1,
        method: Method = "euler",
        extrapolate: bool = False,
    ) -> None:
        check_finite(W0, "W0")
        if not isinstance(fields, dict) or not fields or fields.keys() - W0.keys():
            given = f"names {sorted(fields)}" if isinstance(fields, dict) else f"is a {type(fields).__name__}"
            raise ValueError(f"fields {given}; it must be a dict with some of W0's names, {sorted(W0)}")
        self.W0, self.fields, self.steps, self.method = W0, dict(fields), steps, method
        self.horizon = _check_number(horizon, "horizon")
        with torch.no_grad():
            super().__init__(W0, self.at(1.0), extrapolate=extrapolate)

    def at(self, t: float | Tensor) -> Params:
        """The point W(t): W0 carried along for a time of t·horizon."""
        return {name: self._carried(name, t) if name in self.fields else W for name, W in self.W0.items()}

    def velocity(self, t: float | Tensor) -> Params:
        """The field at W(t), times the horizon; it is the derivative of `at` up to the integrator's error."""
        still = {name: torch.zeros_like(W) for name, W in self.W0.items()}
        T = self.horizon
        return still | {name: T * v(self._carried(name, t), t * T) for name, v in self.fields.items()}

    def _carried(self, name: str, t: float | Tensor) -> Tensor:
        field, W, time = self.fields[name], self.W0[name], t * self.horizon
        try:
            return integrate(field, W, horizon=time, steps=self.steps, method=self.method)
        except (TypeError, ValueError) as error:
            error.add_note(f"on the road of {name!r}")
            raise


def _check_number(value: float | Tensor, name: str) -> float | Tensor:
    """A finite number as it came; a 0-d tensor in float64."""
    if isinstance(value, bool) or not isinstance(value, int | float | Tensor):
        raise TypeError(f"{name} is a {type(value).__name__}; it must be a number")
    number = torch.as_tensor(value)
    if number.dim() or any_true(~torch.isfinite(number)):
        raise ValueError(f"{name}={value} must be one finite number")
    return wide(value) if isinstance(value, Tensor) else value

"""Noise on weights that never touches them: Flat-LoRA's Bayesian-smoothed loss.

    min over A, B of  E_ε L(W' + ε),   ε_ij ~ N(0, σ²·‖W'_i‖²/k),   W' = W0 + s·B·A of shape (d, k)

(Li et al. 2024, arXiv 2409.14396v1, Eq. 4 and 5): one draw a step, row by row in proportion to the row's
length.  The rows' lengths are constants to the gradient.  Published code adds ε to the frozen weights and
subtracts it afterwards, which does not give them back (`inplace`).  Ours: a layer's one full-size product is
taken with W0 + ε (`draws.noisy_linear`).  So W0 stays as it is, nothing is kept beyond what the step keeps
anyway, and there is nothing to undo.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

import torch
from torch import Tensor, nn

from geolessons.attaching import AdaptedLinear
from geolessons.draws import (
    Draw,
    check_draw,
    check_strength,
    isotropic_noise,
    noisy_linear,
    plus_noise,
    reparameterised_linear,
    row_noise,
    row_std,
    seed_of,
    seeded_noise,
    tabled_noise,
)
from geolessons.matching import some
from geolessons.noise_targets import noise_targets
from geolessons.trees import check_finite

__all__ = [
    "FlatNoise",
    "isotropic_noise",
    "mean_loss",
    "reparameterised_linear",
    "row_noise",
    "row_std",
]


def mean_loss(
    model: nn.Module,
    loss: Callable[[], Tensor],
    sigma: float,
    *,
    num_samples: int = 1,
    seed: int = 0,
    step: int = 0,
    draw: Draw = "normal",
) -> Tensor:
    """The mean of a loss over draws of noise, to be differentiated: an estimate of E_ε L(W' + ε).

    Args:
        model: As `FlatNoise`.
        loss: Runs the model and gives a 0-d tensor.
        sigma: As `FlatNoise`.
        num_samples: Draws, each with a forward pass; the paper takes one.
        seed: As `FlatNoise`.
        step: As `FlatNoise`.
        draw: As `FlatNoise`.

    Raises:
        TypeError: As `FlatNoise`.
        ValueError: As `FlatNoise`; and if `num_samples` is not a whole number from 1.
    """
    if isinstance(num_samples, bool) or not isinstance(num_samples, int) or num_samples < 1:
        raise ValueError(f"num_samples={num_samples!r} must be a whole number, 1 or more")
    values = []
    for sample in range(num_samples):
        with FlatNoise(model, sigma, seed=seed, step=step, sample=sample, draw=draw):
            values.append(loss())
    return torch.stack(values).mean()


class FlatNoise:
    """Inside this context the adapted layers of a model work with W' + ε; no weight is changed.

    In a training loop::

        for i in range(1, N + 1):
            with FlatNoise(model, sigma * cosine(i - 1, N), seed=seed, step=i):
                loss(model, batch).backward()
            optimiser.step()

    All passes inside see the same draw, so accumulated batches share it.  The backward pass may come after
    the context, except under gradient checkpointing, which runs the forward pass again and would miss the
    noise (torch raises its CheckpointError).  With `training.fit`, return it from `on_step`.

    Noise is on the whole matrix of each adapted layer, as in the published code; embeddings, norms, biases
    and layers without an adapter have none.  It is drawn in float32 or wider and added there; under
    autocast, or with weights in half precision, the sum is rounded once: the paper's noise "at the cast".

    Args:
        model: With adapters of ours attached, or from PEFT with LoRA adapters: plain, DoRA, or any
            initialisation (PiSSA, LoRA-GA).  May be wrapped in `DistributedDataParallel`.
        sigma: Strength, 0 or more (0 is no noise); the paper uses 0.05 and 0.15.  Schedules are factors.
        seed: Of the run.
        step: Of the optimiser; another step is another draw.
        sample: Another draw of the same step.
        per_rank: Give each process of a distributed run a draw of its own; else all share one.
        draw: `"normal"` takes torch's normal numbers.  `"table"` takes them from a table, in about half the
            time on a processor: other noise for the same seed, of a coarser law (`pairs` says which).

    Attributes:
        left_out: Adapted layers of PEFT without noise, as they are not `nn.Linear`; name to kind.
        std: Name to the deviations of the rows (d,).

    Raises:
        TypeError: If sigma is not a number, or seed, step or sample not whole.
        ValueError: If sigma is negative or not finite, or `draw` unknown.  On entering: if the model has no
            adapted linear layer, its parameters are in shards, a weight is not finite, noise is on already,
            or a layer of PEFT's is merged, disabled, trains DoRA with dropout (which computes part of its
            base product past the base layer), or uses a variant that is not known to add to the base product.

    References:
        Li et al. 2024, arXiv 2409.14396v1, Eq. 4 and 5.

    Example:
        >>> from geolessons.adapters import LoRA
        >>> from geolessons.attaching import attach
        >>> model, g = nn.Sequential(nn.Linear(4, 3)), torch.Generator().manual_seed(0)
        >>> layers = attach(model, "*", lambda name, W: LoRA(W.shape, rank=2, generator=g))
        >>> x = torch.ones(1, 4)
        >>> with FlatNoise(model, sigma=0.1, seed=0, step=1):
        ...     noisy = model(x)
        >>> torch.equal(noisy, model(x))
        False
    """

    def __init__(
        self,
        model: nn.Module,
        sigma: float,
        *,
        seed: int = 0,
        step: int = 0,
        sample: int = 0,
        per_rank: bool = False,
        draw: Draw = "normal",
    ) -> None:
        check_strength(sigma)
        check_draw(draw)
        for name, value in (("seed", seed), ("step", step), ("sample", sample)):
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name}={value!r} must be a whole number")
        self.model, self.sigma = model, float(sigma)
        self._drawn = draw
        self.key = (seed, step, sample, _rank() if per_rank else 0)
        self.std: dict[str, Tensor] = {}
        self.left_out: dict[str, str] = {}
        self._swapped: list[tuple[nn.Linear, type[nn.Linear]]] = []
        self._sizes: dict[str, int] = {}

    @property
    def layers(self) -> list[str]:
        """The names of the layers with noise, known once entered."""
        return list(self.std)

    def draw(self, name: str) -> Tensor:
        """The noise ε of a layer, (d, k), in float32 or wider: what the layer's weight is moved by.

        Raises:
            KeyError: If the layer has no noise.
        """
        if name not in self.std:
            raise KeyError(f"{name!r} has no noise; these have: {some(self.std) or 'none, before entering'}")
        noise = tabled_noise if self._drawn == "table" else seeded_noise
        return noise(self.std[name], self._sizes[name], self._seed(name))

    def __enter__(self) -> FlatNoise:
        if any(type(m) in _NOISY.values() for m in self.model.modules()):
            raise ValueError("the model is inside a FlatNoise already: leave that first")
        targets, self.left_out = noise_targets(self.model)
        # all that can be refused comes first: a model is either wholly noisy or as it was
        std = {name: row_std(target.weight(), self.sigma) for name, target in targets.items()}
        check_finite(std, "the noise's deviation")
        self._sizes = {name: target.layer.in_features for name, target in targets.items()}
        self.std = std
        try:
            for name, target in targets.items():
                layer, kind = target.layer, type(target.layer)
                self._swapped.append((layer, kind))
                layer._noise_std, layer._noise_seed = std[name], self._seed(name)  # type: ignore[assignment]
                layer._noise_draw = self._drawn  # type: ignore[assignment]
                layer.__class__ = _NOISY[kind]
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        try:
            self._restore()
        except KeyboardInterrupt:  # once more, from where it was
            self._restore()
            raise

    def _restore(self) -> None:
        for layer, kind in self._swapped:
            if type(layer) is _NOISY[kind]:  # else somebody detached its adapter inside
                layer.__class__ = kind
            for name in ("_noise_std", "_noise_seed", "_noise_draw"):
                layer.__dict__.pop(name, None)
        self._swapped = []

    def _seed(self, name: str) -> Tensor:
        return torch.tensor(seed_of(self.key, name))


class _NoisyLinear(nn.Linear):
    """The base layer of a PEFT layer while there is noise."""

    _noise_std: Tensor
    _noise_seed: Tensor
    _noise_draw: Draw

    def forward(self, x: Tensor) -> Tensor:
        return noisy_linear(x, self.weight, self._noise_std, self._noise_seed, self.bias, self._noise_draw)


class _NoisyAdapted(AdaptedLinear):
    """A layer of ours while there is noise; what reads its `weight` sees the noise as well."""

    _noise_std: Tensor
    _noise_seed: Tensor
    _noise_draw: Draw

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        W = self.adapter.weight(self.base_weight)
        return plus_noise(W, self._noise_std, self._noise_seed, self._noise_draw).to(W.dtype)

    def forward(self, x: Tensor) -> Tensor:
        def product(x: Tensor, W: Tensor, bias: Tensor | None) -> Tensor:
            return noisy_linear(x, W, self._noise_std, self._noise_seed, bias, self._noise_draw)

        return self.adapter.linear(x, self.base_weight, self.bias, product)


_NOISY: dict[type[nn.Linear], type[nn.Linear]] = {nn.Linear: _NoisyLinear, AdaptedLinear: _NoisyAdapted}


def _rank() -> int:
    distributed = torch.distributed
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0

"""How noise on weights is drawn, and the product of a layer whose weight has it.

    ε_ij ~ N(0, σ²·‖W_i‖²/k)  for W (d, k): row by row, in proportion to the row's length

(Li et al. 2024, arXiv 2409.14396v1, Eq. 5).  Beside it the paper's isotropic noise (Eq. 4) and the local
reparameterisation.  `noisy_linear` is ours: it takes the one product of full size with W + ε, which is formed
in the forward pass and formed again in the backward pass, from a seed.

Normal numbers are torch's, or on request from a table, which is faster on a processor (`pairs`).
"""

from __future__ import annotations

import hashlib
import math
import numbers
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from geolessons.adapters import full_precision
from geolessons.pairs import normal_pairs
from geolessons.trees import BLOCK, eager

__all__ = [
    "Draw",
    "check_draw",
    "check_strength",
    "isotropic_noise",
    "noisy_linear",
    "plus_noise",
    "reparameterised_linear",
    "row_noise",
    "row_std",
    "seed_of",
    "seeded_noise",
    "tabled_noise",
]

Draw = Literal["normal", "table"]


def row_std(W: Tensor, sigma: float) -> Tensor:
    """The deviation of the noise of each row: σ·‖W_i‖/√k (Flat-LoRA Eq. 5), held constant.

    The paper's text scales the noise's magnitude by 1/k; its formula does so with the variance, and so do we.

    Args:
        W: A weight (d, …); k is the number of entries of a row.
        sigma: Strength, 0 or more; it is the noise's length beside the row's.

    Returns:
        A tensor (d,), in float32 or wider.

    Raises:
        TypeError: If sigma is not a number.
        ValueError: If sigma is negative or not finite, or W has fewer than two dimensions.

    Example:
        >>> row_std(torch.tensor([[3.0, 4.0, 0.0, 0.0]]), sigma=0.1)
        tensor([0.2500])
    """
    check_strength(sigma)
    if W.dim() < 2 or W[0].numel() == 0:
        raise ValueError(f"W has shape {tuple(W.shape)}; its noise is by rows, so it must be (d, k)")
    rows = W.detach().flatten(1)
    dtype = torch.promote_types(W.dtype, torch.float32)
    with full_precision(W):
        return torch.linalg.vector_norm(rows, dim=1, dtype=dtype) * (sigma / math.sqrt(rows.shape[1]))


def row_noise(W: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """One draw of Flat-LoRA's noise for a weight (Eq. 5), of W's shape and dtype.

    Args:
        W: A weight (d, …).
        sigma: As `row_std`.
        generator: Where it is drawn from; on the device of W.

    Raises:
        TypeError: As `row_std`.
        ValueError: As `row_std`.
    """
    std = row_std(W, sigma)
    return _normal(std, W[0].numel(), generator).reshape(W.shape).to(W.dtype)


def isotropic_noise(W: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """One draw of noise that is the same for all weights, N(0, σ²) (Flat-LoRA Eq. 4), of W's shape and dtype.

    Here sigma is in the unit of the weights.

    Raises:
        TypeError: If sigma is not a number.
        ValueError: If sigma is negative or not finite.
    """
    check_strength(sigma)
    return sigma * torch.randn(W.shape, generator=generator, dtype=W.dtype, device=W.device)


def reparameterised_linear(
    x: Tensor, W: Tensor, sigma: float, generator: torch.Generator, bias: Tensor | None = None
) -> Tensor:
    """x·(W + ε)ᵀ + bias with noise drawn for the outputs instead of the weights; (…, d) for x (…, k).

    Output i of input x is normal with deviation ‖x‖ times that of row i, so d numbers an input do
    (Kingma, Salimans, Welling 2015, arXiv 1506.02557).  Inputs see independent noise here, where one draw of
    ε is shared by all: the mean is the same, the distribution over a batch is not.

    Raises:
        TypeError: As `row_std`.
        ValueError: As `row_std`.
    """
    std = row_std(W, sigma).to(x.dtype)
    y = F.linear(x, W, bias)
    drawn = torch.randn(y.shape, generator=generator, dtype=y.dtype, device=y.device)
    return y + drawn * torch.linalg.vector_norm(x, dim=-1, keepdim=True) * std


def noisy_linear(
    x: Tensor, W: Tensor, std: Tensor, seed: Tensor, bias: Tensor | None = None, draw: Draw = "normal"
) -> Tensor:
    """x·(W + ε)ᵀ + bias, where ε has deviation std_i in row i and comes from the seed.

    W + ε is formed in each pass and not kept.

    Args:
        x: (…, k).
        W: (d, k).
        std: (d,).
        seed: A 0-d int64 tensor on the CPU; the same seed is the same noise.
        bias: (d,).
        draw: Where ε comes from, as in `noise.FlatNoise`.
    """
    kind = x.device.type
    if torch.is_autocast_enabled(kind):
        x = x.to(torch.get_autocast_dtype(kind))
    return _Noisy.apply(x, W, std, seed, bias, draw)  # type: ignore[no-untyped-call,no-any-return]


class _Noisy(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, W: Tensor, std: Tensor, seed: Tensor, bias: Tensor | None, draw: Draw) -> Tensor:
        noisy = plus_noise(W, std, seed, draw).to(x.dtype)
        return F.linear(x, noisy, None if bias is None else bias.to(x.dtype))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, W, std, seed, bias, ctx.draw = inputs
        ctx.save_for_backward(x if W.requires_grad else None, W, std, seed)
        ctx.bias = None if bias is None else bias.dtype

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,), (x, W, std, seed), needed = grads, ctx.saved_tensors, ctx.needs_input_grad
        of_x = grad @ plus_noise(W, std, seed, ctx.draw).to(grad.dtype) if needed[0] else None
        flat = grad.flatten(0, -2) if grad.dim() > 1 else grad[None]  # (n, d)
        of_W = of_bias = None
        if needed[1]:
            of_W = (flat.mT @ (x.flatten(0, -2) if x.dim() > 1 else x[None])).to(W.dtype)
        if needed[4]:
            of_bias = flat.sum(0).to(ctx.bias)
        return of_x, of_W, None, None, of_bias, None


def plus_noise(W: Tensor, std: Tensor, seed: Tensor, draw: Draw = "normal") -> Tensor:
    """W + ε, in the dtype of std; W is (d, k)."""
    if eager() and not (torch.is_grad_enabled() and W.requires_grad):
        drawn = normal_pairs if draw == "table" else _normal
        return drawn(std, W.shape[1], torch.Generator(std.device).manual_seed(int(seed)), W)
    return W + (tabled_noise if draw == "table" else seeded_noise)(std, W.shape[-1], seed)


@torch.library.custom_op("geolessons::row_noise", mutates_args=())
def seeded_noise(std: Tensor, k: int, seed: Tensor) -> Tensor:
    """Noise (d, k) with deviation std (d,); as an operator, so that compilers take it as it is."""
    generator = torch.Generator(std.device).manual_seed(int(seed))
    return _normal(std, k, generator)


@seeded_noise.register_fake
def _(std: Tensor, k: int, seed: Tensor) -> Tensor:
    return std.new_empty(len(std), k)


@torch.library.custom_op("geolessons::tabled_noise", mutates_args=())
def tabled_noise(std: Tensor, k: int, seed: Tensor) -> Tensor:
    """As `seeded_noise`, by `pairs.normal_pairs`."""
    return normal_pairs(std, k, torch.Generator(std.device).manual_seed(int(seed)))


@tabled_noise.register_fake
def _(std: Tensor, k: int, seed: Tensor) -> Tensor:
    return std.new_empty(len(std), k)


def _normal(std: Tensor, k: int, generator: torch.Generator, plus: Tensor | None = None) -> Tensor:
    """Normal numbers (d, k) with deviation std (d,), and `plus` added to them."""
    drawn = torch.empty(len(std), k, dtype=std.dtype, device=std.device)
    # in blocks of rows that stay in cache: one pass over memory, not three
    rows = max(1, BLOCK // k) if std.device.type == "cpu" else len(std)
    parts = (drawn, std[:, None]) if plus is None else (drawn, std[:, None], plus)
    for part, deviation, *W in zip(*(torch.split(x, rows) for x in parts), strict=True):
        part.normal_(generator=generator).mul_(deviation)
        if W:
            part.add_(W[0])
    return drawn


def seed_of(key: tuple[int, ...], name: str) -> int:
    """A seed for a tensor from the run's key and its name alone: not from order, wrapping or process."""
    plain = ".".join(part for part in name.split(".") if part not in ("module", "_orig_mod"))
    digest = hashlib.blake2b(repr((*key, plain)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def check_strength(value: float, name: str = "sigma") -> None:
    """Refuse what is not a strength of noise, or a radius.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is negative or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is a {type(value).__name__}; it must be a number, 0 or more")
    if not 0 <= value < math.inf:
        raise ValueError(f"{name}={value} must be a finite number, 0 or more")


def check_draw(draw: str) -> None:
    """Refuse an unknown way to draw.

    Raises:
        ValueError: If it is none of `Draw`.
    """
    if draw not in get_args(Draw):
        raise ValueError(f"draw={draw!r} is unknown; it is one of {', '.join(get_args(Draw))}")

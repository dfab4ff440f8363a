"""A small transformer encoder that sorts sentences, with every matrix in a layer of its own.

    x ← x + Attention(norm(x)),   x ← x + fc2(gelu(fc1(norm(x)))),   logits = head(mean of norm(x) over words)

(Vaswani et al. 2017, arXiv 1706.03762, normalised before each part.)  The queries, keys, values and outputs
of the attention are four `nn.Linear`, so that adapters reach each of them.  Padding is not computed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from geolessons.data.words import PADDING

__all__ = ["Block", "Encoder"]


class Block(nn.Module):
    """One layer of an encoder: attention among words, and a perceptron on each."""

    def __init__(self, width: int, heads: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = (nn.LayerNorm(width, dtype=dtype) for _ in range(2))
        self.q, self.k, self.v, self.o = (_linear(width, width, dtype) for _ in range(4))
        self.fc1, self.fc2 = _linear(width, 2 * width, dtype), _linear(2 * width, width, dtype)

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        """The vectors of all words (words, width) after this layer; `words` (n, length) is where they are."""
        h = self.norm1(x)
        q, k, v = (self._apart(part(h), words) for part in (self.q, self.k, self.v))
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        scores = scores.masked_fill(~words[:, None, None, :], -math.inf)
        seen = (scores.softmax(-1) @ v).transpose(1, 2)
        x = x + self.o(seen[words].flatten(1))
        return x + self.fc2(gelu(self.fc1(self.norm2(x))))

    def _apart(self, x: Tensor, words: Tensor) -> Tensor:
        """Vectors of words (words, width) by sentence and head: (n, heads, length, width / heads)."""
        spread = x.new_zeros(*words.shape, x.shape[-1])
        spread[words] = x
        return spread.reshape(*words.shape, self.heads, -1).transpose(1, 2)


class Encoder(nn.Module):
    """A transformer encoder with learned places, and one answer a sentence.

    Args:
        vocabulary: Number of different ids; 0 is padding.
        generator: Where the weights come from; the global generator is not touched.
        width: Of a word's vector; a multiple of `heads`.
        heads: Of the attention in each layer.
        layers: Their number.
        length: The most words that a sentence may have.
        classes: Number of answers.
        dtype: Of the parameters.

    Raises:
        ValueError: If a size is not positive, or the width not a multiple of the heads.

    Example:
        >>> model = Encoder(10, torch.Generator().manual_seed(0), width=8, heads=2, layers=1)
        >>> short = model(torch.tensor([[3, 4]]))
        >>> torch.allclose(model(torch.tensor([[3, 4, 0, 0]])), short, atol=1e-6)
        True
    """

    def __init__(
        self,
        vocabulary: int,
        generator: torch.Generator,
        *,
        width: int = 128,
        heads: int = 4,
        layers: int = 2,
        length: int = 32,
        classes: int = 2,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        sizes = {"vocabulary": vocabulary, "width": width, "heads": heads, "layers": layers}
        for name, size in (sizes | {"length": length, "classes": classes}).items():
            if size < 1:
                raise ValueError(f"{name}={size} must be at least 1")
        if width % heads:
            raise ValueError(f"width={width} must be a multiple of heads={heads}")
        self.words = nn.Parameter(torch.empty(vocabulary, width, dtype=dtype))
        self.places = nn.Parameter(torch.empty(length, width, dtype=dtype))
        self.blocks = nn.ModuleList(Block(width, heads, dtype) for _ in range(layers))
        self.norm = nn.LayerNorm(width, dtype=dtype)
        self.head = _linear(width, classes, dtype)
        with torch.no_grad():
            for name, p in self.named_parameters():
                if p.dim() == 2:  # the vectors of words and places, and matrices (d, k): deviation 1/√k
                    drawn = torch.randn(p.shape, generator=generator, dtype=dtype, device=generator.device)
                    p.copy_(drawn * (0.1 if name in ("words", "places") else 1 / math.sqrt(p.shape[1])))
                elif "norm" not in name:
                    p.zero_()

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (n, classes) for ids (n, length); columns of padding alone at the end are not computed.

        Raises:
            ValueError: If a sentence has no word, or more than the encoder has places for.
        """
        words = ids != PADDING
        if not bool(words.any(1).all()):
            raise ValueError("ids holds a sentence without a word: each row needs an id other than 0")
        longest = int(words.any(0).nonzero().max()) + 1
        if longest > len(self.places):
            raise ValueError(
                f"ids has sentences of {longest} words, the encoder places for {len(self.places)}"
            )
        ids, words = ids[:, :longest], words[:, :longest]
        sentence, place = words.nonzero(as_tuple=True)
        x = self.words[ids[words]] + self.places[place]
        for block in self.blocks:
            x = block(x, words)
        total = x.new_zeros(len(ids), x.shape[1]).index_add(0, sentence, self.norm(x))
        logits: Tensor = self.head(total / words.sum(1, keepdim=True))
        return logits


def _linear(k: int, d: int, dtype: torch.dtype) -> nn.Linear:
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, k, d, dtype=dtype)  # type: ignore[no-untyped-call]
    return layer

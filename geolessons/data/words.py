"""Sentences as numbers, word by word, and sentences with their words out of order.

Ids are 0 for padding, 1 for a word that is not in the vocabulary, and from 2 on the vocabulary's words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

__all__ = ["PADDING", "UNKNOWN", "Vocabulary", "misordered", "words"]

PADDING, UNKNOWN = 0, 1


def words(sentence: str) -> list[str]:
    """The words of a sentence in small letters; each mark is a word of its own.

    Example:
        >>> words("We won't go, Kim.")
        ['we', 'won', "'", 't', 'go', ',', 'kim', '.']
    """
    return re.findall(r"\w+|[^\w\s]", sentence.lower())


class Vocabulary:
    """The words that some sentences hold at least a number of times, the most frequent first.

    Args:
        sentences: Those to train on.
        least: How often a word must be there; rarer ones are unknown.

    Raises:
        ValueError: If `least` is not positive, or no word is there as often.

    Example:
        >>> known = Vocabulary(["the cat saw the dog", "a cat slept"])
        >>> known.words, len(known)
        (('cat', 'the'), 4)
        >>> known.encode(["The dog"], 4)
        tensor([[3, 1, 0, 0]])
    """

    def __init__(self, sentences: Iterable[str], *, least: int = 2) -> None:
        if least < 1:
            raise ValueError(f"least={least} must be at least 1")
        counts = Counter(word for sentence in sentences for word in words(sentence))
        kept = [word for word, count in counts.items() if count >= least]
        if not kept:
            raise ValueError(f"sentences hold no word {least} times: give more of them, or a smaller least")
        self.words = tuple(sorted(kept, key=lambda word: (-counts[word], word)))
        self._ids = {word: i for i, word in enumerate(self.words, start=UNKNOWN + 1)}

    def __len__(self) -> int:
        """The number of ids, with padding and the unknown word."""
        return len(self.words) + UNKNOWN + 1

    def encode(self, sentences: Sequence[str], length: int) -> Tensor:
        """Ids (n, length), padded with 0; what is longer is cut off.

        Raises:
            ValueError: If `length` is not positive, or a sentence has no word.
        """
        if length < 1:
            raise ValueError(f"length={length} must be at least 1")
        ids = torch.full((len(sentences), length), PADDING)
        for i, sentence in enumerate(sentences):
            found = [self._ids.get(word, UNKNOWN) for word in words(sentence)][:length]
            if not found:
                raise ValueError(f"sentences[{i}]={sentence!r} has no word")
            ids[i, : len(found)] = torch.tensor(found)
        return ids


def misordered(ids: Tensor, generator: torch.Generator) -> Tensor:
    """Sentences with words out of order: two neighbours exchanged, any two, or all shuffled, by equal chance.

    The last word, which is mostly the full stop, stays in its place.  Sentences of fewer than three words
    stay as they are; others may come out as they were where a word occurs twice, or by a shuffle's chance.

    Args:
        ids: (n, length), padded at the end; not changed.
        generator: Draws what is done to each; on the device of ids.

    Returns:
        (n, length), with the same ids in each row.

    Example:
        >>> misordered(torch.tensor([[5, 6, 2, 0]]), torch.Generator().manual_seed(0))
        tensor([[6, 5, 2, 0]])
    """
    n, length = ids.shape
    rows, place = torch.arange(n, device=ids.device), torch.arange(length, device=ids.device)
    free = (ids != PADDING).sum(1) - 1  # words that may move

    def below(limit: Tensor) -> Tensor:
        """A whole number from 0 up to, without, the limit of each row; 0 where that is 0 or less."""
        drawn = torch.rand(n, generator=generator, device=ids.device)
        return (drawn * limit.clamp(min=1)).long()

    kind = below(torch.full((n,), 3, device=ids.device))
    first, far = below(free - 1), below(free - 1)
    # neighbours are 1 apart, any two are 1 to free − 1 apart, on a ring of the free words
    other = torch.where(kind == 0, first + 1, (first + 1 + far) % free.clamp(min=1))
    shuffle = torch.rand(ids.shape, generator=generator, device=ids.device)
    other = other.clamp(max=length - 1)  # of a sentence that stays as it is
    order = place.expand(n, length).clone()
    order[rows, first], order[rows, other] = other, first
    free = free[:, None]
    keys = torch.where((kind == 2)[:, None] & (place < free), shuffle - 1, order)
    keys = torch.where(free >= 2, keys, place)
    return ids.gather(1, keys.argsort(dim=1, stable=True))

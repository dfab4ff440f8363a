"""Generated words and images for runs that only show that a study runs: nothing is fetched, nothing is true.

Each example holds one telling word, or one telling pattern, of its class; all else is drawn at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset, TensorDataset

__all__ = ["pictures", "sentences", "word_tokenizer"]

FILLERS = [f"word{i}" for i in range(20)]


def sentences(columns: Sequence[str], classes: int, n: int, seed: int) -> dict[str, list[Any]]:
    """Columns of sentences of six words, and `label`; the telling word is in the last column.

    Args:
        columns: Names.
        classes: How many.
        n: Examples.
        seed: Of the draws.
    """
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(classes, (n,), generator=g).tolist()
    found: dict[str, list[Any]] = {"label": label}
    for column in columns:
        drawn = torch.randint(len(FILLERS), (n, 6), generator=g).tolist()
        found[column] = [" ".join(FILLERS[i] for i in row) for row in drawn]
    place = torch.randint(6, (n,), generator=g).tolist()
    for i, text in enumerate(found[columns[-1]]):
        words = text.split()
        words[place[i]] = f"telling{label[i]}"
        found[columns[-1]][i] = " ".join(words)
    return found


def word_tokenizer(texts: Sequence[str]) -> Any:
    """A tokeniser of transformers with a token for each word of some texts; it ends each text with `</s>`.

    Args:
        texts: Hold all words; another word is unknown.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "</s>", "<unk>"]
    words = sorted({word for text in texts for word in text.split()} - set(special))
    vocabulary = {word: i for i, word in enumerate([*special, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A $B </s>", special_tokens=[("</s>", 1)]
    )
    kind: Any = PreTrainedTokenizerFast
    return kind(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def pictures(classes: int, n: int, seed: int, *, size: int = 16) -> Dataset[Any]:
    """Images (3, size, size): the pattern of a class and noise; and the class's number.

    Args:
        classes: How many; a class has the same pattern for all seeds.
        n: Examples.
        seed: Of the draws.
        size: Height and width.
    """
    patterns = torch.randn(classes, 3, size, size, generator=torch.Generator().manual_seed(12345))
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(classes, (n,), generator=g)
    return TensorDataset(patterns[label] + torch.randn(n, 3, size, size, generator=g), label)

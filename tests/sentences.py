"""Sentences made up for tests, in the layout of CoLA's files."""

from __future__ import annotations

import random
from pathlib import Path

from geolessons.data.cola import FILES

VERBS = ("sees", "likes", "follows", "paints")
NOUNS = ("kim", "sandy", "the dog", "a cat", "every bird")


def lines(count: int, seed: int) -> list[str]:
    """Noun, verb, noun; where it is not acceptable, noun, noun, verb."""
    draw, found = random.Random(seed), []
    for i in range(count):
        one, two, verb = draw.choice(NOUNS), draw.choice(NOUNS), draw.choice(VERBS)
        good = i % 3 > 0
        sentence = f"{one} {verb} {two}." if good else f"{one} {two} {verb}."
        found.append(f"made\t{int(good)}\t{'' if good else '*'}\t{sentence.capitalize()}")
    return found


def write(root: Path) -> Path:
    """240 sentences to train on and 60 to test on below a folder."""
    folder = root / "text" / "cola"
    folder.mkdir(parents=True)
    for file, count, seed in zip(FILES, (240, 60), (0, 1), strict=True):
        (folder / file).write_text("\n".join(lines(count, seed)) + "\n", encoding="utf8")
    return root

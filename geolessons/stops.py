"""Stops: the grid of one slider, as numbers and as a reader sees them.

Slider.of("t", [0, 0.05, 0.1])             numbers: a kernel also draws what lies between
Slider.of("pair", {"two seeds": …, "matched": …})    names, for values of any kind
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["Named", "Slider", "State", "Stop", "check_template"]

Stop = tuple[Any, str]  # a value, and how it is written
State = tuple[Stop, ...]  # one of each parameter


@dataclass(frozen=True)
class Slider:
    """One parameter: its stops, what is written beside them, and where it starts."""

    name: str
    words: str
    values: list[Any]
    texts: list[str]
    named: bool
    start: int = 0

    @classmethod
    def of(cls, name: str, grid: Any, words: str | None = None, start: Any = None) -> Slider:
        """Read a grid.

        Args:
            name: of the parameter.
            grid: increasing numbers, or `{name of the stop: value}`.
            words: beside the name.
            start: a stop's name, its value, or else its index; else the first.

        Raises:
            TypeError: `grid` is not of these kinds.
            ValueError: too short, not increasing, not finite; `start` is not a stop.
        """
        named = isinstance(grid, Mapping)
        values = list(grid.values()) if named else _numbers(name, grid)
        texts = [str(text) for text in grid] if named else _texts(values)
        if len(values) < 2:
            count = "has only one stop" if values else "is empty"
            raise ValueError(f"The grid of {name} {count}; give at least two, e.g. {name}=[0, 0.5, 1].")
        slider = cls(name, f"{name}, {words}" if words else name, values, texts, named)
        i = 0 if start is None else slider.index(start)
        if i is None and isinstance(start, int) and -len(values) <= start < len(values):
            i = start % len(values)
        if i is None:
            stops = ", ".join(texts)
            raise ValueError(f"start[{name!r}] is {start!r}, which is not a stop of {name}: {stops}.")
        return replace(slider, start=i)

    def index(self, given: Any) -> int | None:
        """The stop that `given` names or equals."""
        for i, (value, text) in enumerate(self.stops()):
            # Named stops may hold arrays, whose == has no single truth value: those are compared by identity.
            plain = isinstance(given, int | float) and isinstance(value, int | float)
            same = math.isclose(given, value, abs_tol=1e-12) if plain else given is value
            if same or (
                isinstance(given, str) and (given == text or (isinstance(value, str) and given == value))
            ):
                return i
        return None

    def stops(self) -> list[Stop]:
        """All stops in order."""
        return list(zip(self.values, self.texts, strict=True))

    def at(self, i: int) -> Stop:
        """The stop at an index."""
        return self.values[i], self.texts[i]

    def find(self, given: Any) -> Stop:
        """Value and text of a stop or, on a grid of numbers, of any value between the ends.

        Raises:
            ValueError: It is not a stop, or lies outside the grid.
        """
        i = self.index(given)
        if i is not None:
            return self.at(i)
        if self.named:
            stops = ", ".join(self.texts)
            raise ValueError(f"{self.name} = {given!r} is not a stop of this sweep. Its stops: {stops}.")
        if not self.values[0] <= given <= self.values[-1]:
            raise ValueError(f"{self.name} = {given!r} lies outside the grid, which goes from {self.ends}.")
        return given, f"{given:.4g}"

    @property
    def ends(self) -> str:
        """First and last stop, in words."""
        first, last = (self.texts[i] if self.named else f"{self.values[i]:g}" for i in (0, -1))
        return f"{first} to {last}"

    @property
    def straight(self) -> bool:
        """Whether a slider with even steps reaches its stops: not for names, nor for powers of ten."""
        gaps = [] if self.named else [b - a for a, b in zip(self.values, self.values[1:], strict=False)]
        return bool(gaps) and max(gaps) <= 20 * min(gaps)


class Named:
    """A named stop inside a template: `{pair}` is its name, `{pair:.2f}` its value in that format."""

    def __init__(self, value: Any, text: str):
        self.value, self.text = value, text

    def __format__(self, spec: str) -> str:
        return format(self.value, spec) if spec else self.text


def check_template(alt: str, names: list[str]) -> None:
    """Refuse a template that cannot be filled in now, not at the first frame.

    Raises:
        ValueError: Its braces do not match, or it names something else than a parameter.
    """
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(alt) if field is not None]
    except ValueError as error:
        hint = "Write {{ and }} for braces that stay."
        raise ValueError(f"alt is not a template ({error}): {alt!r}. {hint}") from None
    for field in fields:
        if re.split(r"[.\[]", field)[0] not in names:
            hint = f'For computed numbers give a function: alt=lambda {", ".join(names)}: f"…".'
            raise ValueError(f"alt names {{{field}}}, but the parameters are {' and '.join(names)}. {hint}")


def _numbers(name: str, grid: Any) -> list[Any]:
    """A grid as plain numbers, finite and increasing."""
    grid = grid.tolist() if hasattr(grid, "tolist") else grid
    if isinstance(grid, str) or not isinstance(grid, Sequence):
        raise TypeError(
            f"{name} must be a grid of numbers, e.g. {name}=[0, 0.5, 1], or named stops, e.g. "
            f"{name}={{'near': 0.1, 'far': 2.0}}; got {type(grid).__name__}."
        )
    values = [value.item() if hasattr(value, "item") else value for value in grid]
    for i, value in enumerate(values):
        before = values[i - 1] if i else -math.inf
        if isinstance(value, bool) or not isinstance(value, int | float):
            hint = f"For other stops give names: {name}={{'first': …, 'second': …}}."
            raise TypeError(f"{name}[{i}] is {value!r}, not a number. {hint}")
        if not math.isfinite(value):
            hint = "stops are finite numbers. Look at how the grid was made."
            raise ValueError(f"{name}[{i}] is {value}; {hint}")
        if value == before:
            twice = f"{name} has the stop {value!r} twice, at {i - 1} and {i}."
            raise ValueError(f"{twice} Leave one of them out.")
        if value < before:
            raise ValueError(f"{name} goes down from {before!r} to {value!r}; stops increase. Sort the grid.")
    return values


def _texts(values: list[Any]) -> list[str]:
    """The stops as a reader sees them: few decimals, the same number in each, and no two alike."""
    if all(isinstance(value, int) for value in values):
        return [str(value) for value in values]
    exact = (d for d in (1, 2, 3) if all(abs(round(value, d) - value) < 1e-9 for value in values))
    for form in (f".{next(exact, 3)}f", ".3g", ".6g"):
        texts = [format(value, form) for value in values]
        if len(set(texts)) == len(texts):
            return texts
    return [repr(value) for value in values]

"""What stands around the checks in a student's notebook: a failure is one sentence, not a traceback.

with exercise("1.1"):
    assert abs(angle(u, v) - 1e-3) < 1e-9, "asked: an angle of 0.001; came: something else"
"""

from __future__ import annotations

import linecache
import os
import traceback
from types import CodeType, TracebackType

__all__ = ["Unwritten", "Wrong", "exercise"]

LONGEST = 300  # characters of a message that is passed on


class _Sentence(Exception):
    """An exception that notebooks, nbclient and nbval show by its message alone."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class Unwritten(_Sentence, NotImplementedError):
    """A function that is a stub still; the message says what to write."""


class Wrong(_Sentence, AssertionError):
    """An answer that a check refuses; the message says what was asked and what came."""


class exercise:  # lower case: it is read after `with`, and nothing else is done with it
    """Around the checks of one exercise: says "right", or fails with a sentence.

    An `assert` inside becomes `Wrong` with its message.  A stub's `Unwritten` gets the number.  Any other
    exception becomes `Wrong` too: it names the kind and, if it came out of another cell, that cell's function
    and line.  Only an interruption from the keyboard goes through as it is.

    Args:
        number: Of the exercise.

    Raises:
        Unwritten: If what the checks call is a stub.
        Wrong: If an assertion does not hold, or something else went wrong inside.

    Example:
        >>> with exercise("1.1"):
        ...     assert 2 + 2 == 4, "asked: the sum of 2 and 2; came: another number"
        1.1: right
    """

    def __init__(self, number: str) -> None:
        self.number = number

    def __enter__(self) -> exercise:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            print(f"{self.number}: right")
        elif isinstance(error, Unwritten):
            raise Unwritten(f"{self.number}: {error}") from None
        elif isinstance(error, NotImplementedError) and not str(error):  # another tool's stub
            raise Unwritten(f"{self.number}: the body is not written yet") from None
        elif isinstance(error, Exception | SystemExit):
            raise Wrong(f"{self.number}: {_sentence(error, trace)}") from None


def _sentence(error: BaseException, trace: TracebackType | None) -> str:
    """What went wrong, told by the innermost cell that an exception came through."""
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(trace)]
    here = frames[0][0].co_filename
    code, line = next((c, n) for c, n in reversed(frames) if c.co_filename == here or _in_a_cell(c))
    said = " ".join(str(error).split())
    said = f"{said[: LONGEST - 1]}…" if len(said) > LONGEST else said
    kind = type(error).__name__
    what = f"{kind}: {said}" if said else kind
    if code.co_filename != here:
        function = code.co_qualname.partition(".<locals>")[0]
        where = f"line {line} of its cell" if function != "<module>" else f"line {line}"
        return f"`{function}` stopped in {where} with {what}"
    if isinstance(error, AssertionError):
        return said or f"this does not hold: {linecache.getline(here, line).strip() or f'line {line}'}"
    if isinstance(error, NameError) and getattr(error, "name", None):
        return f"`{error.name}` is not defined: run the cell that defines it, and keep its name"
    return f"the check could not go on with what it got: {what}"


def _in_a_cell(code: CodeType) -> bool:
    """Whether code was typed into a notebook, or run from a string, and so has no file."""
    name = code.co_filename
    return not name.startswith("<frozen") and not os.path.isfile(name)

"""Patterns in which ``*`` and ``?`` stand for other characters (Matrix appendices, Glob-style matching).

"The character ``*`` matches zero or more characters. ``?`` matches exactly one character." Patterns come from
users and the values from other users, so no regular expression is made of them: the time a match takes grows
with the value's length, whatever the pattern holds, and is counted while it goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from linearized.exceptions import LinearizedError

# How much longer a character of the value takes where it is looked at in Python, not by ``str.find``: thirty
# to sixty times, as measured.
SLOW: Final = 50
_ONE: Final = "?"


class TooMuchWorkError(LinearizedError):
    """A comparison took more than it was given."""


class Work:
    """How much may still be done, in characters looked at by ``str.find``."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self, characters: int) -> None:
        """Count what is about to be done.

        Raises:
            TooMuchWorkError: it is more than is left.
        """
        self.left -= characters
        if self.left < 0:
            raise TooMuchWorkError("the comparison takes too long")


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern, compared without regard to case.

    Attributes:
        pieces: what stands between the ``*``, in lower case; at least one, which may be empty.
    """

    pieces: tuple[str, ...]

    @classmethod
    def of(cls, pattern: str) -> Glob:
        """Read a pattern. Neighbouring ``*`` are one."""
        first, *rest = pattern.lower().split("*")
        inner = [piece for piece in rest[:-1] if piece]
        return cls((first, *inner, *rest[-1:]))

    @property
    def is_plain(self) -> bool:
        """Whether nothing in it stands for anything else."""
        return len(self.pieces) == 1 and _ONE not in self.pieces[0]

    def matches(self, value: str, work: Work) -> bool:
        """Whether the whole value is as the pattern says.

        Raises:
            TooMuchWorkError: it takes more than ``work`` has left.
        """
        work.spend(len(value))
        value = value.lower()
        first, *rest = self.pieces
        if not rest:
            return len(value) == len(first) and _fits(first, value, 0, work)
        last = rest.pop()
        end = len(value) - len(last)
        if len(first) > end or not (_fits(first, value, 0, work) and _fits(last, value, end, work)):
            return False
        position = len(first)
        for piece in rest:
            found = next(_occurrences(piece, value, position, work), end + 1)
            position = found + len(piece)
            if position > end:
                return False
        return True

    def within(self, value: str, work: Work) -> bool:
        """Whether some part of the value, from one word boundary to another, is as the pattern says.

        "A word boundary is defined as the start or end of the value, or any character not in the sets
        ``[A-Z]``, ``[a-z]``, ``[0-9]`` or ``_``" (Client-Server API, Push Rules): between two characters of
        these is none.

        Raises:
            TooMuchWorkError: it takes more than ``work`` has left.
        """
        work.spend(len(value))
        value = value.lower()
        position = 0
        for index, piece in enumerate(self.pieces):
            starts, ends = index == 0, index == len(self.pieces) - 1
            for found in _occurrences(piece, value, position, work):
                after = found + len(piece)
                if (not starts or _boundary(value, found)) and (not ends or _boundary(value, after)):
                    position = after
                    break
            else:
                return False
        return True


def word_in(word: str, value: str, work: Work) -> bool:
    """Whether a word or several, in which nothing stands for anything else, are in the value as in
    ``Glob.within``.

    Raises:
        TooMuchWorkError: it takes more than ``work`` has left.
    """
    work.spend(len(value))
    word, value = word.lower(), value.lower()
    return any(
        _boundary(value, found) and _boundary(value, found + len(word))
        for found in _plain_occurrences(word, value, 0, work)
    )


def _fits(piece: str, value: str, start: int, work: Work) -> bool:
    """Whether a piece is what the value has at ``start``, where there is room for it."""
    if _ONE not in piece:
        return value.startswith(piece, start)
    work.spend(len(piece) * SLOW)
    return all(
        wanted in {_ONE, found}
        for wanted, found in zip(piece, value[start : start + len(piece)], strict=True)
    )


def _occurrences(piece: str, value: str, start: int, work: Work) -> Iterator[int]:
    """Where a piece is in the value, from ``start`` on, in order; they may overlap."""
    return (_wild_occurrences if _ONE in piece else _plain_occurrences)(piece, value, start, work)


def _plain_occurrences(piece: str, value: str, start: int, work: Work) -> Iterator[int]:
    while (found := value.find(piece, start)) >= 0:
        work.spend(found - start + SLOW)
        yield found
        start = found + 1
    work.spend(max(0, len(value) - start))


def _wild_occurrences(piece: str, value: str, start: int, work: Work) -> Iterator[int]:
    """The same for a piece with ``?``: bit n of ``state`` says that the last n + 1 characters fit the first
    n + 1 of the piece, so that each character of the value is looked at once.
    """
    step = SLOW + len(piece) // 8  # a number of one bit for each character of the piece
    work.spend(step * len(piece))
    anything = sum(1 << index for index, wanted in enumerate(piece) if wanted == _ONE)
    fitting: dict[str, int] = {}
    for index, wanted in enumerate(piece):
        if wanted != _ONE:
            fitting[wanted] = fitting.get(wanted, anything) | (1 << index)
    whole, state = 1 << (len(piece) - 1), 0
    for index in range(start, len(value)):
        work.spend(step)
        state = (state << 1 | 1) & fitting.get(value[index], anything)
        if state & whole:
            yield index + 1 - len(piece)


def _boundary(value: str, place: int) -> bool:
    """Whether the characters around a place are not both of a word. The value is in lower case."""
    if place in {0, len(value)}:
        return True
    return not (_of_word(value[place - 1]) and _of_word(value[place]))


def _of_word(character: str) -> bool:
    return character == "_" or (character.isascii() and character.isalnum())

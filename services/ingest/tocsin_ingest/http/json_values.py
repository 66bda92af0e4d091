"""The text of a JSON body, and the values in it, each parsed by itself within a bounded number of characters."""

import json
import re
import sys
from bisect import bisect_right
from typing import Any, Final

from tocsin_kit.errors import TocsinError, invalid

VALUE_CHARACTERS: Final = 1 << 20
"""Of one alert, or one field of the body."""
LONGEST_CHARACTER: Final = 4
"""Bytes in UTF-8."""
WINDOW: Final = 1 << 17
_BRACKETS: Final = 100_000
"""Lists and objects of one value, if it is larger than a window: this many take the parser as long as a value of numbers."""
_BLANKS: Final = 1 << 22
"""Characters of white space in a row."""
_DIGITS: Final = 300
"""What a double can hold."""
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_LONGEST_WORD: Final = 16
"""Characters of `-Infinity` and of an escape, with room: an error so near to the end may be the end's."""
_EXPONENT: Final = len("e+")
_QUOTED: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""A text, or one that is cut off."""


def _number(digits: str) -> int | str:
    return int(digits) if len(digits) <= _DIGITS else digits


# From this many digits on Python refuses to convert a number from or to text. Both take quadratic time: with Python's default of
# 4,300 digits, a mebibyte of numbers takes 80 ms.
sys.set_int_max_str_digits(sys.int_info.str_digits_check_threshold)

# As text: a NaN or a number of a thousand digits is shown to people, not used in calculations. Control characters are taken.
_decode: Final = json.JSONDecoder(strict=False, parse_constant=str).raw_decode
_decode_long: Final = json.JSONDecoder(strict=False, parse_constant=str, parse_int=_number).raw_decode


class Unreadable(Exception):
    """A value that cannot be read. `start`: where it begins, if what follows it may be read all the same."""

    def __init__(self, problem: TocsinError, start: int | None = None) -> None:
        super().__init__(problem.message)
        self.problem = problem
        self.start = start


class Text:
    """The characters of a body. They are never joined: 32 MiB of them take longer than a turn of the event loop."""

    def __init__(self, pieces: list[str]) -> None:
        self._pieces = [piece for piece in pieces if piece]
        self._starts: list[int] = []
        self._length = 0
        for piece in self._pieces:
            self._starts.append(self._length)
            self._length += len(piece)

    def __len__(self) -> int:
        return self._length

    def cut(self, start: int, end: int) -> str:
        """Those from `start` to before `end`, as far as there are any."""
        number = max(0, bisect_right(self._starts, start) - 1)
        found = []
        while number < len(self._pieces) and (first := self._starts[number]) < end:
            found.append(self._pieces[number][max(0, start - first) : end - first])
            number += 1
        return "".join(found)


class Values:
    """Parses the values of a text that begin at given places, without examining the text after them."""

    def __init__(self, text: Text) -> None:
        self.text: Final = text
        self._base = 0
        self._window = text.cut(0, WINDOW)

    def next(self, at: int) -> tuple[int, str]:
        """The next character from `at` on that is no white space, and where it is; empty at the end. Raises Unreadable."""
        began = at
        while True:
            if not self._base <= at < self._base + len(self._window):
                if at >= len(self.text):
                    return at, ""
                self._move(at, WINDOW)
            place = _SPACE.match(self._window, at - self._base).end()  # type: ignore[union-attr] # it matches nothing as well
            at = self._base + place
            if place < len(self._window):
                return at, self._window[place]
            if at - began > _BLANKS:
                raise Unreadable(invalid("body", f"has more than {_BLANKS} blank characters in a row"))

    def at(self, start: int, place: str) -> tuple[Any, int]:
        """The value and where it ends. Raises Unreadable."""
        if not self._base <= start < self._base + len(self._window):
            self._move(start, WINDOW)
        while True:
            whole = self._base + len(self._window) >= len(self.text)
            largest = self._base == start and len(self._window) == VALUE_CHARACTERS
            try:
                value, end = self._parse(start - self._base)
            except RecursionError:
                raise Unreadable(invalid(place, "is nested too deeply"), start) from None
            except ValueError as error:
                if whole or self._inside(error):
                    raise Unreadable(_no_json(error, self._base), start) from None
                if largest:
                    raise Unreadable(invalid(place, f"is larger than {VALUE_CHARACTERS} characters"), start) from None
            else:
                # At the end of the window a number may continue beyond it, also after `.`, `e` or `e+`.
                if whole or largest or end < len(self._window) - _EXPONENT:
                    return value, self._base + end
            if self._base != start:
                self._move(start, WINDOW)
                continue
            self._move(start, VALUE_CHARACTERS)
            if _brackets(self._window) > _BRACKETS:
                raise Unreadable(invalid(place, f"has more than {_BRACKETS} lists and objects"), start)

    def _inside(self, error: ValueError) -> bool:
        """Whether the error cannot come from the end of the window."""
        if not isinstance(error, json.JSONDecodeError) or error.msg.startswith("Unterminated"):
            return False
        return error.pos < len(self._window) - _LONGEST_WORD

    def _parse(self, at: int) -> tuple[Any, int]:
        try:
            return _decode(self._window, at)
        except json.JSONDecodeError:
            raise
        except ValueError:  # an integer with more digits than Python accepts
            return _decode_long(self._window, at)

    def _move(self, start: int, size: int) -> None:
        self._base = start
        self._window = self.text.cut(start, start + size)


def _brackets(text: str) -> int:
    """How many lists and objects begin in it. What stands in quotes is looked at only if there may be too many."""
    found = text.count("[") + text.count("{")
    if found > _BRACKETS:
        bare = _QUOTED.sub("", text)
        found = bare.count("[") + bare.count("{")
    return found


def _no_json(error: ValueError, base: int) -> TocsinError:
    if isinstance(error, json.JSONDecodeError):
        return invalid("body", f"is not JSON: {error.msg} at character {base + error.pos}")
    return invalid("body", f"is not JSON: {error}")

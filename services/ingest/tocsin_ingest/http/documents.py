"""Reads JSON bodies piece by piece, so that a large one delays no other caller and a broken piece spoils no other.

`json.loads` of 32 MiB keeps the event loop, and with it every other caller, for half a second, and a thread does not
help: the parser never lets go of the interpreter lock. So the top level is walked here, each value below it is parsed by
itself within `VALUE_CHARACTERS`, and others take their turn in between.
"""

import codecs
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from tocsin_kit.errors import TocsinError, invalid
from tocsin_kit.loops import Turns

VALUE_CHARACTERS: Final = 1 << 20
"""Of one alert, or one field of the body."""
ITEMS: Final = 50_000
"""Alerts of one body; what follows is not read."""
_WINDOW: Final = 1 << 18
FIELDS: Final = 1_000
"""Of the top level."""
_SKIPPED: Final = 1 << 23
_SKIPPED_TOKENS: Final = 50_000
"""Characters, and brackets and texts, of a value that cannot be read, that are walked to find where it ends."""
_DIGITS: Final = 300  # what a double can hold; Python refuses 4,300
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_SCALAR: Final = re.compile(r"[^,\]}\s]+")
_LONGEST_WORD: Final = 16
"""Characters of `-Infinity` and of an escape, with room: an error so near to the end may be the end's."""
_TOKEN: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)


def _number(digits: str) -> int | str:
    return int(digits) if len(digits) <= _DIGITS else digits


# As text: a NaN or a number of a thousand digits is shown to people, not calculated with. Control characters are taken.
_decode: Final = json.JSONDecoder(strict=False, parse_constant=str).raw_decode
_decode_long: Final = json.JSONDecoder(strict=False, parse_constant=str, parse_int=_number).raw_decode


class Outer(Enum):
    """What a body may be, by its first character."""

    OBJECT = "object"
    LIST = "list"
    EITHER = "object or list"


@dataclass(frozen=True, slots=True)
class Span:
    """Where an item stands in the text; `problem` says why it cannot be read."""

    start: int
    end: int
    problem: TocsinError | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON object, or a list with no object around it. `fields` are those of the top level but the list; a field that
    cannot be read is left out.

    `broken`: why the text was not read to its end, if it was not. `bare`: it is a list.
    """

    fields: dict[str, Any]
    has_list: bool
    broken: TocsinError | None
    _spans: list[Span]
    _values: "_Values"
    bare: bool = False

    def __len__(self) -> int:
        return len(self._spans)

    def items(self) -> Iterator[Any]:
        """Each item of the list, parsed when it is asked for, or the TocsinError that it is."""
        for span in self._spans:
            yield span.problem if span.problem is not None else self._values.at(span.start, "")[0]

    def text(self, index: int) -> str:
        """The item as it is written; empty when it cannot be read."""
        span = self._spans[index]
        return self._values.text[span.start : span.end] if span.problem is None else ""

    def item(self, index: int) -> Any:
        """The item. Raises the TocsinError that it is."""
        span = self._spans[index]
        if span.problem is not None:
            raise span.problem
        return self._values.at(span.start, "")[0]


async def read(data: bytes, list_field: str = "", outer: Outer = Outer.OBJECT) -> Document:
    """The body as a document whose items are those of `list_field`, or of the list that the body is.

    Raises INVALID_FIELD for a body that is no JSON, or not of a form in `outer`.
    """
    return await _Walk(await _text(data), list_field).document(outer)


async def _text(data: bytes) -> str:
    """What is no text is replaced, piece by piece: to do so in 32 MiB at once takes a quarter of a second."""
    decoder, turns, pieces = codecs.getincrementaldecoder("utf-8-sig")("replace"), Turns(), list[str]()
    for start in range(0, len(data), _WINDOW):
        pieces.append(decoder.decode(data[start : start + _WINDOW]))
        await turns.give()
    pieces.append(decoder.decode(b"", final=True))
    return "".join(pieces)


def of_fields(fields: dict[str, Any]) -> Document:
    """A document whose fields were read elsewhere."""
    return Document(fields, False, None, [], _Values(""))


def value(data: bytes, place: str) -> Any:
    """The one JSON value that the bytes are. Raises INVALID_FIELD at `place`."""
    text = data.decode("utf-8-sig", "replace")
    start = len(text) - len(text.lstrip(" \t\r\n"))
    try:
        found, end = _Values(text).at(start, place)
    except _Unreadable as error:
        raise invalid(place, error.problem.fields[0].description) from None
    if text[end:].strip(" \t\r\n"):
        raise invalid(place, f"is not JSON: nothing more was expected at character {end}")
    return found


class _Unreadable(Exception):
    """A value that cannot be read. `end`: where the next one begins, if that is known."""

    def __init__(self, problem: TocsinError, end: int | None) -> None:
        super().__init__(problem.message)
        self.problem = problem
        self.end = end


class _Values:
    """Parses the values of a text that begin at given places, without a look at what follows them."""

    def __init__(self, text: str) -> None:
        self.text: Final = text
        self._base = 0
        self._window = text[:_WINDOW]

    def at(self, start: int, place: str) -> tuple[Any, int]:
        """The value and where it ends. Raises _Unreadable."""
        if not self._base <= start < self._base + len(self._window):
            self._move(start, _WINDOW)
        while True:
            whole = self._base + len(self._window) >= len(self.text)
            largest = self._base == start and len(self._window) == VALUE_CHARACTERS
            try:
                value, end = self._parse(start - self._base)
            except RecursionError:
                raise self._unreadable(start, invalid(place, "is nested too deeply")) from None
            except ValueError as error:
                if whole or self._inside(error):
                    raise self._unreadable(start, _no_json(error, self._base)) from None
                if largest:
                    problem = invalid(place, f"is larger than {VALUE_CHARACTERS} characters")
                    raise self._unreadable(start, problem) from None
            else:
                # At the end of the window it may go on beyond it, as a number does.
                if whole or largest or end < len(self._window):
                    return value, self._base + end
            self._move(start, _WINDOW if self._base != start else VALUE_CHARACTERS)

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
        except ValueError:  # an integer of more digits than Python takes
            return _decode_long(self._window, at)

    def _move(self, start: int, size: int) -> None:
        self._base = start
        self._window = self.text[start : start + size]

    def _unreadable(self, start: int, problem: TocsinError) -> _Unreadable:
        """With the place where the value ends as far as brackets and quotes tell, so that its neighbours are read."""
        text, depth = self.text, 0
        if text[start : start + 1] not in ("[", "{", '"'):
            match = _SCALAR.match(text, start)
            return _Unreadable(problem, match.end() if match is not None else None)
        for token in itertools.islice(_TOKEN.finditer(text, start, start + _SKIPPED), _SKIPPED_TOKENS):
            character = token.group()[0]
            depth += (character in "[{") - (character in "]}")
            if depth <= 0:
                return _Unreadable(problem, token.end())
        return _Unreadable(problem, None)


class _Walk:
    """One way over the top level."""

    def __init__(self, text: str, list_field: str) -> None:
        self._text = text
        self._list_field = list_field
        self._values = _Values(text)
        self._turns = Turns()
        self._at = 0
        self._fields: dict[str, Any] = {}
        self._spans: list[Span] = []
        self._has_list = False

    async def document(self, outer: Outer) -> Document:
        first = self._next()
        bare = first == "["
        if first not in ("{", "[") or outer is (Outer.OBJECT if bare else Outer.LIST):
            raise self._not(outer)
        broken: TocsinError | None = None
        try:
            await (self._bare() if bare else self._object())
        except _Unreadable as error:
            if not self._fields and not self._spans:
                raise error.problem from None
            broken = error.problem
        return Document(self._fields, self._has_list, broken, self._spans, self._values, bare)

    async def _bare(self) -> None:
        self._list_field = ""
        await self._list()
        return self._nothing_more()

    async def _object(self) -> None:
        self._at += 1
        if self._next() == "}":
            self._at += 1
            return self._nothing_more()
        while True:
            if self._next() != '"':
                raise self._expected("a name in quotes")
            name = self._value("body")
            self._take(":", "a colon after a name")
            if self._next() == "[" and name == self._list_field:
                await self._list()
            else:
                self._field(name)
            await self._turns.give()
            if self._next() != ",":
                break
            self._at += 1
        self._take("}", "a comma or the end of the object")
        return self._nothing_more()

    def _field(self, name: str) -> None:
        if len(self._fields) >= FIELDS:
            raise self._too_many(f"the object has more than {FIELDS} fields")
        try:
            self._fields[name] = self._value(name)
        except _Unreadable as error:
            if error.end is None:
                raise
            self._fields.pop(name, None)
            self._at = error.end

    async def _list(self) -> None:
        self._has_list = True
        self._spans.clear()
        self._at += 1
        if self._next() == "]":
            self._at += 1
            return
        while True:
            self._item()
            await self._turns.give()
            if self._next() != ",":
                break
            self._at += 1
        self._take("]", "a comma or the end of the list")

    def _item(self) -> None:
        if len(self._spans) >= ITEMS:
            raise self._too_many(f"{self._list_field or 'the list'} has more than {ITEMS} items")
        self._next()
        start, problem = self._at, None
        try:
            self._value(f"{self._list_field}[{len(self._spans)}]")
        except _Unreadable as error:
            if error.end is None:
                raise
            problem, self._at = error.problem, error.end
        self._spans.append(Span(start, self._at, problem))

    def _value(self, place: str) -> Any:
        self._next()
        value, self._at = self._values.at(self._at, place)
        return value

    def _next(self) -> str:
        """The next character that is no white space; empty at the end."""
        self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr] # it matches nothing as well
        return self._text[self._at : self._at + 1]

    def _take(self, character: str, what: str) -> None:
        if self._next() != character:
            raise self._expected(what)
        self._at += 1

    def _nothing_more(self) -> None:
        if self._next():
            raise self._expected("nothing more")

    def _expected(self, what: str) -> _Unreadable:
        return _Unreadable(invalid("body", f"is not JSON: {what} was expected at character {self._at}"), None)

    def _too_many(self, what: str) -> _Unreadable:
        return _Unreadable(invalid("body", f"{what}; what follows was not read"), None)

    def _not(self, outer: Outer) -> TocsinError:
        try:
            self._values.at(self._at, "body")
        except _Unreadable as error:
            return error.problem
        return invalid("body", f"must be a JSON {outer.value}")


def _no_json(error: ValueError, base: int) -> TocsinError:
    if isinstance(error, json.JSONDecodeError):
        return invalid("body", f"is not JSON: {error.msg} at character {base + error.pos}")
    return invalid("body", f"is not JSON: {error}")

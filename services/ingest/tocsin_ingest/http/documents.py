"""Reads JSON bodies piece by piece, so that a large one delays no other caller and a broken piece affects no other piece.

`json.loads` of 32 MiB blocks the event loop, and with it every other caller, for half a second, and a thread does not help: the
parser never releases the interpreter lock. So the top level is parsed here, each value below it by itself within
`VALUE_CHARACTERS`, and other tasks run in between. For the same reason the text stays in pieces, and each regular expression is
applied to one piece at a time.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from tocsin_kit.errors import TocsinError, invalid
from tocsin_kit.time_slices import TimeSlice

from tocsin_ingest.http.json_values import LONGEST_CHARACTER, VALUE_CHARACTERS, WINDOW, Text, Unreadable, Values

ITEMS: Final = 50_000
"""Alerts of one body; the rest is not read."""
FIELDS: Final = 1_000
"""Of the top level."""
_SKIPPED: Final = 1 << 23
_SKIPPED_TOKENS: Final = 500_000
"""Characters, and brackets and texts, of an unreadable value that are scanned to find its end."""
_STEP: Final = 1 << 14
"""Characters between two iterations of the event loop."""
_SCALAR: Final = re.compile(r"[^,\]}\s]+")
_MARK: Final = re.compile(r'["\[\]{}]')
# No backtracking (`*+`): otherwise the text after a quote that is never closed would be searched once for each quote in it.
_INSIDE: Final = re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
"""From within a text on: up to its end, or a backslash that is the last character."""


class Outer(Enum):
    """What a body may be, by its first character."""

    OBJECT = "object"
    LIST = "list"
    EITHER = "object or list"


@dataclass(frozen=True, slots=True)
class Span:
    """The place of an item in the text. `problem`: the field and the text of the error that says why it cannot be read.

    Kept as text: 50,000 errors with their references would keep the cycle collector, and with it all callers, busy for 0.1 s.
    """

    start: int
    end: int
    problem: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON object, or a list with no object around it. `fields` are those of the top level but the list; a field that
    cannot be read is left out.

    `broken`: why the text was not read to its end, if it was not. `left_out`: why the first field that was left out could not be
    read. `bare`: it is a list.
    """

    fields: dict[str, Any]
    has_list: bool
    broken: TocsinError | None
    _spans: list[Span]
    _values: "Values"
    bare: bool = False
    left_out: TocsinError | None = None

    def __len__(self) -> int:
        return len(self._spans)

    def items(self) -> Iterator[Any]:
        """Each item of the list, parsed on demand, or its TocsinError."""
        for span in self._spans:
            yield invalid(*span.problem) if span.problem is not None else self._values.at(span.start, "")[0]

    def text(self, index: int) -> str:
        """The item as it is written; empty when it cannot be read."""
        span = self._spans[index]
        return self._values.text.cut(span.start, span.end) if span.problem is None else ""

    def item(self, index: int) -> Any:
        """The item. Raises the TocsinError that it is."""
        span = self._spans[index]
        if span.problem is not None:
            raise invalid(*span.problem)
        return self._values.at(span.start, "")[0]


async def read(data: bytes | bytearray, list_field: str = "", outer: Outer = Outer.OBJECT) -> Document:
    """The body as a document whose items are those of `list_field`, or of the list that the body is.

    Raises INVALID_FIELD for a body that is no JSON, or not of a form in `outer`.
    """
    return await _Walk(await _text(data), list_field).document(outer)


async def _text(data: bytes | bytearray) -> "Text":
    """Invalid text is replaced, piece by piece: doing so in 32 MiB at once takes a quarter of a second."""
    decoder, time_slice, pieces = codecs.getincrementaldecoder("utf-8-sig")("replace"), TimeSlice(), list[str]()
    for start in range(0, len(data), WINDOW):
        pieces.append(decoder.decode(data[start : start + WINDOW]))
        await time_slice.yield_if_over()
    pieces.append(decoder.decode(b"", final=True))
    return Text(pieces)


def of_fields(fields: dict[str, Any]) -> Document:
    """A document whose fields were read elsewhere."""
    return Document(fields, False, None, [], Values(Text([])))


def value(data: bytes | bytearray, place: str) -> Any:
    """The one JSON value that the bytes are. Raises INVALID_FIELD at `place`."""
    if len(data) > LONGEST_CHARACTER * VALUE_CHARACTERS:
        raise invalid(place, f"is larger than {VALUE_CHARACTERS} characters")
    text = data.decode("utf-8-sig", "replace")
    start = len(text) - len(text.lstrip(" \t\r\n"))
    try:
        found, end = Values(Text([text])).at(start, place)
    except Unreadable as error:
        raise invalid(place, error.problem.fields[0].description) from None
    if text[end:].strip(" \t\r\n"):
        raise invalid(place, f"is not JSON: nothing more was expected at character {end}")
    return found


class _Walk:
    """One way over the top level."""

    def __init__(self, text: Text, list_field: str) -> None:
        self._text = text
        self._list_field = list_field
        self._values = Values(text)
        self._time_slice = TimeSlice()
        self._at = 0
        self._fields: dict[str, Any] = {}
        self._names = 0
        self._spans: list[Span] = []
        self._has_list = False
        self._left_out: TocsinError | None = None

    async def document(self, outer: Outer) -> Document:
        try:
            first = self._next()
        except Unreadable as error:
            raise error.problem from None
        bare = first == "["
        if first not in ("{", "[") or outer is (Outer.OBJECT if bare else Outer.LIST):
            raise self._not(outer)
        broken: TocsinError | None = None
        try:
            await (self._bare() if bare else self._object())
        except Unreadable as error:
            # The end of an unreadable field is a guess: oddities after it may be its consequence.
            broken = self._left_out or error.problem
            if not self._fields and not self._spans:
                raise broken from None
        return Document(self._fields, self._has_list, broken, self._spans, self._values, bare, self._left_out)

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
            if self._next() == "[" and self._list_field and name == self._list_field:
                await self._list()
            else:
                await self._field(name)
            await self._time_slice.yield_if_over()
            if self._next() != ",":
                break
            self._at += 1
        self._take("}", "a comma or the end of the object")
        return self._nothing_more()

    async def _field(self, name: str) -> None:
        self._names += 1
        if self._names > FIELDS:
            raise self._too_many(f"the object has more than {FIELDS} fields")
        try:
            self._fields[name] = self._value(name)
        except Unreadable as error:
            self._left_out = self._left_out or error.problem
            self._at = await self._behind(error)
            self._fields.pop(name, None)

    async def _list(self) -> None:
        self._has_list = True
        self._spans.clear()
        self._at += 1
        if self._next() == "]":
            self._at += 1
            return
        while True:
            await self._item()
            await self._time_slice.yield_if_over()
            if self._next() != ",":
                break
            self._at += 1
        self._take("]", "a comma or the end of the list")

    async def _item(self) -> None:
        if len(self._spans) >= ITEMS:
            raise self._too_many(f"{self._list_field or 'the list'} has more than {ITEMS} items")
        self._next()
        start, problem = self._at, None
        try:
            self._value(f"{self._list_field}[{len(self._spans)}]")
        except Unreadable as error:
            [violation] = error.problem.fields
            self._at, problem = await self._behind(error), (violation.field, violation.description)
        self._spans.append(Span(start, self._at, problem))

    def _value(self, place: str) -> Any:
        self._next()
        value, self._at = self._values.at(self._at, place)
        return value

    def _next(self) -> str:
        """The next character that is no white space; empty at the end."""
        self._at, character = self._values.next(self._at)
        return character

    async def _behind(self, unreadable: Unreadable) -> int:
        """The end of the value by brackets and quotes, so that its neighbours are read. Raises it if they do not."""
        start = unreadable.start
        if start is None:
            raise unreadable
        await self._time_slice.yield_if_over()
        text, stop = self._text, min(len(self._text), start + _SKIPPED)
        if text.cut(start, start + 1) not in ("[", "{", '"'):
            end = start
            while end < stop and (match := _SCALAR.match(text.cut(end, min(end + _STEP, stop)))) is not None:
                end += match.end()
                await self._time_slice.yield_if_over()
            if end == start:
                raise unreadable
            return end
        at, depth, quoted, tokens = start, 0, False, 0
        while at < stop:
            piece, place = text.cut(at, min(at + _STEP, stop)), 0
            while place < len(piece):
                if quoted:
                    place = _INSIDE.match(piece, place).end()  # type: ignore[union-attr] # it matches nothing as well
                    if piece[place : place + 1] != '"':
                        break  # it continues in the next piece, perhaps with the character that this backslash escapes
                    quoted, place = False, place + 1
                else:
                    mark = _MARK.search(piece, place)
                    if mark is None:
                        place = len(piece)
                        break
                    tokens, place = tokens + 1, mark.end()
                    quoted = mark.group() == '"'
                    depth += (mark.group() in "[{") - (mark.group() in "]}")
                if depth <= 0 and not quoted:
                    return at + place
            if place == 0 or tokens > _SKIPPED_TOKENS:
                raise unreadable
            at += place
            await self._time_slice.yield_if_over()
        raise unreadable

    def _take(self, character: str, what: str) -> None:
        if self._next() != character:
            raise self._expected(what)
        self._at += 1

    def _nothing_more(self) -> None:
        if self._next():
            raise self._expected("nothing more")

    def _expected(self, what: str) -> Unreadable:
        return Unreadable(invalid("body", f"is not JSON: {what} was expected at character {self._at}"))

    def _too_many(self, what: str) -> Unreadable:
        return Unreadable(invalid("body", f"{what}; what follows was not read"))

    def _not(self, outer: Outer) -> TocsinError:
        try:
            self._values.at(self._at, "body")
        except Unreadable as error:
            return error.problem
        return invalid("body", f"must be a JSON {outer.value}")

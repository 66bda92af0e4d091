"""Reading JSON piece by piece: the same values as the standard parser, and a broken piece spoils no other."""

import asyncio
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import (
    binary,
    booleans,
    dictionaries,
    floats,
    integers,
    lists,
    none,
    recursive,
    sampled_from,
    text,
)
from tocsin_ingest.http import documents, json_values
from tocsin_ingest.http.documents import Document
from tocsin_kit import time_slices
from tocsin_kit.errors import TocsinError

VALUES = recursive(
    none() | integers() | floats(allow_nan=False, allow_infinity=False) | text(max_size=20),
    lambda inner: lists(inner, max_size=4) | dictionaries(text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


async def read(body: bytes | str) -> Document:
    return await documents.read(body if isinstance(body, bytes) else body.encode(), "alerts")


async def items(body: bytes | str) -> list[Any]:
    return [str(each) if isinstance(each, TocsinError) else each for each in (await read(body)).items()]


@given(dictionaries(text(max_size=8), VALUES, max_size=5), lists(VALUES, max_size=6))
async def test_it_reads_what_the_standard_parser_reads(fields: dict[str, Any], alerts: list[Any]) -> None:
    for indent in (None, 1):
        document = await read(json.dumps(fields | {"alerts": alerts}, indent=indent))
        assert document.broken is None
        assert list(document.items()) == alerts
        assert document.fields == {name: each for name, each in fields.items() if name != "alerts"}


@given(binary(max_size=60), binary(max_size=20))
async def test_any_bytes_are_read_or_refused(data: bytes, inside: bytes) -> None:
    for body in (data, b'{"alerts": [' + inside + b', {"a": 1}], "version": "4"}'):
        fields: object = True
        try:
            list((await read(body)).items())
        except TocsinError as error:
            fields = error.fields
        assert fields


@given(
    dictionaries(text(max_size=8), VALUES, min_size=1, max_size=4),
    integers(0, 400),
    sampled_from('",:{}[]x1 \\'),
    booleans(),
)
async def test_what_is_no_json_is_told(fields: dict[str, Any], place: int, character: str, inserts: bool) -> None:
    body = json.dumps(fields)
    place %= len(body)
    body = body[:place] + character + body[place + (not inserts) :]
    try:
        json.loads(body, strict=False)
    except ValueError:
        with contextlib.suppress(TocsinError):
            document = await documents.read(body.encode())
            problem = document.left_out or document.broken
            assert problem is not None
            assert " at character " in problem.message


@pytest.mark.parametrize(
    "body",
    [
        '{"a": [1,^}',
        '{"a": [1,2^}',
        '{"a": {"b": [1 ^2]}}',
        '{"a": ^tru, "b": 1',
        '{"a": ^tru, "b": nul}',
        '{"a": 1, ^b}',
    ],
)
async def test_the_first_place_at_which_a_body_is_no_json_is_told(body: str) -> None:
    """`^`: there. Where a field that cannot be read ends is a guess, and what is odd behind it may come of that."""
    try:
        document = await documents.read(body.replace("^", "").encode())
    except TocsinError as error:
        told = error.message
    else:
        problem = document.broken or document.left_out
        assert problem is not None
        told = problem.message
    assert told.endswith(f" at character {body.index('^')}"), told


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ('{"a": }', "Expecting value"),
        ("nul", "Expecting value"),
        ('{"a": 1 "b": 2}', "Expecting ',' delimiter"),
        ('{"a": "\\x"}', "Invalid \\escape"),
        ("[" * 5000 + "]" * 5000, "nested too deeply"),
        ('{"a": "' + "x" * json_values.VALUE_CHARACTERS + '"}', "is larger than 1048576 characters"),
        ('{"a": [' + "1," * json_values.VALUE_CHARACTERS + "1]}", "is larger than 1048576 characters"),
    ],
    ids=["no value", "no word", "no comma", "no escape", "deep", "long text", "long list"],
)
@pytest.mark.parametrize("before", [0, 1000])
async def test_a_broken_item_spoils_no_neighbour(broken: str, why: str, before: int) -> None:
    many = '{"n": "' + "x" * 400 + '"},'
    first, refused, last = (await items('{"alerts": [' + many * before + "1," + broken + ', {"b": 2}], "z": 3}'))[-3:]
    assert (first, last) == (1, {"b": 2})
    assert why in refused


async def test_odd_numbers_are_kept_as_they_can_be() -> None:
    digits = "9" * 5000
    assert await items('{"alerts": [NaN, -Infinity, ' + digits + ", 7]}") == ["NaN", "-Infinity", digits, 7]


async def test_a_body_that_ends_too_early_gives_what_came() -> None:
    whole = json.dumps({"version": "4", "alerts": [{"n": number} for number in range(5)]})
    document = await read(whole[:-12])
    assert document.broken is not None
    assert list(document.items()) == [{"n": number} for number in range(4)]


async def test_more_items_than_anybody_sends_are_not_read() -> None:
    document = await read(b'{"alerts": [' + b"1," * 60_000 + b"1]}")
    assert len(document) == documents.ITEMS
    assert document.broken is not None
    assert "more than 50000 items" in document.broken.message


@pytest.mark.parametrize("body", ["", " ", "[", "[]", "5", '"x"', "{", "{1: 2}", "null", "\xff", "{" * 100_000])
async def test_what_is_no_object_is_refused(body: str) -> None:
    with pytest.raises(TocsinError) as raised:
        await read(body)
    assert raised.value.fields


@pytest.mark.parametrize(
    "body", [b"\xff" * (2 << 20), b'["' + b"a\xe2\x82" * (700 << 10) + b'"]'], ids=["bytes", "halves"]
)
async def test_others_may_go_on_while_what_is_no_text_is_replaced(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece ends a turn here, however fast the machine is."""
    monkeypatch.setattr(time_slices, "SLICE_SECONDS", 0.0)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    going = asyncio.create_task(others())
    with contextlib.suppress(TocsinError):
        await read(body)
    going.cancel()
    assert turns >= len(body) // json_values.WINDOW - 1  # they begin in the first


@given(binary(max_size=20), integers(1, 5))
async def test_pieces_are_decoded_as_the_whole_is(data: bytes, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "WINDOW", size)
        text = await documents._text(data)
        assert text.cut(0, len(text)) == data.decode("utf-8-sig", "replace")


@given(lists(VALUES, max_size=6), integers(2, 9), sampled_from([None, 1]))
async def test_a_value_that_is_too_large_spoils_no_neighbour(alerts: list[Any], step: int, indent: int | None) -> None:
    """However the pieces fall in which its end is looked for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_values, "WINDOW", 32)
        patch.setattr(json_values, "VALUE_CHARACTERS", 64)
        patch.setattr(documents, "_STEP", step)
        decoder = json.JSONDecoder(strict=False)
        body = json.dumps({"alerts": alerts, "z": 1}, indent=indent)
        document = await read(body)
        assert document.broken is None
        assert document.fields == {"z": 1}
        for given, span, found in zip(alerts, document._spans, document.items(), strict=True):
            assert decoder.decode(body[span.start : span.end]) == given
            if span.end - span.start <= 64:
                assert found == given
            else:
                assert isinstance(found, TocsinError)


@given(text(alphabet='"\\[]{}a,', max_size=30), integers(2, 4))
async def test_the_end_of_what_cannot_be_read_is_the_same_in_pieces_of_any_size(inside: str, step: int) -> None:
    body = f'{{"alerts": [1, {{"a" {inside}, 7], "z": 1}}'
    found = []
    for size in (step, 1 << 16):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(documents, "_STEP", size)
            document = await read(body)
            spans = [(each.start, each.end) for each in document._spans]
            found.append((spans, document.fields, document.broken is None))
    assert found[0] == found[1]


async def test_a_value_of_too_many_lists_is_refused_and_texts_with_brackets_are_not() -> None:
    text = "[" * (json_values.VALUE_CHARACTERS - 1000)
    many = "[" + "[]," * (json_values._BRACKETS + 1) + "[]]"
    first, refused, last = await items('{"alerts": ["' + text + '",' + many + ", 7]}")
    assert (first, last) == (text, 7)
    assert "more than 100000 lists and objects" in refused


async def test_white_space_is_read_over_and_not_without_end() -> None:
    blanks = " " * (1 << 20)
    assert await items(blanks.join(["", '{"alerts"', ":", "[", "1", ",", "2", "]", "}", ""])) == [1, 2]
    with pytest.raises(TocsinError, match="blank characters in a row"):
        await read(" " * (json_values._BLANKS + json_values.WINDOW + 1) + "{}")


async def test_names_are_counted_also_when_they_are_the_same() -> None:
    document = await read(b"{" + b'"a":1,' * 2000 + b'"alerts":[]}')
    assert document.broken is not None
    assert "more than 1000 fields" in document.broken.message

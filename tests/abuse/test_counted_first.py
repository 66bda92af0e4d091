"""No message within the size limit costs more than reading it: its entries are counted before one is looked at."""

import asyncio
import base64
import contextlib
import gc
import json
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message
from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest, SendAlertsRequest
from tocsin.ingest.v1.integration_service_pb2 import CreateIntegrationRequest
from tocsin_ingest.app.alerts.alert_size import shorten
from tocsin_ingest.http import documents
from tocsin_ingest.http.format import Format
from tocsin_ingest.http.routes import FORMATS
from tocsin_kit.errors import TocsinError, to_status
from tocsin_kit.rpc.bounds import MASK_PATHS, bounds_of, unbounded_fields
from tocsin_kit.rpc.failures import known
from tocsin_kit.rpc.validation import MAX_VIOLATIONS, validate, warm

from tests.abuse.hostile import field, hostile_messages
from tests.abuse.test_http_fuzz import BODIES as SENT
from tests.contract.test_protos import METHODS

LIMIT = 1 << 20
TRAILERS = 8 << 10
"""gRPC's own limit of headers and trailers; clients drop what is larger."""
TRIES = 20
MANY = SendAlertsRequest.FromString(field(1, b"") * 200_000)
AS_READING = 2.0
"""A hostile message may cost this many times what it costs to read it, or to look at so many empty items."""
REQUESTS: dict[str, Descriptor] = {method.input_type.full_name: method.input_type for method in METHODS}


def spent(work: Callable[[], object], runs: int = 2) -> float:
    """Processor seconds of the best of so many runs, without the cycle collector, which looks through the whole suite's objects."""
    best = float("inf")
    gc.disable()
    try:
        for _ in range(runs):
            began = time.thread_time()
            work()
            best = min(best, time.thread_time() - began)
    finally:
        gc.enable()
    return best


@pytest.fixture(scope="module")
def floor() -> float:
    """What it costs to look at many empty items. To read a message of the largest size costs as much on a heap that has to
    grow for it, and a quarter of it on one that has grown: the first test of a worker had another floor than the last.
    """
    return spent(look_at_many)


def look_at_many() -> None:
    for _ in MANY.alerts:
        pass


def ratio(message_type: type[Message], data: bytes, floor: float) -> tuple[float, TocsinError | None]:
    """Of judging the message to reading it, or to the floor where that is more: nothing is judged before it is read. And
    the answer.

    What is too much is measured again, since on a busy machine the two may not have been equally disturbed. Most is far
    below, and its first run shows that.
    """
    answer: TocsinError | None = None

    def judging() -> None:
        nonlocal answer
        answer = judge(message_type, data)

    found = spent(judging, runs=1) / floor
    for _ in range(TRIES):
        if found <= AS_READING:
            break
        cost = spent(judging)
        found = min(found, cost / floor)
        if found > AS_READING and len(data) <= LIMIT:
            now = max(floor, spent(look_at_many), spent(lambda: message_type.FromString(data)))
            found = min(found, cost / now)
    return found, answer


def judge(message_type: type[Message], data: bytes) -> TocsinError | None:
    """What the pipeline does with a request's bytes before a handler sees it."""
    if len(data) > min(LIMIT, bounds_of(message_type.DESCRIPTOR).max_bytes):
        return None
    try:
        validate(message_type.FromString(data))
    except (TocsinError, DecodeError) as error:
        return known(error)
    return None


def test_every_field_of_a_request_has_a_bound() -> None:
    """A list or map without max_items or max_pairs, or text without a length, is work that a caller decides about."""
    unbounded = {name: unbounded_fields(request) for name, request in REQUESTS.items()}
    assert {name: fields for name, fields in unbounded.items() if fields} == {}


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_a_hostile_message_costs_what_reading_it_costs(name: str, floor: float) -> None:
    message_type = message_factory.GetMessageClass(REQUESTS[name])
    warm(message_type)
    slow, large = {}, {}
    for what, data in hostile_messages(REQUESTS[name], LIMIT):
        assert len(data) <= LIMIT + 1024
        cost, answer = ratio(message_type, data, floor)
        if cost > AS_READING:
            slow[what] = round(cost, 1)
        if answer is not None:
            assert len(answer.fields) <= MAX_VIOLATIONS
            size = len(base64.b64encode(to_status(answer).SerializeToString())) + len(answer.message.encode())
            if size > TRAILERS:
                large[what] = size
    assert (slow, large) == ({}, {})


def test_what_fits_the_contract_fits_the_derived_size() -> None:
    """The largest message that keeps all rules must not be refused for its bytes."""
    matchers = [{"label": "é" * 128, "operator": 1, "value": "é" * 1024}] * 20
    rule = {"display_name": "é" * 255, "matchers": matchers, "group_by": [f"{n:0128}" for n in range(10)]}
    request = CreateIntegrationRequest(
        integration={"display_name": "é" * 255, "routing_rules": [rule] * 100}  # type: ignore[arg-type]
    )
    validate(request)
    assert request.ByteSize() < bounds_of(request.DESCRIPTOR).max_bytes


def test_violations_of_a_small_message_are_all_told_and_of_a_large_one_the_first() -> None:
    small = SendAlertRequest(integration="?", alert={"dedup_key": "k" * 256, "action": 9})  # type: ignore[arg-type]
    with pytest.raises(TocsinError) as caught:
        validate(small)
    assert {violation.field for violation in caught.value.fields} >= {"integration", "alert.dedup_key", "alert.action"}
    rules: Any = [{"matchers": [{}] * 20}] * 100
    large = CreateIntegrationRequest(integration={"routing_rules": rules})  # type: ignore[arg-type]
    with pytest.raises(TocsinError) as caught:
        validate(large)
    assert len(caught.value.fields) == 1


def test_a_list_that_is_too_long_is_named_with_its_limit() -> None:
    request = SendAlertRequest(alert={"summary": "x", "links": [{}] * 11})  # type: ignore[arg-type]
    with pytest.raises(TocsinError) as caught:
        validate(request, "alerts[3]")
    [violation] = caught.value.fields
    assert violation.field == "alerts[3].alert.links"
    assert "at most 10 entries, has 11" in violation.description
    with pytest.raises(TocsinError, match=r"labels: must have at most 64 entries"):
        validate(SendAlertRequest(alert={"summary": "x", "labels": {str(n): "" for n in range(65)}}))  # type: ignore[arg-type]


def test_a_mask_is_counted_too() -> None:
    [update] = [each for name, each in REQUESTS.items() if name.endswith("UpdateUserRequest")]
    request = message_factory.GetMessageClass(update)(update_mask={"paths": ["display_name"] * (MASK_PATHS + 1)})
    with pytest.raises(TocsinError, match=r"update_mask\.paths: must have at most"):
        validate(request)


def test_a_long_key_does_not_make_a_long_answer() -> None:
    request = SendAlertRequest(alert={"summary": "x", "labels": {"k" * 500_000: "v"}})  # type: ignore[arg-type]
    with pytest.raises(TocsinError) as caught:
        validate(request)
    assert len(to_status(caught.value).SerializeToString()) < 1024


def test_text_that_cannot_be_stored_is_told_beside_the_other_violations_of_a_small_message() -> None:
    with pytest.raises(TocsinError) as caught:
        validate(CreateIntegrationRequest(integration={"display_name": "a\0b"}, request_id="?"))  # type: ignore[arg-type]
    assert "NUL" in caught.value.fields[0].description
    many: Any = [{"display_name": "a\0b", "matchers": [{"label": "l", "operator": 1}] * 20}] * 100
    with pytest.raises(TocsinError, match="NUL"):
        validate(CreateIntegrationRequest(integration={"display_name": "x", "routing_rules": many}))  # type: ignore[arg-type]


LARGE = 8 << 20
VALUE = 1 << 20
BODIES: dict[str, Callable[[], bytes]] = {
    "no text": lambda: b"\xff" * LARGE,
    "white space": lambda: b" " * LARGE + b"{}",
    "a text without an end": lambda: b'{"a":"' + b"x" * LARGE,
    "one full of quotes": lambda: b'{"a":"' + b"x" * VALUE + b'\\"' * (LARGE // 2),
    "backslashes": lambda: b'{"a":"' + b"\\" * LARGE,
    "a text that is all": lambda: b'"' + b"\\u0041" * (LARGE // 6) + b'"',
    "lists in lists": lambda: b'{"alerts":[' + b",".join([b"[" * 200 + b"]" * 200] * (LARGE // 401)) + b"]}",
    "one list of lists": lambda: b'{"alerts":[[' + b",".join([b"[" * 200 + b"]" * 200] * (LARGE // 401)) + b"]]}",
    "many lists": lambda: b'{"alerts":[[' + b"[]," * (LARGE // 3) + b"[]]]}",
    "a list without an end": lambda: b"[" * LARGE,
    "a word without an end": lambda: b'{"a":' + b"9" * LARGE + b"}",
    "numbers": lambda: b'{"alerts":[' + b"1e-9," * (LARGE // 5) + b"1]}",
    "names": lambda: b"{" + b'"a":1,' * (LARGE // 6) + b'"a":1}',
}


def longest_turn(body: bytes) -> float:
    """Processor seconds of the longest turn in which the body is read, until others have theirs."""
    longest = began = 0.0
    following: asyncio.Handle

    def begin_turn() -> None:
        nonlocal longest, began, following
        longest, began = max(longest, time.thread_time() - began), time.thread_time()
        following = loop.call_soon(begin_turn)

    loop = asyncio.new_event_loop()
    following = loop.call_soon(begin_turn)
    gc.disable()
    try:
        began = time.thread_time()
        with contextlib.suppress(TocsinError):
            loop.run_until_complete(documents.read(body, "alerts"))
        following.cancel()
        return max(longest, time.thread_time() - began)
    finally:
        gc.enable()
        loop.close()


@pytest.mark.parametrize("what", BODIES)
def test_no_turn_of_reading_a_hostile_body_costs_more_than_reading_a_message(what: str, floor: float) -> None:
    body = BODIES[what]()
    found = float("inf")
    for _ in range(TRIES):
        found = min(found, longest_turn(body) / max(floor, spent(look_at_many)))
        if found <= AS_READING:
            break
    assert found <= AS_READING


def test_a_number_of_many_digits_is_no_number() -> None:
    """To make one, and its text again, takes quadratic time."""
    assert documents.value(b"9" * 640, "body") == 10**640 - 1
    assert documents.value(b"9" * 641, "body") == "9" * 641


_SIZE = 100_000
_VALUES: dict[str, Any] = {
    "a list of numbers": [1] * (_SIZE // 2),
    "a list of texts": ["a"] * (_SIZE // 4),
    "an object": {f"k{number}": 1 for number in range(_SIZE // 9)},
    "numbers of most digits": [10**600] * (_SIZE // 600),
    "a text": "x" * _SIZE,
    "halves of surrogate pairs": "\ud800" * (_SIZE // 6),
}
_LATEST = {"identifierType": "alias", "identifier": "a"}
_AS_JSON = 8.0


@cache
def _as_json_alone(what: str) -> float:
    """What the JSON of this large value costs: less than that of any body around it."""
    return spent(partial(_through_json, _VALUES[what]))


def _with_large_values(body: Any) -> Iterator[tuple[str, str, Any]]:
    """The body with each of its values made large, in turn; lists in it have one item. The place, the value, the body."""
    for place in [(), *_places(body)]:
        for what, value in _VALUES.items():
            made = json.loads(json.dumps(body))
            inner = made
            for step in place[:-1]:
                inner = inner[step]
            if place:
                inner[place[-1]] = value
                yield ".".join(map(str, place)), what, made


def _places(body: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for step, value in body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ():
        yield (*above, step)
        yield from _places(value, (*above, step))


@pytest.mark.parametrize("form", [each for each in FORMATS if each.read is None], ids=lambda form: form.name)
def test_to_make_an_alert_of_large_values_costs_what_their_json_costs(form: Format) -> None:
    """300,000 tags of Opsgenie in 1 MiB were each looked at, for 0.6 s."""
    dear = {}
    of_nothing = _make(form, {}, {})
    for body in SENT:
        made = _make(form, _first(form, body), body if isinstance(body, dict) else {})
        if made is None or made == of_nothing:
            continue  # one of another sender
        for place, what, given in _with_large_values(body):
            fields = given if isinstance(given, dict) else {}
            # Its item is the one that was made large.
            work = partial(_make, form, _first(form, given), fields)
            found = spent(work, runs=1) / _as_json_alone(what)
            for _ in range(TRIES):
                if found <= _AS_JSON:
                    break
                found = min(found, spent(work) / spent(partial(_through_json, given)))
            if found > _AS_JSON:
                dear[f"{place}: {what}"] = round(found, 1)
    assert dear == {}


def _through_json(given: Any) -> Any:
    return json.loads(json.dumps(given))


def _first(form: Format, body: Any) -> Any:
    """The item of a body with one, if that is what the format reads."""
    items = body.get(form.list_field) if form.list_field and isinstance(body, dict) else body
    return items[0] if isinstance(items, list) and items else None


def _make(form: Format, given: Any, fields: dict[str, Any]) -> bytes | None:
    """The alert that is made of it, if one is."""
    try:
        item = form.item(given, {**_LATEST, **fields}, "event")
    except (TocsinError, LookupError, TypeError, AttributeError):
        return None
    shorten(item.alert)
    return item.alert.SerializeToString()

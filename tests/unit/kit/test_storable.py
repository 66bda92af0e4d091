"""Requests that can be stored: what is repaired, what is refused, and that nothing else is touched."""

import json
import math
import struct
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st
from tocsin.escalation.v1.incident_service_pb2 import ListIncidentsRequest, SnoozeIncidentRequest
from tocsin.escalation.v1.internal_service_pb2 import ApplyIncidentEventsRequest
from tocsin.ingest.v1.alert_pb2 import AlertInput
from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest, SendAlertsRequest
from tocsin_kit.errors import TocsinError
from tocsin_kit.rpc.storable import MAX_VIOLATIONS, make_storable

from tests.rounds import examples

text = st.text(st.sampled_from("a\0\ufffd\x7f\N{GRINNING FACE}"), max_size=4)
number = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, 0.0])


def value_of(given: Any) -> Value:
    value = Value()
    match given:
        case str():
            value.string_value = given
        case float():
            value.number_value = given
        case list():
            value.list_value.values.extend(map(value_of, given))
        case dict():
            value.struct_value.CopyFrom(struct_of(given))
    return value


def struct_of(given: dict[str, Any]) -> Struct:
    return Struct(fields={name: value_of(each) for name, each in given.items()})


details = st.dictionaries(
    text, st.recursive(st.none() | text | number, lambda each: st.lists(each) | st.dictionaries(text, each)), max_size=3
)


@st.composite
def alerts(draw: st.DrawFn) -> AlertInput:
    alert = AlertInput(
        dedup_key=draw(text), summary=draw(text), source=draw(text), client=draw(text),
        labels=draw(st.dictionaries(text, text, max_size=4)), details=struct_of(draw(details)),
    )  # fmt: skip
    for href, shown in draw(st.lists(st.tuples(text, text), max_size=2)):
        alert.links.add(href=href, text=shown)
    if draw(st.booleans()):
        alert.client_time.seconds = draw(st.integers(-(2**63), 2**63 - 1) | st.integers(-10, 10))
        alert.client_time.nanos = draw(st.integers(-(2**31), 2**31 - 1))
    return alert


@settings(max_examples=examples(300), deadline=None)
@given(alerts())
def test_every_alert_becomes_one_that_postgresql_and_json_hold(alert: AlertInput) -> None:
    request = SendAlertRequest(alert=alert)
    make_storable(request)
    shown = json_format.MessageToJson(request)
    assert "\0" not in shown
    assert "\\u0000" not in shown
    json.loads(shown, parse_constant=pytest.fail)
    assert len(request.alert.labels) == len(alert.labels)
    assert len(request.alert.details.fields) == len(alert.details.fields)
    again = SendAlertRequest.FromString(request.SerializeToString())
    make_storable(again)
    assert again == request, "repaired once is repaired for good"


@settings(max_examples=examples(100), deadline=None)
@given(alerts())
def test_nothing_else_changes(alert: AlertInput) -> None:
    make_storable(request := SendAlertRequest(alert=alert))
    for field in ("dedup_key", "summary", "source", "client"):
        assert getattr(request.alert, field) == getattr(alert, field).replace("\0", "\ufffd")
    assert sorted(request.alert.labels.values()) == sorted(v.replace("\0", "\ufffd") for v in alert.labels.values())


def test_two_labels_that_differ_stay_two() -> None:
    request = SendAlertRequest(alert=AlertInput(labels={"a\0": "1", "a\ufffd": "2"}))
    make_storable(request)
    assert dict(request.alert.labels) == {"a\ufffd": "2", "a\N{SYMBOL FOR NULL}": "1"}


def refused(message: Any) -> list[str]:
    with pytest.raises(TocsinError) as caught:
        make_storable(message)
    assert caught.value.reason_name == "INVALID_FIELD"
    return [field for field, _ in caught.value.fields]


def test_what_people_write_is_refused() -> None:
    request = ApplyIncidentEventsRequest()
    request.events.add().opened.labels["a\0"] = "b"
    request.events.add().opened.labels["c"] = "\0"
    request.events.add().opened.links.add(href="\0")
    request.events.add().create_time.nanos = -1
    assert refused(request) == [
        'events[0].opened.labels["a\ufffd"]',
        'events[1].opened.labels["c"]',
        "events[2].opened.links[0].href",
        "events[3].create_time",
    ]


@pytest.mark.parametrize(
    ("seconds", "nanos"), [(0, 1_000_000_000), (1 << 60, 0), (-(1 << 60), 0), (253_402_300_800, 0), (0, -1)]
)
def test_times_that_no_json_holds_are_refused(seconds: int, nanos: int) -> None:
    request = ListIncidentsRequest(start_time=Timestamp(seconds=seconds, nanos=nanos))
    assert refused(request) == ["start_time"]
    with pytest.raises(json_format.Error):
        json_format.MessageToJson(request)


@pytest.mark.parametrize(("seconds", "nanos"), [(1, -1), (-1, 1), (0, 1_000_000_000), (315_576_000_001, 0)])
def test_durations_that_no_json_holds_are_refused(seconds: int, nanos: int) -> None:
    assert refused(SnoozeIncidentRequest(duration=Duration(seconds=seconds, nanos=nanos))) == ["duration"]


def test_an_answer_stays_small() -> None:
    request = ApplyIncidentEventsRequest()
    for _ in range(900):
        request.events.add(org_id="\0")
    assert 20 < len(refused(request)) <= MAX_VIOLATIONS  # as many as fit into trailers of 8 KiB


def test_items_that_are_checked_one_by_one_are_left_alone() -> None:
    request = SendAlertsRequest(alerts=[SendAlertRequest(request_id="\0", alert=AlertInput(summary="\0"))])
    before = SendAlertsRequest.FromString(request.SerializeToString())
    make_storable(request)
    assert request == before
    assert refused(request.alerts[0]) == ["request_id"]


@pytest.mark.parametrize("last", [0x7F, 0xFF])
def test_a_number_that_is_none_is_repaired_whatever_its_bits(last: int) -> None:
    """Most have a zero byte, by which they are found as well; this one has none."""
    [number] = struct.unpack("<d", bytes((1, 1, 1, 1, 1, 1, 0xF8, last)))
    alert = AlertInput(summary="s", details=struct_of({"n": number}))
    assert 0 not in alert.SerializeToString()
    make_storable(alert)
    assert json_format.MessageToDict(alert)["details"] == {"n": "NaN"}

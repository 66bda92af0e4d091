"""A batch whose items stay bytes is the same message on the wire."""

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from tocsin.ingest.v1.alert_pb2 import AlertInput
from tocsin.ingest.v1.alert_service_pb2 import (
    SendAlertRequest,
    SendAlertResponse,
    SendAlertsRequest,
    SendAlertsResponse,
    SendAlertsResult,
)
from tocsin_kit.errors import TocsinError
from tocsin_kit.rpc.raw_fields import length_delimited, with_raw_field
from tocsin_kit.rpc.validation import validate

from tests.rounds import examples

BATCH = with_raw_field(SendAlertsRequest.DESCRIPTOR, "alerts")
ANSWER = with_raw_field(SendAlertsResponse.DESCRIPTOR, "results")
text = st.text(max_size=300)
requests = st.builds(SendAlertRequest, alert=st.builds(AlertInput, summary=text, labels=st.dictionaries(text, text)))


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(requests, max_size=5))
def test_items_are_the_bytes_of_each(items: list[SendAlertRequest]) -> None:
    split = BATCH.FromString(SendAlertsRequest(alerts=items).SerializeToString())
    parts = list(split.alerts)  # type: ignore[attr-defined]
    assert [SendAlertRequest.FromString(each) for each in parts] == items
    assert SendAlertsRequest.FromString(split.SerializeToString()) == SendAlertsRequest(alerts=items)


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(st.builds(SendAlertResponse, dedup_key=text, count=st.integers(0, 2**40)), max_size=5))
def test_answers_are_put_together_from_bytes(answers: list[SendAlertResponse]) -> None:
    results = [length_delimited(1, each.SerializeToString()) for each in answers]
    written = ANSWER(results=results).SerializeToString()
    assert SendAlertsResponse.FromString(written) == SendAlertsResponse(
        results=[SendAlertsResult(response=each) for each in answers]
    )


@pytest.mark.parametrize("size", [0, 1, 127, 128, 129, 16383, 16384, 70_000])
def test_lengths_of_any_size_are_written(size: int) -> None:
    inner = SendAlertResponse(dedup_key="x" * size) if size else SendAlertResponse()
    assert SendAlertsResult.FromString(length_delimited(1, inner.SerializeToString())).response == inner


@pytest.mark.parametrize("number", [0, 1, 1000, 1001])
def test_rules_and_their_words_are_the_same(number: int) -> None:
    data = SendAlertsRequest(alerts=[SendAlertRequest()] * number).SerializeToString()
    told = []
    for message in (BATCH.FromString(data), SendAlertsRequest.FromString(data)):
        try:
            validate(message)
            told.append("")
        except TocsinError as error:
            told.append(f"{error.message} {error.fields}")
    assert told[0] == told[1]
    assert bool(told[0]) == (number not in (1, 1000))


def test_what_is_no_message_is_refused_and_what_is_wrong_inside_is_found_later() -> None:
    with pytest.raises(DecodeError):
        BATCH.FromString(b"\x0a\x05ab")
    (part,) = BATCH.FromString(length_delimited(1, b"\x0a\x05ab")).alerts  # type: ignore[attr-defined]
    with pytest.raises(DecodeError):
        SendAlertRequest.FromString(part)


def test_only_the_one_field_differs() -> None:
    for ours, theirs in (
        (BATCH.DESCRIPTOR, SendAlertsRequest.DESCRIPTOR),
        (ANSWER.DESCRIPTOR, SendAlertsResponse.DESCRIPTOR),
    ):
        assert [(each.name, each.number, each.is_repeated) for each in ours.fields] == [
            (each.name, each.number, each.is_repeated) for each in theirs.fields
        ]
        assert [each.type for each in ours.fields] == [FieldDescriptor.TYPE_BYTES]

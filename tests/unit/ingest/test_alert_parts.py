"""An alert whose core is known is read by its words alone: what comes of it is what comes of reading all of it."""

from typing import Any

import pytest
from buf.validate import validate_pb2
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from tocsin.ingest.v1.alert_pb2 import AlertInput
from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest
from tocsin_ingest.app.alerts.alert_cache import CachedCore
from tocsin_ingest.app.alerts.alert_parts import WORDS, core_of, words_of
from tocsin_ingest.app.alerts.alert_size import LIMIT, check_size
from tocsin_ingest.app.alerts.commit_batch import Entry
from tocsin_ingest.app.alerts.details import check_details
from tocsin_ingest.app.alerts.known_rules import register_rules
from tocsin_kit.db.requests import body_hash
from tocsin_kit.errors import TocsinError
from tocsin_kit.rpc.validation import validate

from tests.rounds import examples
from tests.unit.ingest.model import message

ID = "9f0e4c1e-6b7e-4b6b-9d55-0f6b6a3f4d10"
register_rules()
texts = st.text(st.sampled_from("ab \0\x7f\xffü😀"), max_size=5)
numbers = st.floats(width=32) | st.integers(-3, 300).map(float)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def alerts(draw: st.DrawFn) -> AlertInput:
    """Some of these break a rule, and some are mended."""
    return AlertInput(
        action=draw(st.integers(0, 4)),  # type: ignore[arg-type]
        dedup_key=draw(st.sampled_from(["", "k", "k", "k\0"])),
        source=draw(st.sampled_from(["", "db1"])),
        labels=draw(st.dictionaries(texts, texts, max_size=2)),
        client=draw(texts),
        severity=draw(st.integers(0, 2)),  # type: ignore[arg-type]
    )


@st.composite
def worded(draw: st.DrawFn, alert: AlertInput) -> bytes:
    """A request of the alert with other words, and fields that are unknown."""
    other = AlertInput()
    other.CopyFrom(alert)
    other.summary = draw(texts | st.sampled_from(["x" * 1024, "x" * 1025, "ü" * 1024]))
    if draw(st.booleans()):
        other.details.update(draw(st.dictionaries(texts, values, max_size=3)))
        match draw(st.integers(0, 9)):
            case 0:
                other.details.fields["nothing"].Clear()
            case 1:
                other.details["much"] = "\x01" * draw(st.sampled_from([10_000, 12_000, 70_000]))
            case 2:
                other.details["many"] = [True] * draw(st.sampled_from([9_900, 10_100]))
    if draw(st.booleans()):
        other.client_time.seconds = draw(st.sampled_from([0, 5, -(10**12), 10**12, 2**63 - 1]))
        other.client_time.nanos = draw(st.sampled_from([0, 7, -7, 10**9]))
    unknown = b"\xfa\x3f\x01x"
    data = other.SerializeToString() + draw(st.sampled_from([b"", unknown]))
    request = SendAlertRequest(
        integration=draw(st.sampled_from(["", "integrations/prom"])),
        request_id=draw(st.sampled_from(["", "", ID, "no id", "\0"])),
    ).SerializeToString()
    return request + b"\x1a" + length(len(data)) + data + draw(st.sampled_from([b"", unknown]))


def length(size: int) -> bytes:
    written = bytearray()
    while size >= 128:
        written.append(size & 127 | 128)
        size >>= 7
    return bytes([*written, size])


def read(data: bytes) -> SendAlertRequest | None:
    """All of it. None: it is refused."""
    request = SendAlertRequest.FromString(data)
    try:
        validate(request)
        check_size(request.alert)
        check_details(request.alert.details)
    except TocsinError:
        return None
    return request


def known(alert: AlertInput, *, integration: str = "", any_summary: bool = True) -> CachedCore:
    sent = message("k").saying(alert.summary, alert.SerializeToString())
    return CachedCore(Entry("acme", sent), integration, None, 0, any_summary, None)


@settings(max_examples=examples(500), deadline=None)
@given(st.data())
def test_it_becomes_what_it_becomes_when_all_of_it_is_read(data: st.DataObject) -> None:
    alert = data.draw(alerts())
    first, other = data.draw(worded(alert)), data.draw(worded(alert))
    before, wanted = read(first), read(other)
    if before is None or core_of(first) != core_of(other):
        return  # it is not remembered, or not found
    known_core = known(before.alert, integration=before.integration)
    found = known_core.with_words(words_of(other))
    if found is None:
        # Never refused here. An empty summary is left to the whole rule, which knows the action.
        assert wanted is None or not wanted.alert.summary
        return
    assert wanted is not None
    assert AlertInput.FromString(found.message.content) == wanted.alert
    assert found.message.summary == wanted.alert.summary
    assert (found.request_id, found.like) == (wanted.request_id, None if wanted.request_id else known_core.entry)
    assert found.body_hash == (body_hash(wanted) if wanted.request_id else b"")


@pytest.mark.parametrize("any_summary", [True, False])
def test_a_summary_that_decides_must_be_the_same(any_summary: bool) -> None:
    known_core = known(AlertInput(dedup_key="k", summary="disk full"), any_summary=any_summary)
    for summary in ("disk full", "disk fuller", ""):
        alert = AlertInput(dedup_key="k", summary=summary)
        found = known_core.with_words(words_of(SendAlertRequest(alert=alert).SerializeToString()))
        assert (found is not None) == (summary == "disk full" or (any_summary and summary != "")), summary


@pytest.mark.parametrize("excess", [0, 1])
def test_it_is_as_large_as_all_of_it(excess: int) -> None:
    alert = AlertInput(dedup_key="k", summary="s")
    for _ in range(10):
        alert.links.add(href="https://a.example/" + "x" * 2000, text="x" * 200)
    for number in range(60):
        alert.labels[f"l{number}"] = "ü" * 800
    known_core = known(alert)
    alert.details["more"] = "x" * 5000
    alert.details["more"] = "x" * (5000 + LIMIT - alert.ByteSize() + excess)
    assert alert.ByteSize() == LIMIT + excess
    data = SendAlertRequest(alert=alert).SerializeToString()
    assert (read(data) is None) == (excess == 1)
    assert (known_core.with_words(words_of(data)) is None) == (excess == 1)


def test_each_field_is_in_one_part() -> None:
    """A new field belongs to the core, unless the code says that it does not."""
    alert = AlertInput(dedup_key="k", summary="s", client="c", labels={"a": "b"}, links=[{"href": "https://a.example"}])  # type: ignore[list-item]
    alert.details["a"] = 1
    alert.client_time.seconds = 1
    request = SendAlertRequest(request_id=ID, alert=alert, integration="integrations/a")
    core, words = core_of(request.SerializeToString()), words_of(request.SerializeToString())
    words.DiscardUnknownFields()
    assert {field.name for field, _ in words.alert.ListFields()} == set(WORDS)
    whole = SendAlertRequest.FromString(core)
    assert not {field.name for field, _ in whole.alert.ListFields()}.intersection(WORDS)
    whole.MergeFromString(words.SerializeToString())
    assert whole == request
    assert {field.name for field, _ in request.ListFields()} == set(SendAlertRequest.DESCRIPTOR.fields_by_name)


def test_one_rule_of_the_whole_is_about_words() -> None:
    """Another one would have to be known where words are read by themselves."""
    rules: Any = AlertInput.DESCRIPTOR.GetOptions().Extensions[validate_pb2.message]
    about = [rule.id for rule in rules.cel if any(f"this.{name}" in rule.expression for name in WORDS)]
    assert about == ["alert.summary_required_to_trigger"]
    assert [field.name for field, _ in rules.ListFields()] == ["cel"]


@pytest.mark.parametrize("data", [b"\x1a\x05ab", b"\x1a\x03\x1a\x01\xff", b"\x1a\x04\x3a\x02\x0a\x05"])
def test_what_cannot_be_parsed_raises(data: bytes) -> None:
    with pytest.raises(DecodeError):
        (core_of(data), words_of(data))

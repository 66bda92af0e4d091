"""The largest alert there may be, and what becomes of larger ones."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tocsin.ingest.v1.alert_pb2 import AlertInput, Link
from tocsin_ingest.app.alerts.alert_size import LIMIT, check_size, shorten
from tocsin_ingest.domain.fingerprint import fingerprint
from tocsin_kit.errors import TocsinError
from tocsin_kit.rpc.validation import validate

LETTERS = ("a", "\N{SNOWMAN}", "\N{GRINNING FACE}")


def large(letter: str, labels: int, links: int, details: int) -> AlertInput:
    """As large as the rules of its fields allow, if the numbers are large enough."""
    alert = AlertInput(summary=letter * 1024, source=letter * 255, client=letter * 255)
    for number in range(labels):
        alert.labels[f"{number:02}" + letter * 126] = letter * 1024
    for number in range(links):
        alert.links.append(Link(href=f"https://{number}" + letter * 2000, text=letter * 255))
    alert.details.update({"list": [1.5] * details})
    return alert


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(LETTERS), st.integers(0, 64), st.integers(0, 10), st.integers(0, 9000))
def test_what_is_shortened_fits_and_is_still_the_same_alert(letter: str, labels: int, links: int, details: int) -> None:
    alert, before = large(letter, labels, links, details), large(letter, labels, links, details)
    size = before.ByteSize()
    shorten(alert)
    check_size(alert)
    validate(alert)
    assert set(alert.labels) == set(before.labels)
    assert alert.summary == before.summary
    if size <= LIMIT:
        assert alert == before
        return
    assert alert.dedup_key == fingerprint(dict(before.labels), before.source, before.summary)
    note = str(alert.details["left_out"])
    assert str(size) in note
    assert "details" in note
    assert ("links" in note) == (len(alert.links) < len(before.links))
    assert ("labels" in note) == (alert.labels != before.labels)


def test_one_byte_more_is_refused() -> None:
    alert = large("a", 40, 0, 0)
    text = alert.details.fields["text"]
    text.string_value = "a" * (LIMIT - alert.ByteSize() - 100)
    text.string_value += "a" * (LIMIT - alert.ByteSize())
    assert alert.ByteSize() == LIMIT
    check_size(alert)
    text.string_value += "a"
    with pytest.raises(TocsinError) as caught:
        check_size(alert)
    assert caught.value.reason_name == "ALERT_TOO_LARGE"
    assert caught.value.metadata == {"limit_bytes": str(LIMIT), "size_bytes": str(LIMIT + 1)}

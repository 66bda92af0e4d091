"""What is remembered of bodies: bounded, by sender, and only of formats where the bytes say all."""

import pytest
from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest
from tocsin_ingest.app.alerts.alert_request import AlertRequest, Sender
from tocsin_ingest.app.alerts.route_alert import NOTHING_STATED
from tocsin_ingest.http import format as formats
from tocsin_ingest.http.format import Format
from tocsin_ingest.http.known_bodies import LARGEST, Body, KnownBodies, KnownBody
from tocsin_ingest.http.routes import FORMATS

ANA = Sender("acme", "integrations/ana", "ana")
BEN = Sender("acme", "integrations/ben", "ben")
SENT = AlertRequest.of(SendAlertRequest(), NOTHING_STATED)
KNOWN = KnownBody("tik_1", SENT, 202, b"{}")
MOST = 200_000


def body(number: int, length: int = 10, form: str = "pagerduty") -> Body:
    return form, b"%06d" % number + b"x" * length


def test_a_body_of_another_format_is_another_one() -> None:
    known = KnownBodies()
    known.put(ANA, body(1), KNOWN)
    assert known.get(body(1)) is KNOWN
    assert known.get(body(1, form="pagerduty_v1")) is None
    assert known.get(body(2)) is None


@pytest.mark.parametrize("length", [10, 10_000])
def test_it_takes_no_more_than_its_room_and_the_oldest_leave(length: int) -> None:
    known = KnownBodies(MOST)
    for number in range(1000):
        known.put(ANA, body(number, length), KNOWN)
        known.put(BEN, body(10_000 + number, length), KNOWN)
        known.put(Sender("acme", f"integrations/{number % 97}", "x"), body(20_000 + number, length), KNOWN)
        assert known.size <= MOST
    assert known.get(body(999, length)) is KNOWN, "the newest stay"
    assert known.get(body(0, length)) is None, "the oldest leave"


def test_one_senders_new_bodies_leave_the_others_theirs() -> None:
    known = KnownBodies(MOST)
    known.put(ANA, body(-1), KNOWN)
    for number in range(1000):
        known.put(BEN, body(number), KNOWN)
        assert known.size <= MOST * 0.51
    assert known.get(body(-1)) is KNOWN


def test_what_left_takes_no_room_and_may_come_again() -> None:
    known = KnownBodies(MOST)
    for number in range(1000):
        known.put(Sender("acme", f"integrations/{number}", "x"), body(number), KNOWN)
    assert known.get(body(0)) is None
    known.put(ANA, body(0), KNOWN)
    assert known.get(body(0)) is KNOWN
    held = sum(known.get(body(number)) is not None for number in range(1000))
    assert MOST * 0.9 < known.size <= MOST
    assert len(known._senders) == len(known._sizes) == held


def test_a_large_body_is_not_remembered_and_a_known_one_counts_once() -> None:
    known = KnownBodies()
    known.put(ANA, body(1, LARGEST), KNOWN)
    assert (known.get(body(1, LARGEST)), known.size) == (None, 0)
    known.put(ANA, body(1), KNOWN)
    size = known.size
    known.put(BEN, body(1), KNOWN)
    assert known.size == size


@pytest.mark.parametrize("form", [form for form in FORMATS if form.known_by_bytes], ids=lambda form: form.name)
def test_where_the_body_says_all_nothing_else_is_looked_at(form: Format) -> None:
    """What is remembered of a body would be wrong for another request with the same one."""
    assert form.check is formats.no_notes
    assert form.outside_body is formats.nothing_outside_body
    assert form.open is formats.the_body_is_all
    assert (form.list_field, form.read, form.verify, form.of_open_incidents) == ("", None, None, False)

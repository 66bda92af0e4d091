"""What is handed to notify in place of a page or a cancellation that was refused for good."""

from datetime import UTC, datetime
from uuid import uuid4

from hypothesis import given, settings
from hypothesis import strategies as st
from tocsin.notify.v1.internal_service_pb2 import Cancellation
from tocsin.notify.v1.notification_pb2 import NOTIFICATION_TYPE_ESCALATION, NotificationJob
from tocsin_escalation.work.substitute import less_of_cancellation, less_of_page
from tocsin_kit.db.outbox import OutboxRow
from tocsin_kit.rpc.validation import validate

from tests.rounds import examples

text = st.text(max_size=300)


def row(payload: bytes) -> OutboxRow:
    return OutboxRow(1, "org", "", "page", payload, datetime(2026, 1, 1, tzinfo=UTC), 1)


@settings(max_examples=examples(200), deadline=None)
@given(title=text, source=text, actor=text, policy=text, links=st.dictionaries(text, text, max_size=3))
def test_a_page_reaches_its_user_with_less(
    title: str, source: str, actor: str, policy: str, links: dict[str, str]
) -> None:
    job = NotificationJob(
        page=f"pages/{uuid4()}",
        org_id="org",
        type=NOTIFICATION_TYPE_ESCALATION,
        user="users/ana",
        incident=f"incidents/{uuid4()}",
        title=title,
        source=source,
        actor=actor,
        policy=policy,
        links=links,
        level=2,
        generation=3,
    )
    payload = less_of_page(row(job.SerializeToString()), "refused")
    assert payload is not None
    less = NotificationJob.FromString(payload)
    validate(less)
    for field in ("page", "org_id", "type", "user", "incident", "level", "generation"):
        assert getattr(less, field) == getattr(job, field), field
    assert less.title.endswith(" (parts of this page were left out)")
    assert less.title.isascii()
    assert not less.links
    assert less.severity == 1
    assert len(payload) < 1024


def test_a_cancellation_keeps_what_it_stops() -> None:
    stop = Cancellation(org_id="org", incident=f"incidents/{uuid4()}", generation=7, reason="acknowledged by \0")
    payload = less_of_cancellation(row(stop.SerializeToString()), "refused")
    assert payload is not None
    less = Cancellation.FromString(payload)
    validate(less)
    assert (less.incident, less.generation, less.reason) == (stop.incident, 7, "acknowledged by ?")
    assert less_of_cancellation(row(payload), "refused") is None


def test_what_cannot_be_read_has_no_substitute() -> None:
    assert less_of_page(row(b"\xff"), "refused") is None
    assert less_of_cancellation(row(b"\xff"), "refused") is None

"""Short messages: how many segments a text takes, and texts that are cut to a number of them."""

import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin.type.v1.severity_pb2 import SEVERITY_CRITICAL
from tocsin_notify.channels.base import Delivery, Target
from tocsin_notify.channels.sms_text import fit, segments, sms_text
from tocsin_notify.domain.page import Channel, Kind


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("€" * 80, 1),  # an escape and a character each
        ("€" * 81, 2),
        ("a" * 152 + "€" * 1 + "a" * 20, 2),  # the pair goes into the second segment together
        ("ü" * 160, 1),  # in GSM-7
        ("ж" * 70, 1),
        ("ж" * 71, 2),
        ("ж" * 134, 2),
        ("ж" * 135, 3),
        ("😀" * 35, 1),  # two units of UTF-16 each
        ("😀" * 36, 2),
        ("😀" * 67, 3),  # a pair is not divided between segments
    ],
)
def test_how_many_segments_a_text_takes(text: str, expected: int) -> None:
    assert segments(text) == expected


@given(st.text(max_size=600), st.integers(min_value=1, max_value=4), st.sampled_from(["", " (level 2)"]))
def test_a_text_is_cut_to_its_segments_and_keeps_what_comes_after(text: str, limit: int, after: str) -> None:
    cut = fit(text, limit, after)
    assert segments(cut) <= limit
    assert cut.endswith(after)
    assert not any(each < " " for each in cut)


def test_typographic_characters_do_not_make_a_text_expensive() -> None:
    title = "“Disk” – it’s full… " + "a" * 120
    assert segments(fit(title, 3)) == 1
    assert fit(title, 3).startswith('"Disk" - it\'s full... a')


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_has_a_text_of_the_segments_allowed(kind: Kind) -> None:
    job = pb.NotificationJob(user="users/ana", title="ж" * 4096, actor="users/" + "b" * 300, level=2)
    job.severity = SEVERITY_CRITICAL
    now = datetime(2026, 1, 2, tzinfo=UTC)
    made = Delivery("k", uuid.uuid4(), "acme", kind, job, Target(Channel.SMS, "+4915112345678"), 1, now, "123456")
    text = sms_text(made, 2)
    assert 1 <= segments(text) <= 2
    if kind is Kind.NEW_INCIDENT:
        assert text.startswith("CRITICAL: жж")
        assert text.endswith(f"... (level 2) ({'b' * 20} asks for you)")
    if kind is Kind.VERIFICATION:
        assert text.startswith("123456 is your")


@pytest.mark.parametrize(("limit", "ending"), [(1, "/link"), (2, "Reply 904a to ack, 904e to escalate.")])
def test_how_to_reply_is_said_where_there_is_room(limit: int, ending: str) -> None:
    job = pb.NotificationJob(title="Disk full " * 100, incident=f"incidents/{uuid.UUID(int=7)}", level=2)
    target, now = Target(Channel.SMS, "+4915112345678"), datetime(2026, 1, 2, tzinfo=UTC)
    link = "https://tocsin.example.com/" + "t" * 80 + "/link"
    made = Delivery("k", uuid.uuid4(), "acme", Kind.NEW_INCIDENT, job, target, 1, now, link=link)
    text = sms_text(made, limit, replies=True)
    assert segments(text) <= limit
    assert text.endswith(ending)


@pytest.mark.parametrize(
    ("title", "limit", "link", "says_who"),
    [
        ("Disk full on db-1 " * 20, 1, "", True),
        ("Disk full on db-1 " * 20, 1, "https://tocsin.example.com/a/" + "t" * 70, False),
        ("Disk full", 1, "https://tocsin.example.com/a/" + "t" * 70, True),
        ("Диск полон на db-1 " * 20, 1, "", False),
        ("Диск полон на db-1 " * 20, 2, "", True),
        ("Диск полон на db-1 " * 20, 2, "https://tocsin.example.com/a/" + "t" * 50, False),
    ],
)
def test_who_asks_is_said_only_where_the_title_can_still_be_read(
    title: str, limit: int, link: str, says_who: bool
) -> None:
    job = pb.NotificationJob(title=title, actor="users/ana", level=2, severity=SEVERITY_CRITICAL)
    target, now = Target(Channel.SMS, "+4915112345678"), datetime(2026, 1, 2, tzinfo=UTC)
    text = sms_text(Delivery("k", uuid.uuid4(), "acme", Kind.ESCALATION, job, target, 1, now, link=link), limit)
    assert segments(text) <= limit
    assert text.endswith(link)
    assert ("(ana asks for you)" in text) == says_who
    assert text.startswith(f"CRITICAL: {title}"[:40].rstrip())


def test_how_to_reply_matters_more_than_who_asks() -> None:
    job = pb.NotificationJob(
        title="Disk full " * 100, incident=f"incidents/{uuid.UUID(int=7)}", actor="users/ana", level=2
    )
    target, now = Target(Channel.SMS, "+4915112345678"), datetime(2026, 1, 2, tzinfo=UTC)
    link = "https://tocsin.example.com/" + "t" * 30
    text = sms_text(
        Delivery("k", uuid.uuid4(), "acme", Kind.ESCALATION, job, target, 1, now, link=link), 1, replies=True
    )
    assert ("Reply 904a to ack" in text, "asks for you" in text) == (True, False)

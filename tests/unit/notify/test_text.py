"""Texts for people, with any title that senders send."""

import uuid
from datetime import UTC, datetime
from email import message_from_bytes, policy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin_notify.channels.base import Delivery, Target
from tocsin_notify.channels.email import EmailChannel
from tocsin_notify.channels.mail_server import MailServer
from tocsin_notify.channels.text import body, payload, subject
from tocsin_notify.domain.page import Channel, Kind

CHANNEL = EmailChannel(MailServer("localhost", sender="Töcsin <tocsin@example.org>"), timeout=1)
INCIDENT = f"incidents/{uuid.uuid4()}"


def delivery(kind: Kind = Kind.ESCALATION, *, code: str = "", **fields: object) -> Delivery:
    about = {} if kind in (Kind.TEST, Kind.VERIFICATION, Kind.CONTACT_CHANGED, Kind.MESSAGE) else {"incident": INCIDENT}
    job = pb.NotificationJob(
        **{"page": "pages/x", "user": "users/ana", "title": "Disk full", "level": 2, "severity": 1, **about, **fields}  # type: ignore[arg-type]
    )
    return Delivery(
        key="n-1",
        notification=uuid.uuid4(),
        org_id="acme",
        kind=kind,
        job=job,
        target=Target(Channel.EMAIL, "ana@example.com"),
        attempt=1,
        start_time=datetime(2026, 1, 2, tzinfo=UTC),
        code=code,
    )


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (delivery(), "[critical] Disk full (level 2)"),
        (delivery(Kind.NEW_INCIDENT, severity=4, level=1), "[info] Disk full (level 1)"),
        (delivery(Kind.ESCALATION, level=0), "[critical] Disk full (fallback)"),
        (delivery(Kind.URGENCY_RAISED), "[critical] Disk full (became urgent)"),
        (delivery(Kind.ACKNOWLEDGMENT), "[acknowledged] Disk full"),
        (delivery(Kind.RESOLUTION), "[resolved] Disk full"),
        (delivery(Kind.TEST), "[test] Tocsin can reach you this way"),
        (
            delivery(Kind.CONTACT_CHANGED, title="deleted it", actor="users/boss"),
            "[security] users/boss changed how Tocsin reaches you",
        ),
        (delivery(Kind.MESSAGE, title="Standup"), "[message] Standup"),
        (delivery(Kind.MESSAGE, title="", text="It moves\nto ten."), "[message] It moves to ten."),
        (delivery(Kind.VERIFICATION, code="012345"), "012345 is your Tocsin verification code"),
    ],
)
def test_subjects(made: Delivery, expected: str) -> None:
    assert subject(made) == expected


LINKS = [("Graph", "https://g/2"), ("Graph", "https://g/1"), ("", "https://a"), ("Graph", "https://g/2")]


def test_links_stay_in_their_order_and_none_is_lost() -> None:
    made = delivery(
        ordered_links=[pb.NotificationLink(text=text, href=href) for text, href in LINKS], links={"old": "x"}
    )
    assert payload(made)["incident"]["links"] == [{"text": text, "href": href} for text, href in LINKS]
    assert body(made).endswith("\n\nGraph: https://g/2\nGraph: https://g/1\nhttps://a\nGraph: https://g/2\n")


def test_links_of_a_sender_that_knows_no_order() -> None:
    made = delivery(links={"runbook": "https://wiki/disk", "graph": "https://g"})
    assert payload(made)["incident"]["links"] == [
        {"text": "graph", "href": "https://g"},
        {"text": "runbook", "href": "https://wiki/disk"},
    ]


def test_the_body_names_the_incident_and_the_links() -> None:
    text = body(delivery(links={"runbook": "https://wiki/disk"}, source="db-1", alert_count=3))
    assert INCIDENT in text
    assert "runbook: https://wiki/disk" in text
    assert "db-1" in text


def test_the_body_says_who_asked_for_whom() -> None:
    assert "users/ben asks for you: you are paged at level 2." in body(
        delivery(Kind.ESCALATION, actor="users/ben", level=2)
    )
    assert "Nobody has it in hand: you are paged at level 2." in body(delivery(Kind.ESCALATION, level=2))


def test_json_has_every_field_in_every_kind() -> None:
    keys = [set(payload(delivery(kind, code="1" * 6 if kind is Kind.VERIFICATION else ""))) for kind in Kind]
    assert all(each == keys[0] for each in keys)
    assert payload(delivery(Kind.TEST))["incident"] is None
    assert payload(delivery())["incident"]["name"] == INCIDENT


@pytest.mark.parametrize(
    "title",
    [
        *(
            "=?utf-8?q?Disk_full?=",
            "=?utf-8?B?RGlzayBmdWxs?= on db-1",
            "a =?x",
            "?=",
            "=?",
            "1 =?= 2",
            "=?us-ascii?Q?=41?=",
        ),
        *("=?utf-8?q?a?= =?utf-8?q?b?=", "=?utf-8?q?a?=" * 15, "Größe =?utf-8?q?a?="),
    ],
)
@pytest.mark.parametrize("kind", [Kind.ESCALATION, Kind.ACKNOWLEDGMENT, Kind.RESOLUTION])
def test_a_subject_that_looks_like_an_encoded_word_is_read_as_it_was_sent(title: str, kind: Kind) -> None:
    made = delivery(kind, title=title)
    parsed = message_from_bytes(CHANNEL._compose(made), policy=policy.default)
    assert parsed["Subject"] == subject(made)
    assert title[:100] in parsed["Subject"]


@given(st.lists(st.sampled_from(["=?", "?=", "utf-8", "?q?", "?B?", "YQ==", " ", "_", "=41", "ü"]), max_size=12))
def test_pieces_of_encoded_words_are_read_as_they_were_sent(pieces: list[str]) -> None:
    made = delivery(title="".join(pieces))
    parsed = message_from_bytes(CHANNEL._compose(made), policy=policy.default)
    assert " ".join(parsed["Subject"].split()) == " ".join(subject(made).split())


@given(st.text(max_size=3000))
def test_no_title_can_break_a_header_or_hide_the_level(title: str) -> None:
    made = delivery(title=title.encode("utf-8", "replace").decode())
    line = subject(made)
    assert len(line.splitlines()) == 1
    assert len(line) <= 200
    assert line.endswith("(level 2)")
    message = CHANNEL._compose(made)
    head, _, _ = message.partition(b"\r\n\r\n")
    assert b"\r\nBcc:" not in head
    assert {name.partition(b":")[0] for name in head.split(b"\r\n") if not name.startswith((b" ", b"\t"))} == {
        *(b"Subject", b"From", b"To", b"Date", b"Message-ID", b"Auto-Submitted", b"Tocsin-Delivery"),
        *(b"In-Reply-To", b"References", b"Tocsin-Incident", b"Importance"),
        *(b"Content-Type", b"Content-Transfer-Encoding", b"MIME-Version"),
    }
    parsed = message_from_bytes(message, policy=policy.default)
    assert " ".join(parsed["Subject"].split()) == " ".join(line.split())
    assert parsed.get_content().split() == body(made).split()
    assert max(map(len, message.split(b"\r\n"))) <= 998
    assert b"\n" not in message.replace(b"\r\n", b"")
    assert parsed["From"].addresses[0].addr_spec == "tocsin@example.org"

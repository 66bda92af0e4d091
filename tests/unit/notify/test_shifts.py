"""What users are told of their time on call, in English and German."""

import dataclasses
import string
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from tocsin.notify.v1 import shift_pb2 as pb
from tocsin.notify.v1.notification_pb2 import (
    NOTIFICATION_TYPE_ACKNOWLEDGMENT,
    NOTIFICATION_TYPE_MESSAGE,
    NotificationJob,
)
from tocsin.type.v1.severity_pb2 import SEVERITY_CRITICAL, SEVERITY_WARNING
from tocsin_kit.errors import TocsinError
from tocsin_notify.app.pages.jobs import read_job
from tocsin_notify.app.pages.targets import Attempt, PageContent, make_delivery
from tocsin_notify.channels.text import body, subject
from tocsin_notify.domain.page import Channel, Kind
from tocsin_notify.domain.template import LANGUAGES, Part
from tocsin_notify.store.cipher import Cipher
from tocsin_notify.store.pages.people import StoredTarget
from tocsin_notify.templates.samples import delivery_of, sample_shift_job
from tocsin_notify.templates.variables import values_of
from tocsin_notify.texts.own_messages import in_language
from tocsin_notify.texts.shift_words import SHIFT_WORDS, ShiftWords

NOW = datetime(2026, 1, 7, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)
NOTICES = [value for value in pb.ShiftNotice.values() if value]


def stretch(begins: float, ends: float | None = None, **fields: Any) -> pb.ShiftStretch:
    """In hours from now."""
    made = pb.ShiftStretch(schedule="Web", **fields)
    made.start_time.FromDatetime(NOW + begins * HOUR)
    if ends is not None:
        made.end_time.FromDatetime(NOW + ends * HOUR)
    return made


def read(
    notice: pb.ShiftNotice.ValueType, *stretches: pb.ShiftStretch, language: str = "en", **fields: Any
) -> list[str]:
    """Title and text, as lines."""
    job = NotificationJob()
    job.shift.CopyFrom(pb.ShiftContent(notice=notice, time_zone="Europe/Berlin", schedules=["Web"], **fields))
    job.shift.make_time.FromDatetime(NOW)
    job.shift.stretches.extend(stretches)
    told = in_language(job, language)
    return [told.title, *told.text.splitlines()]


def people(*names: str, more: int = 0) -> pb.ShiftPeople:
    return pb.ShiftPeople(names=names, more=more)


def values(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(ShiftWords)])
def test_each_text_is_there_and_names_the_same_values_in_every_language(field: str) -> None:
    assert tuple(SHIFT_WORDS) == LANGUAGES
    english = getattr(SHIFT_WORDS["en"], field)
    for words in SHIFT_WORDS.values():
        said = getattr(words, field)
        if isinstance(english, dict):
            assert said.keys() == english.keys()
            continue
        for form, of_english in zip(
            *([each] if isinstance(each, str) else each for each in (said, english)), strict=True
        ):
            assert form.strip()
            assert values(form) == values(of_english)
        assert said != english or words is SHIFT_WORDS["en"] or field == "because"


@pytest.mark.parametrize("notice", NOTICES, ids=pb.ShiftNotice.Name)
def test_each_notice_reads_otherwise_in_german_and_says_by_whom_it_is_sent(notice: pb.ShiftNotice.ValueType) -> None:
    english, german = (delivery_of(Kind.MESSAGE, sample_shift_job(notice), language=each) for each in LANGUAGES)
    assert english.job.title != german.job.title
    assert english.job.text != german.job.text
    assert "Sent by your shift notices with Tocsin." in body(english)
    assert "Gesendet von Ihren Schichtmeldungen mit Tocsin." in body(german)
    for word in ("Your", "your", "Mon", "Times", "declined"):
        assert word not in german.job.title + german.job.text


def test_a_shift_that_is_to_begin() -> None:
    shift = stretch(1, 25, hands_over=people("Ben"), beside=people("Carla", "Dora", more=2))
    assert read(pb.SHIFT_NOTICE_BEFORE, shift) == [
        "Your shift begins Wed 7 Jan 10:00, in 1 hour",
        "Web: Wed 7 Jan 10:00 to Thu 8 Jan 10:00; you take over from Ben; with Carla, Dora and 2 more",
        "Times are those of Europe/Berlin.",
    ]
    assert read(pb.SHIFT_NOTICE_BEFORE, shift, language="de") == [
        "Ihre Schicht beginnt Mi 7. Jan 10:00, in 1 Stunde",
        "Web: Mi 7. Jan 10:00 bis Do 8. Jan 10:00; Sie übernehmen von Ben; mit Carla, Dora und noch 2",
        "Alle Zeiten sind die von Europe/Berlin.",
    ]
    assert read(pb.SHIFT_NOTICE_BEFORE, stretch(-0.2))[0] == "Your shift began Wed 7 Jan 08:48, 12 minutes ago"
    assert read(pb.SHIFT_NOTICE_BEFORE, stretch(26), language="de")[:2] == [
        "Ihre Schicht beginnt Do 8. Jan 11:00, in 1 Tag 2 Stunden",
        "Web: ab Do 8. Jan 11:00, länger als eine Woche",
    ]
    assert read(pb.SHIFT_NOTICE_BEFORE, stretch(0))[0].endswith("less than a minute ago")


def test_the_hand_over_with_its_open_incidents() -> None:
    first, second = (
        pb.ShiftIncident(title="db down", severity=SEVERITY_CRITICAL, state="triggered"),
        pb.ShiftIncident(title="slow", severity=SEVERITY_WARNING),
    )
    for each in (first, second):
        each.create_time.FromDatetime(NOW - HOUR)
    second.state = "of_a_newer_version"
    many: dict[str, Any] = {"incidents": [first, second], "more_incidents": 3}
    german = read(pb.SHIFT_NOTICE_HAND_OVER, stretch(0, 1), language="de", **many)
    assert german[0] == "Sie haben jetzt Bereitschaft: Web"
    assert german[3:] == [
        "",
        "5 Vorfälle sind offen:",
        "- db down (kritisch, offen, seit Mi 7. Jan 08:00)",
        "- slow (Warnung, of_a_newer_version, seit Mi 7. Jan 08:00)",
        "… und 3 weitere",
    ]
    english = read(pb.SHIFT_NOTICE_HAND_OVER, stretch(0, 1), incidents_incomplete=True, more_schedules=2, **many)
    assert english[0] == "You are on call now: Web and 2 more"
    assert (english[4], english[-1]) == ("At least 5 incidents open:", "… and at least 3 more")
    assert read(pb.SHIFT_NOTICE_HAND_OVER, stretch(0, 1))[-1] == "No incident is open."
    unseen = read(pb.SHIFT_NOTICE_HAND_OVER, stretch(0, 1), incidents_incomplete=True, language="de")
    assert unseen[-1] == "Es sind mehr Vorfälle offen, als angesehen wurden."


def test_the_week_ahead() -> None:
    under_way = pb.ShiftStretch(schedule="Web")
    under_way.end_time.FromDatetime(NOW + HOUR)
    week = read(pb.SHIFT_NOTICE_WEEK_AHEAD, under_way, stretch(30, 40), more_stretches=5, language="de")
    assert week[:2] == ["Die kommende Woche: 7 Schichten", "Web: jetzt bis Mi 7. Jan 10:00"]
    assert week[3] == "… und 5 weitere"
    assert read(pb.SHIFT_NOTICE_WEEK_AHEAD) == [
        "The coming week: you are not on call",
        "No shift of yours begins by Wed 14 Jan 09:00.",
    ]


def test_a_change_says_what_came_and_what_went() -> None:
    gained = stretch(1, 2, cause="override")
    lost = stretch(3, 4, cause="swap", loss=pb.ShiftLoss(people=people("Ben"), absent=True))
    nobody = stretch(5, 6, cause="of_a_newer_version", loss=pb.ShiftLoss())
    deleted = stretch(7, 8, loss=pb.ShiftLoss(deleted=True))
    assert read(pb.SHIFT_NOTICE_CHANGED, gained, lost, nobody, deleted)[:5] == [
        "Your shifts have changed: Web",
        "Now yours: Web, Wed 7 Jan 10:00 to Wed 7 Jan 11:00 (an override)",
        "No longer yours: Web, Wed 7 Jan 12:00 to Wed 7 Jan 13:00; you are away, and on call is Ben (a swap)",
        "No longer yours: Web, Wed 7 Jan 14:00 to Wed 7 Jan 15:00; nobody is on call",
        "No longer yours: Web, Wed 7 Jan 16:00 to Wed 7 Jan 17:00; the schedule is deleted",
    ]
    german = read(pb.SHIFT_NOTICE_CHANGED, gained, lost, language="de")
    assert german[1] == "Jetzt Ihre: Web, Mi 7. Jan 10:00 bis Mi 7. Jan 11:00 (durch einen Override)"
    assert german[2].endswith("; Sie sind abwesend, und Bereitschaft hat Ben (durch einen Tausch)")


def test_an_offer_and_its_answer() -> None:
    ana: dict[str, Any] = {"people": people("Ana")}
    offer = read(
        pb.SHIFT_NOTICE_SWAP_OFFERED,
        stretch(1, 2),
        reason="a wedding",
        swap="swaps/1",
        in_return=stretch(25, 26),
        **ana,
    )
    assert offer == [
        "Ana offers you time on call: Web",
        "Wed 7 Jan 10:00 to Wed 7 Jan 11:00",
        "In return for your time on call: Thu 8 Jan 10:00 to Thu 8 Jan 11:00",
        "Reason: a wedding",
        "Accept or decline it as swaps/1.",
        "Times are those of Europe/Berlin.",
    ]
    assert read(pb.SHIFT_NOTICE_SWAP_ACCEPTED, stretch(1, 2), **ana)[0] == "Ana takes your time on call: Web"
    declined = read(pb.SHIFT_NOTICE_SWAP_DECLINED, stretch(1, 2), language="de", **ana)
    assert declined[0] == "Niemand übernimmt Ihre Bereitschaft; abgelehnt von Ana: Web"


def test_a_zone_that_only_escalation_knows_is_told_in_utc() -> None:
    job = sample_shift_job(pb.SHIFT_NOTICE_BEFORE)
    job.shift.time_zone = "Mars/Olympus"
    assert in_language(job, "en").text.endswith("Times are those of UTC.")


def test_a_template_can_tell_the_notices_apart_and_walk_through_the_shifts() -> None:
    told = values_of(delivery_of(Kind.MESSAGE, sample_shift_job(pb.SHIFT_NOTICE_HAND_OVER), language="de"), Part.TEXT)
    assert told["notice"] == "hand_over"
    assert told["shifts"] == [
        {
            "schedule": "Web",
            "start": "Do 1. Jan 09:00",
            "end": "Do 8. Jan 09:00",
            "line": "Web: Do 1. Jan 09:00 bis Do 8. Jan 09:00; Sie übernehmen von Ben",
        }
    ]
    reminder = NotificationJob()
    reminder.reminder.title = "db down"
    assert values_of(delivery_of(Kind.MESSAGE, reminder), Part.TEXT)["notice"] == "reminder"
    written = values_of(delivery_of(Kind.MESSAGE, NotificationJob(text="Hello")), Part.TEXT)
    assert (written["notice"], written["shifts"]) == ("", [])


def job_of(notice: pb.ShiftNotice.ValueType) -> NotificationJob:
    job = sample_shift_job(notice)
    job.type, job.org_id, job.title, job.text = NOTIFICATION_TYPE_MESSAGE, "acme", "", ""
    return job


def test_lists_and_programs_read_it_in_english() -> None:
    page = read_job(job_of(pb.SHIFT_NOTICE_HAND_OVER))
    assert page.job.title == "You are on call now: Web"
    assert page.job.text.startswith("Web: Thu 1 Jan 09:00 to ")
    assert subject(delivery_of(Kind.MESSAGE, page.job)) == "[message] You are on call now: Web"


def test_what_cannot_be_told_is_refused_when_it_comes() -> None:
    beyond, none, acknowledged = (job_of(pb.SHIFT_NOTICE_BEFORE) for _ in range(3))
    beyond.shift.stretches[0].end_time.seconds = 2**60
    del none.shift.stretches[:]
    acknowledged.type = NOTIFICATION_TYPE_ACKNOWLEDGMENT
    for job in (beyond, none, acknowledged):
        with pytest.raises(TocsinError, match="shift"):
            read_job(job)


@pytest.mark.parametrize(("channel", "language"), [(Channel.EMAIL, "de"), (Channel.WEBHOOK, "en")])
def test_programs_are_told_the_same_in_any_language_of_their_user(channel: Channel, language: str) -> None:
    job = job_of(pb.SHIFT_NOTICE_HAND_OVER)
    made = make_delivery(
        Cipher([b"key"]),
        PageContent("acme", UUID(int=2), Kind.MESSAGE, job),
        Attempt(UUID(int=1), 1, 1, NOW),
        UUID(int=3),
        StoredTarget(channel, "https://example.com", None, ""),
        "de",
    )
    assert made.job.title == in_language(job, language).title

"""Digests without a server: when they are due, over which time they tell, and what they say."""

import string
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from html.parser import HTMLParser
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin.notify.v1 import digest_pb2 as pb_digest
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin_kit.errors import TocsinError
from tocsin_notify.app.pages.jobs import read_job, read_kept
from tocsin_notify.channels.brief import brief
from tocsin_notify.channels.digests import content_of
from tocsin_notify.channels.sms_text import sms_text
from tocsin_notify.channels.text import body, subject
from tocsin_notify.domain import digest_content, digest_html
from tocsin_notify.domain.digest import Frequency, Rhythm, page_id, why_not_now
from tocsin_notify.domain.digest_content import Content, Noise, Shift
from tocsin_notify.domain.page import Kind
from tocsin_notify.domain.template import LANGUAGES
from tocsin_notify.domain.wall_time import as_wall_time
from tocsin_notify.texts.digest_words import DIGEST_WORDS, digest_words_of

from tests.unit.notify.digest_examples import DAY, EMPTY, END, FULL
from tests.unit.notify.test_text import CHANNEL, delivery

HOUR = timedelta(hours=1)
EN = digest_words_of("en")
DE = digest_words_of("de")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def daily(hour: int, zone: str = "Europe/Berlin") -> Rhythm:
    return Rhythm(Frequency.DAILY, hour, 0, zone)


@pytest.mark.parametrize(
    ("rhythm", "moment", "due", "length"),
    [
        (daily(8), "2026-03-28T12:00", "2026-03-29T06:00", 23),  # the night of spring
        (daily(8), "2026-10-24T12:00", "2026-10-25T07:00", 25),  # the night of autumn
        (daily(2), "2026-03-28T12:00", "2026-03-29T01:00", 24),  # skipped: read with the offset before the gap
        (daily(2), "2026-10-24T12:00", "2026-10-25T00:00", 24),  # twice: the first counts
        (daily(3), "2026-10-25T00:30", "2026-10-25T02:00", 25),
        (
            daily(23, "America/Nuuk"),
            "2026-03-28T12:00",
            "2026-03-29T01:00",
            24,
        ),  # skipped: the clock shows tomorrow then
        (daily(8, "Asia/Kathmandu"), "2026-11-27T00:00", "2026-11-27T02:15", 24),
        (Rhythm(Frequency.WEEKLY, 8, 1, "Europe/Berlin"), "2026-03-24T12:00", "2026-03-30T06:00", 7 * 24 - 1),
        (Rhythm(Frequency.WEEKLY, 8, 7, "Europe/Berlin"), "2026-11-27T12:00", "2026-11-29T07:00", 7 * 24),
    ],
)
def test_it_is_due_at_the_hour_of_the_wall_and_tells_of_the_time_since_the_one_before(
    rhythm: Rhythm, moment: str, due: str, length: int
) -> None:
    assert rhythm.next_after(at(moment)) == at(due)
    assert at(due) - rhythm.start_of(at(due)) == length * HOUR


@given(
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Nuuk", "Asia/Beirut", "UTC"]),
    st.integers(0, 23),
    st.integers(0, 7),
    st.integers(0, 4 * 366 * 24 * 60),
)
def test_one_digest_begins_where_the_one_before_it_ends(zone: str, hour: int, weekday: int, minutes: int) -> None:
    moment = at("2025-01-01T00:00") + timedelta(minutes=minutes)
    frequency = Frequency.WEEKLY if weekday else Frequency.DAILY
    rhythm = Rhythm(frequency, hour, weekday, zone)
    first = rhythm.next_after(moment)
    second = rhythm.next_after(first)
    assert rhythm.start_of(second) == first
    assert not second.minute % 15, "figures are kept for quarters of an hour"
    if weekday and as_wall_time(second, zone).hour == hour:
        assert as_wall_time(second, zone).isoweekday() == weekday


def test_of_those_that_were_missed_the_latest_is_made_unless_it_is_too_late() -> None:
    rhythm = daily(8)
    planned, following = rhythm.latest_until(at("2026-11-20T07:00"), at("2026-11-27T09:30"))
    assert (planned, following) == (at("2026-11-27T07:00"), at("2026-11-28T07:00"))
    six = timedelta(hours=6)
    assert why_not_now(planned, planned + six, six, "Europe/Berlin") == ""
    assert why_not_now(planned, planned + six + HOUR, six, "Europe/Berlin") == (
        "left out: it was due at 2026-11-27 08:00 and could not be made for 7 hours"
    )


def test_its_page_has_the_same_id_in_any_process_and_another_one_for_any_other_digest() -> None:
    names = ("acme", "users/ana", Frequency.DAILY, END)
    assert page_id(*names) == page_id(*names)
    others = [
        page_id("other", "users/ana", Frequency.DAILY, END),
        page_id("acme", "users/ben", Frequency.DAILY, END),
        page_id("acme", "users/ana", Frequency.WEEKLY, END),
        page_id("acme", "users/ana", Frequency.DAILY, END + DAY),
    ]
    assert len({page_id(*names), *others}) == 5


def test_the_text_says_everything_in_the_zone_of_its_user() -> None:
    assert digest_content.subject(FULL, EN) == "[digest] Fri 27 Nov: 14 opened, 12 resolved, 3 still open"
    assert (
        digest_content.text(FULL, EN)
        == """\
Thu 26 Nov 08:00 to Fri 27 Nov 08:00 (Europe/Berlin)

    14  opened
    12  resolved
     3  still open
     4  pages for you

Of the open incidents, 1 is not acknowledged.
Incidents were acknowledged after 4 min on average.
You acknowledged twice.

Still open, the oldest first
- Disk full on db-1.frankfurt.example.com
  critical, since Wed 18 Nov 08:00, acknowledged
- Certificate of <api> ends & nobody renews it
  warning, since Wed 25 Nov 08:00, not acknowledged

Most alerts
- KubePodCrashLooping checkout-7c9f8d6b5f-x2x8q in namespace production-payments
  431 alerts in 9 incidents
- Latency of checkout
  1 alert in 1 incident

You are on call
- Web, first level
  now to Sat 28 Nov 08:00
- Databases
  Tue 1 Dec 08:00 to Tue 8 Dec 08:00

You get this daily digest because you asked for it. DeleteDigest ends it.
"""
    )


def figures() -> pb_digest.DigestContent:
    """Those of one incident."""
    digest = pb_digest.DigestContent(
        frequency=pb_digest.DIGEST_FREQUENCY_WEEKLY,
        time_zone="Europe/Berlin",
        figures=pb_digest.DigestFigures(opened=1),
    )
    digest.start_time.FromDatetime(END - 7 * DAY)
    digest.end_time.FromDatetime(END)
    return digest


def values(text: str) -> set[str]:
    """What stands in braces."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_a_user_who_reads_german_gets_it_in_german() -> None:
    assert digest_content.subject(FULL, DE) == "[Überblick] Fr 27. Nov: 14 neu, 12 behoben, 3 noch offen"
    said = digest_content.text(FULL, DE)
    assert said.startswith("Do 26. Nov 08:00 bis Fr 27. Nov 08:00 (Europe/Berlin)\n\n    14  neu\n")
    for line in (
        "Von den offenen Vorfällen ist 1 nicht übernommen.",
        "  kritisch, seit Mi 18. Nov 08:00, übernommen",
        "  431 Meldungen in 9 Vorfällen",
        "  1 Meldung in 1 Vorfall",
        "  jetzt bis Sa 28. Nov 08:00",
        "Sie haben zweimal übernommen.",
    ):
        assert line in said.splitlines()
    page = digest_html.html(FULL, DE)
    assert '<html lang="de">' in page
    assert "Ihr täglicher Überblick" in page
    assert digest_content.brief(FULL, DE).startswith(
        "Do 26. Nov 08:00 bis Fr 27. Nov 08:00 (Europe/Berlin): 14 neu, 12"
    )
    assert digest_content.brief(EMPTY, DE).startswith("Nichts zu berichten:")
    german = replace(delivery(Kind.DIGEST, digest=figures()), language="de")
    assert subject(german).startswith("[Überblick] ")
    assert brief(german) in sms_text(german, 10)


def test_every_language_says_all_of_it_with_the_same_values() -> None:
    def forms(said: object) -> tuple[str, ...]:
        return (said,) if isinstance(said, str) else tuple(said)  # type: ignore[arg-type]

    assert tuple(DIGEST_WORDS) == LANGUAGES
    for field in fields(EN):
        english, german = (forms(getattr(words, field.name)) for words in (EN, DE))
        assert len(english) == len(german)
        assert all(map(str.strip, german))
        assert [values(each) for each in english] == [values(each) for each in german]


def test_the_short_form_is_one_paragraph() -> None:
    assert digest_content.brief(FULL, EN) == (
        "Thu 26 Nov 08:00 to Fri 27 Nov 08:00 (Europe/Berlin): 14 opened, 12 resolved, 3 still open. 4 pages for you. "
        "Of the open incidents, 1 is not acknowledged. Incidents were acknowledged after 4 min on average. You acknowledged "
        "twice. Most alerts: KubePodCrashLooping checkout-7c9f8d6b5f-x2x8q in… (431). You are on call: Web, first level, now to "
        "Sat 28 Nov 08:00."
    )


def test_without_anything_to_tell_it_is_one_line() -> None:
    assert not EMPTY.worth_telling
    assert digest_content.subject(EMPTY, EN) == "[digest] Fri 27 Nov: nothing to tell"
    assert digest_content.text(EMPTY, EN).splitlines()[2:] == [
        "Nothing to tell: no incident was opened, resolved or is open, no page came for you, and you are not on call until "
        "tomorrow's digest."
    ]


@pytest.mark.parametrize(
    "content",
    [
        replace(EMPTY, opened=1),
        replace(EMPTY, resolved=1),
        replace(EMPTY, open=1),
        replace(EMPTY, pages=1),
        replace(EMPTY, acknowledged=1),
    ],
)
def test_one_of_anything_is_worth_telling(content: Content) -> None:
    assert content.worth_telling


@pytest.mark.parametrize(("begins", "worth"), [(timedelta(), True), (DAY - HOUR, True), (DAY, False)])
def test_a_shift_is_worth_telling_if_it_begins_before_the_next_digest(begins: timedelta, worth: bool) -> None:
    assert replace(EMPTY, shifts=(Shift("Web", END + begins, END + 9 * DAY),)).worth_telling is worth


class Words(HTMLParser):
    """The text of a document, and the names of its elements."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.elements: list[str] = []
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_html_says_what_the_text_says_and_nothing_of_a_title_is_markup() -> None:
    hostile = "</div><script>alert(1)</script>\r\n\u202eX"
    content = replace(FULL, noisiest=(Noise(hostile, 1, 1),))
    read = Words(digest_html.html(content, EN))
    assert "script" not in read.elements
    assert not {"img", "link", "a", "iframe"} & set(read.elements), "nothing is loaded from anywhere"
    said = "\n".join(read.words)
    for line in digest_content.text(content, EN).splitlines():
        words = line.strip().lstrip("- ").split("  ")
        assert all(word in said for word in words), line
    assert "</div><script>alert(1)</script> X" in said


def test_the_html_of_an_empty_one_is_its_line() -> None:
    assert digest_content.text(EMPTY, EN).splitlines()[2] in Words(digest_html.html(EMPTY, EN)).words


@given(st.text(max_size=300))
def test_both_parts_of_its_mail_are_read_as_they_were_written(title: str) -> None:
    title = title.encode("utf-8", "replace").decode()
    digest = figures()
    digest.figures.noisiest.add(title=title, incidents=1, alerts=1)
    made = delivery(Kind.DIGEST, title="[digest] x", digest=digest)
    content = CHANNEL._compose(made)
    assert max(map(len, content.split(b"\r\n"))) <= 998
    assert b"\n" not in content.replace(b"\r\n", b"")
    parts = list(message_from_bytes(content, policy=policy.default).iter_parts())
    plain, html = [part.get_content() for part in parts]
    assert [part.get_content_type() for part in parts] == ["text/plain", "text/html"]
    assert plain.split() == body(made).split()
    assert html.split() == digest_html.html(content_of(digest), EN).split()


def test_no_other_service_may_hand_over_a_digest() -> None:
    job = pb.NotificationJob(
        type=pb.NOTIFICATION_TYPE_DIGEST, page=f"pages/{UUID(int=1)}", org_id="acme", user="users/ana"
    )
    with pytest.raises(TocsinError, match="another service"):
        read_job(job)
    assert read_kept(job).page.kind is Kind.DIGEST, "its dead letter can be redriven"

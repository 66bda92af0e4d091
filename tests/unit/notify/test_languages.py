"""The default texts: every language says all of it, with the same values, and within the same bounds."""

import dataclasses
import re
import string
from datetime import UTC, datetime
from uuid import UUID

import pytest
from tocsin.escalation.v1.incident_pb2 import INCIDENT_STATE_EXHAUSTED, INCIDENT_STATE_TRIGGERED, Incident
from tocsin.notify.v1.notification_pb2 import NotificationJob, NotificationType
from tocsin_notify.app.answers.answer import View
from tocsin_notify.app.answers.presses import Answer, Taken
from tocsin_notify.app.contacts.owner_notices import channel_in
from tocsin_notify.channels.brief import brief
from tocsin_notify.channels.registry import TYPES
from tocsin_notify.channels.sms_text import beyond_gsm, segments, sms_text
from tocsin_notify.channels.text import SUBJECT_LENGTH, body, payload, subject
from tocsin_notify.channels.voice_text import spoken
from tocsin_notify.domain.action import Action, Person
from tocsin_notify.domain.answer_link import AnswerLink
from tocsin_notify.domain.page import Channel, Kind
from tocsin_notify.domain.template import LANGUAGES
from tocsin_notify.http.answer_page import answer_page
from tocsin_notify.store.answers.link_uses import Use
from tocsin_notify.templates.samples import delivery_of, sample_job
from tocsin_notify.texts.catalogue import CATALOGUE, words_of
from tocsin_notify.texts.happened import happened
from tocsin_notify.texts.own_messages import in_language
from tocsin_notify.texts.replies import REPLY_WORDS, ReplyWords
from tocsin_notify.texts.words import Words

LINK = "https://tocsin.example.com/p/AbCdEfGhIjKlMnOpQrStUvWxYzAbCdEfGhIjKlMnOpQrStUvWxYzAbCdEfGhIjKlMnOpQrSt"
KINDS = [kind for kind in Kind if kind is not Kind.DIGEST]
"""Digests have figures and a layout of their own."""


def values(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_text_is_there_and_names_the_same_values_in_every_language(language: str) -> None:
    for field in dataclasses.fields(Words):
        said, english = (getattr(CATALOGUE[each], field.name) for each in (language, "en"))
        assert bool(said.strip()) or field.name == "voice_locale", field.name
        assert values(said) == values(english), field.name


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_reply_is_there_and_names_the_same_values_in_every_language(language: str) -> None:
    for field in dataclasses.fields(ReplyWords):
        said, english = (getattr(REPLY_WORDS[each], field.name) for each in (language, "en"))
        assert said.strip(), field.name
        assert values(said) == values(english), field.name
        assert language == "en" or said != english, field.name
        if field.name.startswith("sms_"):
            assert beyond_gsm(said) == "", f"no letter makes a reply cost more: {field.name}"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("answer", Answer)
def test_a_person_who_presses_is_told_the_result(language: str, answer: Answer) -> None:
    costly = {action: beyond_gsm(Taken(answer, language).said(action)) for action in Action}
    assert costly == dict.fromkeys(Action, "")


def test_the_languages_are_those_that_can_be_chosen() -> None:
    assert tuple(CATALOGUE) == LANGUAGES
    assert words_of("of-a-newer-version") is words_of(LANGUAGES[0])


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_each_message_fits_in_every_language(language: str, kind: Kind) -> None:
    job = sample_job(kind)
    job.actor = "users/ben"
    short = delivery_of(kind, job, link=LINK, language=language)
    text = sms_text(short, 3, replies=True)
    assert (beyond_gsm(text), segments(text) <= 2) == ("", True), "no letter makes it cost more"
    job.title = "x" * 4096
    long = delivery_of(kind, job, link=LINK, language=language)
    assert segments(sms_text(long, 2, replies=True)) <= 2
    assert len(spoken(long, "https://tocsin.example.com/v1/twilio/key?" + "x" * 200)) < 4000
    assert 0 < len(subject(long)) <= SUBJECT_LENGTH
    assert brief(long)


def test_a_page_in_german() -> None:
    made = delivery_of(Kind.NEW_INCIDENT, sample_job(Kind.NEW_INCIDENT), link="https://t.example/p/x", language="de")
    assert subject(made) == "[kritisch] Disk full on db-1 (Stufe 1)"
    assert body(made).startswith(
        "Disk full on db-1\n\nEin neuer Vorfall: Sie werden auf Stufe 1 alarmiert.\n\nAntworten: https://t.example/p/x\n\n"
    )
    assert "\nQuelle:     db-1\n" in body(made)
    assert "\nEskalation: policies/database\nStufe:      1\n" in body(made)
    assert sms_text(made, 2) == "KRITISCH: Disk full on db-1 (Stufe 1) https://t.example/p/x"
    assert brief(made) == "Sie werden auf Stufe 1 alarmiert. Quelle: db-1."
    call = spoken(made, "https://t.example/key")
    assert '<Say language="de-DE">Tocsin: Vorfall, kritisch: Disk full on db-1. Stufe 1. Drücken Sie 1' in call


@pytest.mark.parametrize(
    ("language", "text", "push", "call"),
    [
        (
            "en",
            "(level 1) (ben asks for you)",
            "ben asks for you. You are paged at level 1.",
            "Level 1. ben asks for you. Press",
        ),
        (
            "de",
            "(Stufe 1) (ben bittet um Hilfe)",
            "ben bittet Sie um Hilfe. Sie werden auf Stufe 1 alarmiert.",
            "Stufe 1. ben bittet Sie um Hilfe. Drücken",
        ),
    ],
)
def test_a_person_who_is_woken_because_another_asks_hears_who(language: str, text: str, push: str, call: str) -> None:
    job = sample_job(Kind.ESCALATION)
    job.actor, job.level = "users/ben", 1
    made = delivery_of(Kind.ESCALATION, job, link=LINK, language=language)
    assert text in sms_text(made, 3)
    assert brief(made).startswith(push)
    assert call in spoken(made, "https://t.example/key")
    job.actor = "users/" + "b" * 63
    assert LINK in sms_text(made, 2), "a long name leaves room for the link"


@pytest.mark.parametrize("channel", Channel)
def test_a_change_of_how_a_user_is_reached_is_told_in_one_language(channel: Channel) -> None:
    english, german = (channel_in(words_of(language), channel) for language in ("en", "de"))
    assert english == TYPES[channel].word
    assert (german == english) == (channel not in ("email", "sms", "voice", "web_push", "console")), (
        "a product, or a word"
    )


def test_a_mail_in_german_names_alerts_as_a_digest_does_and_no_repeat_that_is_none() -> None:
    job = sample_job(Kind.NEW_INCIDENT)
    job.repeat = 0
    first = body(delivery_of(Kind.NEW_INCIDENT, job, language="de"))
    assert ("Meldungen:" in first, "Wiederholung" in first) == (True, False)
    job.repeat = 2
    assert "(Wiederholung 2)" in body(delivery_of(Kind.NEW_INCIDENT, job, language="de"))


def test_the_answer_page_leads_to_the_runbook() -> None:
    """Who is woken by a text message or a push has only this page; what an alert links to may lead nowhere else."""
    job = sample_job(Kind.NEW_INCIDENT)
    now = datetime(2026, 11, 29, 3, 12, tzinfo=UTC)
    link = AnswerLink("acme", UUID(int=1), int(now.timestamp()) + 60)
    incident = Incident(state=INCIDENT_STATE_TRIGGERED, title="Disk full", level=1)
    for text, href in (
        ("Runbook <1>", 'https://wiki.example.com/disk?a=1&b="2'),
        ("", "http://graph.example.com"),
        ("evil", "javascript:alert(1)"),
        ("phone", "tel:+4911"),
    ):
        incident.links.add(text=text, href=href)
    person = Person("acme", "users/ana", job.incident)
    page = answer_page(View(link, person, job, now, [], incident))
    assert (
        '<a href="https://wiki.example.com/disk?a=1&amp;b=&quot;2" target="_blank" rel="noopener noreferrer">Runbook &lt;1&gt;</a>'
        in page
    )
    assert ">http://graph.example.com</a>" in page
    assert ("javascript" in page, "tel:" in page) == (False, False)
    del job.ordered_links[:]
    job.ordered_links.add(text="Runbook", href="https://wiki.example.com/disk")
    assert "https://wiki.example.com/disk" in answer_page(View(link, person, job, now, [])), (
        "also while escalation is away"
    )


@pytest.mark.parametrize(
    ("type", "said"), [("NOTIFICATION_TYPE_ESCALATION", True), ("NOTIFICATION_TYPE_ACKNOWLEDGMENT", False)]
)
def test_the_answer_page_says_who_asks_for_its_user_and_not_who_acknowledged(type: str, said: bool) -> None:
    job = sample_job(Kind.ESCALATION)
    job.type, job.actor = NotificationType.Value(type), "users/ben"
    now = datetime(2026, 11, 29, 3, 12, tzinfo=UTC)
    link = AnswerLink("acme", UUID(int=1), int(now.timestamp()) + 60)
    view = View(link, Person("acme", "users/ana", job.incident), job, now, [], words=words_of("de"))
    assert ("<p>ben bittet Sie um Hilfe.</p>" in answer_page(view)) is said


def test_links_that_are_not_shown_hide_no_runbook_and_a_long_address_is_one_short_line() -> None:
    job = sample_job(Kind.NEW_INCIDENT)
    now = datetime(2026, 11, 29, 3, 12, tzinfo=UTC)
    incident = Incident(state=INCIDENT_STATE_TRIGGERED, title="Disk full", level=1)
    for number in range(5):
        incident.links.add(text="call", href=f"tel:+49{number}")
    incident.links.add(text="Runbook\n" + "of the disk " * 100, href="https://wiki.example.com/disk")
    address = "https://graph.example.com/" + "q" * 2000
    for _ in range(6):
        incident.links.add(href=address)
    view = View(
        AnswerLink("acme", UUID(int=1), int(now.timestamp()) + 60),
        Person("acme", "users/ana", job.incident),
        job,
        now,
        [],
        incident,
    )
    shown = re.findall(r'<a href="([^"]*)"[^>]*>([^<]*)</a>', answer_page(view))
    assert [href for href, _ in shown] == ["https://wiki.example.com/disk"] + [address] * 4
    assert shown[0][1].startswith("Runbook of the disk")
    assert all(len(text) <= 80 and "\n" not in text for _, text in shown)


def test_the_answer_page_in_german() -> None:
    job = sample_job(Kind.NEW_INCIDENT)
    now = datetime(2026, 11, 29, 3, 12, tzinfo=UTC)
    link = AnswerLink("acme", UUID(int=1), int(now.timestamp()) + 60)
    person = Person("acme", "users/ana", job.incident)
    uses = [Use(0, "note", now, done=True)]
    incident = Incident(state=INCIDENT_STATE_TRIGGERED, title="Disk full", level=2, severity=1)  # type: ignore[arg-type]
    page = answer_page(View(link, person, job, now, uses, incident, words=words_of("de")))
    assert '<html lang="de">' in page
    for text in (
        "Alarm für <strong>ana</strong>",
        '<span class="severity critical">kritisch</span>',
        "ana hat um 03:12 UTC am 29.11. eine Notiz hinzugefügt.",
        "Zurzeit kümmert sich niemand darum. Auf Stufe 2 alarmiert: niemand.",
    ):
        assert text in page
    incident.state = INCIDENT_STATE_EXHAUSTED
    page = answer_page(View(link, person, job, now, uses, incident, words=words_of("de")))
    assert "Zurzeit kümmert sich niemand darum, und es gibt keine weitere Stufe. Zuletzt alarmiert: niemand." in page


def test_programs_are_told_the_same_in_every_language() -> None:
    german, english = (
        payload(delivery_of(Kind.ESCALATION, sample_job(Kind.ESCALATION), language=language))
        for language in ("de", "en")
    )
    assert german == english


@pytest.mark.parametrize(
    ("language", "text", "title", "said"),
    [
        ("de", "", "Erinnerung: db down", "Der Vorfall ist offen."),
        ("de", "Call the vendor.", "Erinnerung: db down", "Call the vendor."),
        ("en", "", "Reminder: db down", "The incident is triggered."),
    ],
)
def test_a_reminder_is_written_in_the_language_of_its_user(language: str, text: str, title: str, said: str) -> None:
    job = NotificationJob(title="Reminder: db down", text=text or "The incident is triggered.")
    job.reminder.title = "db down"
    if not text:
        job.reminder.incident_state = "triggered"
    told = in_language(job, language)
    assert (told.title, told.text) == (title, said)
    job.reminder.incident_state = "of_a_newer_version"
    assert in_language(job, language).text == job.text


@pytest.mark.parametrize(
    ("reason", "english", "german"),
    [
        ("acknowledged by users/ana", "Acknowledged by ana.", "Übernommen von ana."),
        ("resolved by integrations/prom", "Resolved by integrations/prom.", "Behoben von integrations/prom."),
        ("snoozed by users/ana", "Snoozed by ana.", "Zurückgestellt von ana."),
        (
            "snoozed until 2026-11-22 04:46:42 UTC by users/ana",
            "Snoozed by ana until 04:46 UTC on 22 Nov.",
            "Zurückgestellt bis 04:46 UTC am 22.11. von ana.",
        ),
        (
            "snoozed until 2026-11-22 04:46:42 UTC by users/ana (by voice)",
            "Snoozed by ana (by call) until 04:46 UTC on 22 Nov.",
            "Zurückgestellt bis 04:46 UTC am 22.11. von ana (per Anruf).",
        ),
        (
            "snoozed by users/ana (by sms) until 2026-11-22 04:46:42 UTC",
            "Snoozed by ana (by text message).",
            "Zurückgestellt von ana (per SMS).",
        ),
        (
            "acknowledged by users/ana (by telegram)",
            "Acknowledged by ana (by telegram).",
            "Übernommen von ana (per telegram).",
        ),
        (
            "resolved by users/ana in answer to incidents/7, which is merged into this one",
            "Resolved by ana.",
            "Behoben von ana.",
        ),
        ("reassigned by users/ana", "Reassigned by ana.", "Anderen übergeben von ana."),
        ("passed on by users/ana", "Passed on by ana.", "Weitergegeben von ana."),
        ("begun again by users/ana", "Begun again by ana.", "Neu begonnen von ana."),
        (
            "merged into incidents/1 by users/ana",
            "Merged into incidents/1 by ana.",
            "Mit incidents/1 zusammengeführt von ana.",
        ),
        (
            "superseded: the severity was raised and the incident is paged anew",
            "The severity was raised: the incident is paged anew.",
            "Die Schwere wurde erhöht: Der Vorfall wird neu alarmiert.",
        ),
        ("every page in it was answered", "Every page in it was answered.", "Jeder Alarm darin ist beantwortet."),
        ("handed to users/ben", "Handed to ben.", "Handed to ben."),
    ],
)
def test_what_became_of_an_incident_is_said_in_every_language(reason: str, english: str, german: str) -> None:
    """Escalation tells it in words; those of a newer one are shown as they came."""
    assert happened(words_of("en"), reason) == english
    assert happened(words_of("de"), reason) == german


def test_the_end_of_a_snooze_is_told_as_the_clock_of_its_reader_shows_it() -> None:
    reason = "snoozed until 2026-11-22 22:46:42 UTC by users/ana"
    assert happened(words_of("en"), reason, "Asia/Kolkata") == "Snoozed by ana until 04:16 IST on 23 Nov."

"""Texts for people (subject and body), and the JSON of webhooks and the console.

The JSON is a contract with the receivers (WEBHOOKS.md): fields are only ever added.
"""

import re
from dataclasses import replace
from typing import Any, Final

from tocsin.notify.v1.notification_pb2 import URGENCY_HIGH, URGENCY_UNSPECIFIED, NotificationJob
from tocsin.type.v1.severity_pb2 import Severity

from tocsin_notify.channels.base import Delivery
from tocsin_notify.channels.digests import content_of, document
from tocsin_notify.domain import digest_content
from tocsin_notify.domain.page import Kind
from tocsin_notify.domain.template import LANGUAGES, Part
from tocsin_notify.texts.words import Words

SCHEMA_VERSION: Final = 2
SUBJECT_LENGTH: Final = 200
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\s]+")
_SEVERITY: Final = {
    Severity.SEVERITY_CRITICAL: "critical",
    Severity.SEVERITY_ERROR: "error",
    Severity.SEVERITY_WARNING: "warning",
    Severity.SEVERITY_INFO: "info",
}


def severity_word(severity: Severity.ValueType) -> str:
    """The word of the PagerDuty Events API. Unset means critical, as everywhere."""
    return _SEVERITY.get(severity, "critical")


def is_urgent(job: NotificationJob) -> bool:
    """Whether its people may be woken: as its policy says, else those of critical and error incidents may."""
    if job.urgency != URGENCY_UNSPECIFIED:
        return job.urgency == URGENCY_HIGH
    return severity_word(job.severity) in ("critical", "error")


def severity_in(words: Words, severity: Severity.ValueType) -> str:
    """The word that people read."""
    return str(getattr(words, severity_word(severity)))


def where_in(words: Words, job: NotificationJob) -> str:
    """Where a user is paged."""
    return words.at_level.format(level=job.level) if job.level else words.as_fallback


def subject(delivery: Delivery) -> str:
    """One line: line ends that a template or a sender put into it become blanks."""
    worded = delivery.worded(Part.SUBJECT)
    return one_line(worded, SUBJECT_LENGTH) if worded else default_subject(delivery)


def default_subject(delivery: Delivery) -> str:
    """`[critical] Disk full on db-1 (level 2)`, also when a sender put line breaks into the title."""
    job, words = delivery.job, delivery.words
    severity, title = severity_in(words, job.severity), one_line(job.title, SUBJECT_LENGTH - 30)
    match delivery.kind:
        case Kind.NEW_INCIDENT | Kind.ESCALATION:
            where = words.level.format(level=job.level) if job.level else words.fallback
            text = words.subject_page.format(severity=severity, title=title, where=where)
        case Kind.URGENCY_RAISED:
            text = words.subject_urgent.format(severity=severity, title=title)
        case Kind.ACKNOWLEDGMENT:
            text = words.subject_acknowledged.format(title=job.title)
        case Kind.RESOLUTION:
            text = words.subject_resolved.format(title=job.title)
        case Kind.TEST:
            text = words.subject_test
        case Kind.CONTACT_CHANGED:
            text = words.subject_contact_changed.format(actor=job.actor)
        case Kind.MESSAGE:
            text = words.subject_message.format(title=job.title or job.text)
        case Kind.BUNDLE:
            text = words.subject_bundle.format(severity=severity, title=job.title)
        case Kind.DIGEST:
            told = job.HasField("digest")
            text = digest_content.subject(content_of(job.digest), delivery.digest_words) if told else job.title
        case Kind.VERIFICATION:
            text = words.subject_code.format(code=delivery.code)
    return one_line(text, SUBJECT_LENGTH)


def body(delivery: Delivery) -> str:
    """Plain text. The link by which the person answers is always in it, and how to reply."""
    worded = delivery.worded(Part.TEXT)
    if not worded:
        return default_body(delivery)
    rest = replace(delivery, link="") if _holds(worded, delivery.link) else delivery
    return "\n".join([worded, *_answer(rest)]) + "\n"


def default_body(delivery: Delivery) -> str:
    """The important part first."""
    job, words = delivery.job, delivery.words
    match delivery.kind:
        case Kind.VERIFICATION:
            lines = [words.code.format(code=delivery.code), words.code_unasked]
        case Kind.TEST:
            lines = [words.test_for.format(user=job.user)]
        case Kind.CONTACT_CHANGED:
            change = words.contact_changed.format(actor=job.actor, change=job.title)
            lines = [change, "", words.contact_changed_alarm]
        case Kind.MESSAGE:
            about = [words.about.format(about=job.about)] if job.about else []
            lines = [job.text, *_answer(delivery), "", *about, words.sent_by.format(actor=job.actor)]
        case Kind.DIGEST:
            lines = [digest_content.text(content_of(job.digest), delivery.digest_words, delivery.link).rstrip()]
        case Kind.BUNDLE:
            lines = [job.title, "", words.bundle_why, *_answer(delivery), "", job.text]
        case Kind.ACKNOWLEDGMENT | Kind.RESOLUTION:
            done = words.acknowledged_by if delivery.kind is Kind.ACKNOWLEDGMENT else words.resolved_by
            lines = [job.title, "", done.format(actor=job.actor or words.its_source), *_about(delivery)]
        case Kind.NEW_INCIDENT | Kind.ESCALATION:
            why = words.why_new if delivery.kind is Kind.NEW_INCIDENT else words.why_unanswered
            if job.actor:
                why = words.why_asked.format(actor=job.actor)
            paged = words.paged.format(why=why, where=where_in(words, job))
            lines = [job.title, "", paged, *_answer(delivery), *_about(delivery)]
        case Kind.URGENCY_RAISED:
            why = words.urgent.format(severity=severity_in(words, job.severity))
            lines = [job.title, "", why, *_answer(delivery), *_about(delivery)]
    return "\n".join(lines) + "\n"


def payload(delivery: Delivery) -> dict[str, Any]:
    """The JSON document. Every kind has a value for every field, so that receivers need no case for a missing one."""
    job = delivery.job
    return {
        "version": SCHEMA_VERSION,
        "type": str(delivery.kind),
        "notification": f"notifications/{delivery.notification}",
        "page": job.page,
        "org": delivery.org_id,
        "user": job.user,
        "attempt": delivery.attempt,
        "time": delivery.start_time.isoformat(),
        "planned_time": job.planned_time.ToJsonString() if job.HasField("planned_time") else None,
        "subject": default_subject(_in_default_language(delivery)),
        "incident": {
            "name": job.incident,
            "title": job.title,
            "source": job.source,
            "severity": severity_word(job.severity),
            "alert_count": job.alert_count,
            "policy": job.policy,
            "links": [{"text": text, "href": href} for text, href in links_of(job)],
        }
        if job.incident and delivery.kind is not Kind.BUNDLE
        else None,
        "level": job.level,
        "repeat": job.repeat,
        "actor": job.actor or None,
        "code": delivery.code or None,
        "change": job.title if delivery.kind is Kind.CONTACT_CHANGED else None,
        "message": {"title": job.title, "text": job.text, "about": job.about or None}
        if delivery.kind is Kind.MESSAGE
        else None,
        "bundle": {"title": job.title, "text": job.text} if delivery.kind is Kind.BUNDLE else None,
        "digest": document(content_of(job.digest)) if delivery.kind is Kind.DIGEST else None,
        "answer_url": delivery.link or None,
    }


def _in_default_language(delivery: Delivery) -> Delivery:
    return delivery if delivery.language == LANGUAGES[0] else replace(delivery, language=LANGUAGES[0])


def _holds(text: str, link: str) -> bool:
    """Whether the link stands in the text by itself: with text attached to it, it would lead nowhere."""
    return not link or re.search(re.escape(link) + r"(?![\w/?#&=%-])", text) is not None


def _answer(delivery: Delivery) -> list[str]:
    link = [delivery.words.answer.format(link=delivery.link)] if delivery.link else []
    ways = [*link, *filter(None, [reply_hint(delivery)])]
    return ["", *ways] if ways else []


def reply_hint(delivery: Delivery) -> str:
    """How a mail is replied to; empty if it cannot be."""
    if not delivery.reply_to:
        return ""
    return delivery.words.mail_reply_all if delivery.kind is Kind.BUNDLE else delivery.words.mail_reply


def _about(delivery: Delivery) -> list[str]:
    job, words = delivery.job, delivery.words
    facts = [
        (words.fact_incident, job.incident),
        (words.fact_severity, severity_in(words, job.severity)),
        (words.fact_source, job.source),
        (words.fact_alerts, str(job.alert_count) if job.alert_count else ""),
        (words.fact_policy, job.policy),
        (words.fact_level, _level(delivery)),
    ]
    width = max(len(name) for name, _ in facts) + 2
    lines = ["", *(f"{name + ':':<{width}}{value}" for name, value in facts if value)]
    links = links_of(job)
    if links:
        lines += ["", *(f"{text}: {href}" if text else href for text, href in links)]
    return lines


def links_of(job: NotificationJob) -> list[tuple[str, str]]:
    """Text and target, in the sender's order."""
    if job.ordered_links:
        return [(link.text, link.href) for link in job.ordered_links]
    return sorted(job.links.items())


def _level(delivery: Delivery) -> str:
    job = delivery.job
    if delivery.kind not in (Kind.NEW_INCIDENT, Kind.ESCALATION):
        return ""
    words = delivery.words
    if not job.level:
        return words.fallback
    return words.level_repeat.format(level=job.level, repeat=job.repeat) if job.repeat else str(job.level)


def one_line(text: str, length: int = SUBJECT_LENGTH) -> str:
    """Without line breaks and control characters, and no longer than that."""
    flat = _CONTROL.sub(" ", text).strip()
    return flat if len(flat) <= length else flat[: length - 1] + "…"

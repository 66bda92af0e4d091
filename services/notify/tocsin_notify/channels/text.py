"""What people read: subject and body, and the JSON that webhooks and the console carry.

The JSON is a contract with the receivers (WEBHOOKS.md): fields are only ever added.
"""

import re
from typing import Any, Final

from tocsin.notify.v1.notification_pb2 import NotificationJob
from tocsin.type.v1.severity_pb2 import Severity

from tocsin_notify.channels.base import Delivery
from tocsin_notify.channels.digests import content_of, document
from tocsin_notify.domain import digest_content
from tocsin_notify.domain.page import Kind
from tocsin_notify.domain.template import Part

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


def subject(delivery: Delivery) -> str:
    """One line, whatever a template or a sender put into it."""
    worded = delivery.worded(Part.SUBJECT)
    return one_line(worded, SUBJECT_LENGTH) if worded else default_subject(delivery)


def default_subject(delivery: Delivery) -> str:
    """`[critical] Disk full on db-1 (level 2)`, also when a sender put line breaks into the title."""
    job = delivery.job
    match delivery.kind:
        case Kind.NEW_INCIDENT | Kind.ESCALATION:
            where = f"level {job.level}" if job.level else "fallback"
            text = f"[{severity_word(job.severity)}] {one_line(job.title, SUBJECT_LENGTH - 30)} ({where})"
        case Kind.URGENCY_RAISED:
            text = f"[{severity_word(job.severity)}] {one_line(job.title, SUBJECT_LENGTH - 30)} (became urgent)"
        case Kind.ACKNOWLEDGMENT:
            text = f"[acknowledged] {job.title}"
        case Kind.RESOLUTION:
            text = f"[resolved] {job.title}"
        case Kind.TEST:
            text = "[test] Tocsin can reach you this way"
        case Kind.CONTACT_CHANGED:
            text = f"[security] {job.actor} changed how Tocsin reaches you"
        case Kind.MESSAGE:
            text = f"[message] {job.title or job.text}"
        case Kind.BUNDLE:
            text = f"[{severity_word(job.severity)}] {job.title}"
        case Kind.DIGEST:
            text = job.title
        case Kind.VERIFICATION:
            text = f"{delivery.code} is your Tocsin verification code"
    return one_line(text, SUBJECT_LENGTH)


def body(delivery: Delivery) -> str:
    """Plain text. The link by which the person answers is always in it."""
    worded = delivery.worded(Part.TEXT)
    if not worded:
        return default_body(delivery)
    return "\n".join([worded, *([] if _holds(worded, delivery.link) else _answer(delivery))]) + "\n"


def default_body(delivery: Delivery) -> str:
    """The important first."""
    job = delivery.job
    match delivery.kind:
        case Kind.VERIFICATION:
            lines = [f"Your code is {delivery.code}. It holds for 10 minutes.", "If you did not ask for it, ignore it."]
        case Kind.TEST:
            lines = [f"This is a test for {job.user}. Nothing is wrong, and nothing is to be done."]
        case Kind.CONTACT_CHANGED:
            lines = [
                f"{job.actor} {job.title}.",
                "",
                "If you did not agree to it, tell your administrator: pages may not reach you, or may reach somebody else.",
            ]
        case Kind.MESSAGE:
            about = [f"About: {job.about}"] if job.about else []
            lines = [job.text, *_answer(delivery), "", *about, f"Sent by {job.actor} with Tocsin."]
        case Kind.DIGEST:
            lines = [digest_content.text(content_of(job.digest)).rstrip()]
        case Kind.BUNDLE:
            why = "More pages came for you than you get one by one, so these come together."
            lines = [job.title, "", why, *_answer(delivery), "", job.text]
        case Kind.ACKNOWLEDGMENT | Kind.RESOLUTION:
            verb = "acknowledged" if delivery.kind is Kind.ACKNOWLEDGMENT else "resolved"
            lines = [job.title, "", f"{verb} by {job.actor or 'its source'}", *_about(delivery)]
        case Kind.NEW_INCIDENT | Kind.ESCALATION:
            why = "A new incident" if delivery.kind is Kind.NEW_INCIDENT else "Nobody has answered yet"
            if job.actor:
                why = f"{job.actor} asks for you"
            where = f"at level {job.level}" if job.level else "as the fallback target"
            lines = [job.title, "", f"{why}: you are paged {where}.", *_answer(delivery), *_about(delivery)]
        case Kind.URGENCY_RAISED:
            why = f"An incident that you have taken on became {severity_word(job.severity)}."
            why += " It is still yours; nobody else is paged."
            lines = [job.title, "", why, *_answer(delivery), *_about(delivery)]
    return "\n".join(lines) + "\n"


def payload(delivery: Delivery) -> dict[str, Any]:
    """The JSON document. Everything has a value in every kind, so that receivers need no case for absence."""
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
        "subject": default_subject(delivery),
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


def _holds(text: str, link: str) -> bool:
    """Whether the link stands there by itself: with something behind it, it leads nowhere."""
    return not link or re.search(re.escape(link) + r"(?![\w/?#&=%-])", text) is not None


def _answer(delivery: Delivery) -> list[str]:
    return ["", f"Answer: {delivery.link}"] if delivery.link else []


def _about(delivery: Delivery) -> list[str]:
    job = delivery.job
    facts = [
        ("Incident", job.incident),
        ("Severity", severity_word(job.severity)),
        ("Source", job.source),
        ("Alerts", str(job.alert_count) if job.alert_count else ""),
        ("Policy", job.policy),
        ("Level", _level(delivery)),
    ]
    lines = ["", *(f"{name + ':':<10}{value}" for name, value in facts if value)]
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
    return f"{job.level} (repeat {job.repeat})" if job.level else "fallback"


def one_line(text: str, length: int = SUBJECT_LENGTH) -> str:
    """Without line breaks and control characters, and no longer than that."""
    flat = _CONTROL.sub(" ", text).strip()
    return flat if len(flat) <= length else flat[: length - 1] + "…"

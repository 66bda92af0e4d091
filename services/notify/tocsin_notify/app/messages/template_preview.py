"""The texts that a template makes of a message, and warnings about them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.notify.v1.notification_pb2 import NotificationJob
from tocsin.notify.v1.shift_pb2 import SHIFT_NOTICE_UNSPECIFIED, ShiftNotice
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import invalid, not_found

from tocsin_notify.app.pages.jobs import KINDS
from tocsin_notify.app.pages.stored_jobs import readable
from tocsin_notify.channels import brief, sms_text, text, voice_text
from tocsin_notify.channels.base import Delivery
from tocsin_notify.channels.mail_html import mail_html
from tocsin_notify.domain.page import PAGES, Kind
from tocsin_notify.domain.template import LANGUAGES, Part, Wording
from tocsin_notify.store.pages import pages
from tocsin_notify.templates.chosen import Source, Template
from tocsin_notify.templates.samples import delivery_of, sample_job, sample_shift_job
from tocsin_notify.templates.variables import KNOWN

_DEFAULT: Final = "the default text would be sent"
_NO_LINK: Final = "/p/this-link-of-a-preview-leads-nowhere"


@dataclass(frozen=True, slots=True)
class Warning:
    """A warning, and its line, from 1; 0: no particular line."""

    part: Part
    message: str
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class Preview:
    """Each text as it would be sent."""

    subject: str
    text: str
    html: str
    sms: str
    sms_segments: int
    chat: str
    voice: str
    warnings: tuple[Warning, ...]


async def job_for(
    tx: Tx, kind: Kind, incident: UUID | None, shift_notice: ShiftNotice.ValueType = SHIFT_NOTICE_UNSPECIFIED
) -> NotificationJob:
    """A message of the kind about an incident of the tenant, or an example. Raises INCIDENT_NOT_FOUND, INVALID_FIELD."""
    if shift_notice:
        if kind is not Kind.MESSAGE or incident is not None:
            raise invalid("shift_notice", "is for templates of NOTIFICATION_TYPE_MESSAGE, and without an incident")
        return sample_shift_job(shift_notice)
    example = sample_job(kind)
    if incident is None:
        return example
    found = await pages.latest_about(tx, incident)
    job = readable(found[1], tx.org_id, found[0]) if found is not None else None
    if job is None:
        raise not_found(ErrorReason.ERROR_REASON_INCIDENT_NOT_FOUND, f"incidents/{incident}")
    if KINDS.get(job.type) is not kind:
        if job.HasField("reminder"):  # the title of a reminder says that it is one
            job.title, job.text, job.actor = job.reminder.title, "", ""
            job.ClearField("reminder")
        # Who acknowledged it has not asked for the user whom a page wakes.
        job.actor = "" if kind in PAGES else job.actor or example.actor
        job.text = job.text or example.text
        job.level = job.level or example.level
    return job


def preview(source: Source, job: NotificationJob, *, public_url: str, segments: int, replies: bool) -> Preview:
    """Takes some milliseconds for a long template. `segments`, `replies`: of text messages."""
    bare = delivery_of(source.kind, job, link=public_url + _NO_LINK, language=source.language or LANGUAGES[0])
    template = Template.of(source)
    wording, faults = template.word(bare, Part)
    made = replace(bare, wording=wording)
    sms = sms_text.sms_text(made, segments, replies=replies)
    warnings = [
        Warning(part, f"{error.problem}: {_DEFAULT}", error.line, error.column) for part, error in faults.items()
    ]
    for part, compiled in template.parts.items():
        warnings += [
            Warning(part, f"there is no {each.name!r}", each.line, each.column) for each in compiled.unknown(KNOWN)
        ]
    if sms_text.is_cut(made, segments, replies=replies):
        warnings.append(Warning(Part.SMS, f"with the link it takes more than {segments} segments, and is cut"))
    return Preview(
        subject=text.subject(made),
        text=text.body(made),
        html=mail_html(made),
        sms=sms,
        sms_segments=sms_text.segments(sms),
        chat=brief.brief(made),
        voice=voice_text.said(made),
        warnings=(*warnings, *_too_long(wording, made)),
    )


def _too_long(wording: Wording, made: Delivery) -> Iterator[Warning]:
    for part, longest in ((Part.SUBJECT, text.SUBJECT_LENGTH), (Part.CHAT, brief.LONGEST)):
        size = len(wording.get(part, ""))
        if size > longest:
            yield Warning(part, f"it has {size} characters, and is cut to {longest}")
    if Part.VOICE in wording and voice_text.said(made) != wording[Part.VOICE]:
        yield Warning(Part.VOICE, "it is too long to be read out, and is cut")
    odd = sms_text.beyond_gsm(wording.get(Part.SMS, ""))
    if odd:
        yield Warning(Part.SMS, f"because of {odd!r} a segment holds 67 characters instead of 153")

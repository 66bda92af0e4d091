"""Templates to contract messages, and back."""

from typing import Final

from tocsin.notify.v1 import template_service_pb2 as pb
from tocsin_kit.rpc.masks import etag
from tocsin_kit.rpc.timestamps import timestamp

from tocsin_notify.app.messages.template_preview import Preview
from tocsin_notify.app.messages.templates import TemplateInput
from tocsin_notify.app.pages.jobs import KINDS
from tocsin_notify.domain.template import Part
from tocsin_notify.store.messages.templates import TemplateRow

WRITABLE: Final = tuple(Part)
_TYPES: Final = {kind: number for number, kind in KINDS.items()}


def given_from(given: pb.Template) -> TemplateInput:
    """What a caller asks a template to be; the message is valid."""
    return TemplateInput(
        KINDS[given.type], given.language, {part: source for part in Part if (source := getattr(given, part))}
    )


def template_to(row: TemplateRow) -> pb.Template:
    """With all its parts."""
    return pb.Template(
        name=f"templates/{row.id}",
        type=_TYPES[row.kind],
        language=row.language,
        subject=row.subject,
        text=row.text,
        html=row.html,
        sms=row.sms,
        chat=row.chat,
        voice=row.voice,
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
        etag=etag(row.version),
    )


def preview_to(made: Preview) -> pb.PreviewTemplateResponse:
    """All of it."""
    return pb.PreviewTemplateResponse(
        subject=made.subject,
        text=made.text,
        html=made.html,
        sms=made.sms,
        sms_segments=made.sms_segments,
        chat=made.chat,
        voice=made.voice,
        warnings=[
            pb.TemplateWarning(field=each.part, message=each.message, line=each.line, column=each.column)
            for each in made.warnings
        ],
    )

"""The service of templates, connected. A part of `wiring`."""

from tocsin_notify.app.messages.templates import Templates
from tocsin_notify.app.messages.wordings import Wordings
from tocsin_notify.rpc.template_service import TemplateService
from tocsin_notify.wiring.base import Base


def serve_templates(base: Base, wordings: Wordings) -> None:
    """Add the service, and the loop that learns of changes."""
    settings, twilio = base.settings, base.settings.twilio_account
    service = TemplateService(
        base.db,
        Templates(wordings),
        base.page_tokens,
        public_url=settings.public_url,
        segments=twilio.sms_segments,
        replies=twilio.replies,
    )
    base.runtime.rpc.add(service)
    base.runtime.loops.add("templates", wordings.sweep, everywhere=True)

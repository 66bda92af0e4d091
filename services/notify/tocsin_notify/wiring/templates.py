"""The service of templates, connected. A part of `wiring`."""

from tocsin_kit.lifecycle import Runtime
from tocsin_kit.rpc.paging import PageTokens

from tocsin_notify.app.messages.templates import Templates
from tocsin_notify.app.messages.wordings import Wordings
from tocsin_notify.rpc.template_service import TemplateService
from tocsin_notify.settings import NotifySettings


def serve_templates(runtime: Runtime[NotifySettings], wordings: Wordings, pages: PageTokens) -> None:
    """Add the service, and the loop that learns of changes."""
    settings, twilio = runtime.settings, runtime.settings.twilio_account
    service = TemplateService(
        runtime.database,
        Templates(wordings),
        pages,
        public_url=settings.public_url,
        segments=twilio.sms_segments,
        replies=twilio.replies,
    )
    runtime.rpc.add(service)
    runtime.loops.add("templates", wordings.sweep, everywhere=True)

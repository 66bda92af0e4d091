"""The default text of each part, as a template may name it."""

from collections.abc import Callable, Mapping
from typing import Final

from tocsin_notify.channels.base import Delivery
from tocsin_notify.channels.brief import default_brief
from tocsin_notify.channels.sms_text import default_sms
from tocsin_notify.channels.text import default_body, default_subject
from tocsin_notify.channels.voice_text import default_spoken
from tocsin_notify.domain.template import Part

_DEFAULTS: Final[Mapping[Part, Callable[[Delivery], str]]] = {
    Part.SUBJECT: default_subject,
    Part.TEXT: default_body,
    Part.HTML: default_body,
    Part.SMS: default_sms,
    Part.CHAT: default_brief,
    Part.VOICE: default_spoken,
}


def default_of(part: Part, delivery: Delivery) -> str:
    """The text that is sent when no template says another one."""
    return _DEFAULTS[part](delivery).strip()

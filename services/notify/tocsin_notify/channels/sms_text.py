"""The text of a short message, and how many segments it takes.

A message of GSM-7 characters only (3GPP TS 23.038 §6.2.1) holds 160 of them, or 153 in each segment of a longer one; any
other character makes it UCS-2 with 70, or 67, UTF-16 units. Each segment is charged, and each may be lost by itself, so
texts are cut to a number of segments.
"""

import re
from typing import Final
from uuid import UUID

from tocsin_notify.channels.base import Delivery
from tocsin_notify.channels.digests import content_of
from tocsin_notify.channels.text import severity_word
from tocsin_notify.domain import digest_content
from tocsin_notify.domain.page import Kind
from tocsin_notify.domain.sms_reply import code_of

_BASIC: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED: Final = frozenset("^{}\\[~]|€\f")
"""Each is an escape and a character (3GPP TS 23.038 §6.2.1.1), which one segment holds together."""
# Typographic characters that would make the whole text UCS-2, and what says the same in GSM-7.
_PLAIN: Final = str.maketrans(
    {
        "‘": "'",
        "’": "'",
        "‚": ",",
        "“": '"',
        "”": '"',
        "„": '"',
        "–": "-",
        "—": "-",
        "…": "...",
        "•": "*",
        "→": "->",
        "`": "'",
        "\u00a0": " ",
        "\u2009": " ",
        "\t": " ",
    }
)
_SPACE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\s]+")
_CUT: Final = "..."
_LEAST: Final = 40
"""Characters of the title that matter more than how to reply."""


def segments(text: str) -> int:
    """How many segments a message of this text takes; 0 for none."""
    sizes = [2 if each in _EXTENDED else 1 for each in text]
    alone, joined = 160, 153
    if not all(each in _BASIC or each in _EXTENDED for each in text):
        sizes = [len(each.encode("utf-16-le")) // 2 for each in text]
        alone, joined = 70, 67
    if not sizes:
        return 0
    if sum(sizes) <= alone:
        return 1
    count, used = 1, 0
    for size in sizes:
        if used + size > joined:
            count, used = count + 1, 0
        used += size
    return count


def fit(text: str, limit: int, after: str = "") -> str:
    """`text`, shortened so that it and `after` take at most `limit` segments. `after` is never shortened."""
    plain = _SPACE.sub(" ", text.translate(_PLAIN)).strip()
    if segments(plain + after) <= limit:
        return plain + after
    low, high = 0, len(plain)
    while low < high:
        middle = (low + high + 1) // 2
        if segments(plain[:middle].rstrip() + _CUT + after) <= limit:
            low = middle
        else:
            high = middle - 1
    return plain[:low].rstrip() + _CUT + after


def sms_text(delivery: Delivery, limit: int, *, replies: bool = False) -> str:
    """What the phone shows, the important first, in at most `limit` segments. `replies`: it says how to answer by reply."""
    job = delivery.job
    after = ""
    match delivery.kind:
        case Kind.VERIFICATION:
            text = f"{delivery.code} is your Tocsin verification code. It holds for 10 minutes."
        case Kind.TEST:
            text = f"This is a test for {job.user}. Nothing is wrong, and nothing is to be done."
        case Kind.CONTACT_CHANGED:
            text = f"Tocsin: {job.actor} {job.title}. If you did not agree to it, tell your administrator."
        case Kind.MESSAGE:
            text = f"{job.title}: {job.text}" if job.title else job.text
        case Kind.DIGEST:
            text = digest_content.brief(content_of(job.digest))
        case Kind.ACKNOWLEDGMENT:
            text = f"Acknowledged by {job.actor or 'its source'}: {job.title}"
        case Kind.RESOLUTION:
            text = f"Resolved by {job.actor or 'its source'}: {job.title}"
        case Kind.BUNDLE:
            text = f"{severity_word(job.severity).upper()}: {job.title}"
            after = f" {delivery.link}" if delivery.link else ""
        case Kind.NEW_INCIDENT | Kind.ESCALATION | Kind.URGENCY_RAISED:
            text = f"{severity_word(job.severity).upper()}: {job.title}"
            after = (f" (level {job.level})" if job.level else "") + (f" {delivery.link}" if delivery.link else "")
            if replies and job.incident:
                code = code_of(UUID(job.incident.rpartition("/")[2]), delivery.target.address)
                how = f" Reply {code}a to ack, {code}e to escalate."
                after += how if segments("x" * _LEAST + after + how) <= limit else ""
    return fit(text, limit, after)

"""The text of a short message, and how many segments it takes.

A message of GSM-7 characters only (3GPP TS 23.038 §6.2.1) holds 160 of them, or 153 in each segment of a longer one; any
other character makes it UCS-2 with 70, or 67, UTF-16 units. Each segment is charged, and each may be lost by itself, so
texts are cut to a number of segments.
"""

import re
from typing import Final
from uuid import UUID

from tocsin_notify.channels.base import Delivery
from tocsin_notify.channels.brief import name_in
from tocsin_notify.channels.digests import content_of
from tocsin_notify.channels.text import severity_in
from tocsin_notify.domain import digest_content
from tocsin_notify.domain.page import PAGES, WAKING, Kind
from tocsin_notify.domain.sms_reply import code_of
from tocsin_notify.domain.template import Part

_BASIC: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED: Final = frozenset("^{}\\[~]|€\f")
"""Each is an escape and a character (3GPP TS 23.038 §6.2.1.1), which one segment holds together."""
# Typographic characters that would make the whole text UCS-2, and their replacement in GSM-7.
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
"""Characters of the text, severity and title, that matter more than how to reply and who asks."""
_LONGEST_NAME: Final = 20
"""Characters of who asks: the title is cut to make room for it."""


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
    plain = _tidy(text)
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


def _tidy(text: str) -> str:
    """In one line, with plain characters where they have the same meaning."""
    return _SPACE.sub(" ", text.translate(_PLAIN)).strip()


def sms_text(delivery: Delivery, limit: int, *, replies: bool = False) -> str:
    """The text for the phone, the important part first, in at most `limit` segments. `replies`: the text says how to
    answer by reply.

    A template says the beginning. The link by which the person answers stands at the end, where it is never cut off.
    """
    text, after = _halves(delivery, limit, replies=replies)
    return fit(text, limit, after)


def is_cut(delivery: Delivery, limit: int, *, replies: bool = False) -> bool:
    """Whether it would take more than `limit` segments."""
    text, after = _halves(delivery, limit, replies=replies)
    return segments(_tidy(text) + after) > limit


def beyond_gsm(text: str) -> str:
    """The first character that no message of GSM-7 can hold; empty: there is none."""
    return next((each for each in _tidy(text) if each not in _BASIC and each not in _EXTENDED), "")


def _halves(delivery: Delivery, limit: int, *, replies: bool) -> tuple[str, str]:
    """The part that may be cut, and the part that may not."""
    worded = delivery.worded(Part.SMS)
    if not worded:
        text = default_sms(delivery)
        return text, _after(delivery, text, limit, level=_level(delivery), asked=_asked(delivery), replies=replies)
    if delivery.link and delivery.kind in WAKING:
        worded = worded.replace(delivery.link, "")
    return worded, _after(delivery, worded, limit, replies=replies)


def default_sms(delivery: Delivery) -> str:
    """Without its end: the level, the link, and how to reply."""
    job, words = delivery.job, delivery.words
    match delivery.kind:
        case Kind.VERIFICATION:
            return words.sms_code.format(code=delivery.code)
        case Kind.TEST:
            return words.test_for.format(user=job.user)
        case Kind.CONTACT_CHANGED:
            return words.sms_contact_changed.format(actor=job.actor, change=job.title)
        case Kind.MESSAGE:
            return f"{job.title}: {job.text}" if job.title else job.text
        case Kind.DIGEST:
            return digest_content.brief(content_of(job.digest), delivery.digest_words)
        case Kind.ACKNOWLEDGMENT:
            return words.sms_acknowledged.format(actor=job.actor or words.its_source, title=job.title)
        case Kind.RESOLUTION:
            return words.sms_resolved.format(actor=job.actor or words.its_source, title=job.title)
        case Kind.BUNDLE | Kind.NEW_INCIDENT | Kind.ESCALATION | Kind.URGENCY_RAISED:
            return f"{severity_in(words, job.severity).upper()}: {job.title}"


def _after(
    delivery: Delivery, text: str, limit: int, *, level: str = "", asked: str = "", replies: bool = False
) -> str:
    """The link always; how to reply, and then who asks, only while the text keeps its least room in its own alphabet."""
    if delivery.kind not in WAKING:
        return ""
    plain = _tidy(text)
    least = plain if len(plain) <= _LEAST else plain[:_LEAST] + _CUT
    link = f" {delivery.link}" if delivery.link else ""
    how = _how_to_reply(delivery) if replies else ""
    if segments(least + level + link + how) > limit:
        how = ""
    if segments(least + level + asked + link + how) > limit:
        asked = ""
    return level + asked + link + how


def _how_to_reply(delivery: Delivery) -> str:
    if not delivery.job.incident:
        return ""
    code = code_of(UUID(delivery.job.incident.rpartition("/")[2]), delivery.target.address)
    words = delivery.words
    return (words.sms_reply_all if delivery.kind is Kind.BUNDLE else words.sms_reply).format(code=code)


def _level(delivery: Delivery) -> str:
    level = delivery.job.level
    return delivery.words.sms_level.format(level=level) if delivery.kind in PAGES and level else ""


def _asked(delivery: Delivery) -> str:
    job, words = delivery.job, delivery.words
    if delivery.kind not in PAGES or not job.actor:
        return ""
    return words.sms_asked.format(actor=name_in(words, job.actor)[:_LONGEST_NAME])

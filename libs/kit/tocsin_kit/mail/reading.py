"""Reads mails within limits of time and memory. It takes milliseconds, so it must not run on the event loop.

Python's parser checks each line against each of the enclosing parts, and Python has codecs that take quadratic time. So only the
head of a mail is parsed, only if it has few parts, and only the character sets that mails use are decoded.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.header import decode_header
from email.parser import BytesHeaderParser
from email.policy import Compat32
from email.utils import parseaddr
from html import unescape
from itertools import islice
from typing import Any, Final, TypeVar

import re2

PARSED: Final = 128 << 10
"""Bytes of a mail; the rest is ignored."""
TEXT: Final = 16 << 10
"""Characters of the body that are kept."""
_BOUNDARIES: Final = 60
"""How often the word may occur in the parsed part; in a mail with more, the parts are not separated."""
_PARTS: Final = 50
_DECODED: Final = 64 << 10
"""Bytes of one part."""
_T = TypeVar("_T")
_Part = Any  # email.message.Message, which is generic for type checkers only
_HEADER: Final = 2000
_MIME_HEADER: Final = 1000
"""Characters of a header that are kept. The parameters of MIME headers are parsed several times for each part, in quadratic
time."""
_IDS: Final = 50
_NAMES: Final = 20
_CHARSETS: Final = re.compile(
    r"(us-)?ascii|ansi_x3[.]4-19\d\d|utf-?(7|8|16|16le|16be|32|32le|32be)|iso-?8859-?\d{1,2}|latin-?\d{1,2}|windows-?\d{3,4}"
    r"|cp-?\d{3,4}|koi8-?[rut]|gb2312|gbk|gb18030|big5(-?hkscs)?|shift[-_]?jis|sjis|euc-?(jp|kr|tw)|iso-2022-(jp|kr)(-\d)?"
    r"|ks_c_5601-1987|tis-620|mac-?\w{0,12}",
    re.IGNORECASE,
)
_ID: Final = re.compile(r"<[^<>\s]{1,500}>")
_UNSEEN: Final = re2.compile(r"(?is)<(?:script\b.*?</script|style\b.*?</style|head\b.*?</head|!--.*?--)[^>]*>")
_BREAK: Final = re2.compile(r"(?is)<(?:br|hr|/?p|/?div|/?blockquote|/tr|/table|/h[1-6]|li|/?ul|/?ol)\b[^>]*>")
_QUOTE: Final = re2.compile(r"(?is)<blockquote\b[^>]*>")
_END_OF_QUOTE: Final = re2.compile(r"(?is)</blockquote\b[^>]*>")
_RULE: Final = re2.compile(r"(?is)<hr\b[^>]*>")
_QUOTES, _QUOTED = "\x02", "\x03"
"""Where a quotation begins and ends, until its lines are marked."""
_CELL: Final = re2.compile(r"(?is)</t[dh]\b[^>]*>")
_TAG: Final = re2.compile(r"(?s)<[^>]*>")
_BLANKS: Final = re.compile(r"[^\S\n]+")
_EMPTY_LINES: Final = re.compile(r"\n{3,}")


@dataclass(frozen=True, slots=True)
class Mail:
    """The result of reading a mail. Texts may be shortened."""

    subject: str
    text: str
    sender: str = ""
    """The sender by its own header."""
    date: str = ""
    message_id: str = ""
    answers: tuple[str, ...] = ()
    """Message ids that it answers, the nearest first."""
    automatic: bool = False
    """It answers another mail by itself (RFC 3834). A mail that a program sends by itself, such as cron, is no answer."""
    bulk: bool = False
    """No person wrote it to this address: a program, a mailing list or a mail server did."""
    own: bool = False
    """This product sent it."""
    importance: str = ""
    attachments: tuple[str, ...] = ()


class _Shortened(Compat32):
    """The library's own class for headers, with a limit of length."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        """Of the lines of one header, its name and its value."""
        name, value = super().header_source_parse(sourcelines)
        return name, value[: _MIME_HEADER if name.lower().startswith("content-") else _HEADER]


_POLICY: Final = _Shortened()


def read_mail(content: bytes, *, marks_quotes: bool = False) -> Mail:
    """Never raises; unreadable parts are left out.

    `marks_quotes`: in a text that is taken from HTML, quoted lines are marked as in plain text: `> ` before each line, and rules
    as lines of `_`.
    """
    message = _parse(content[:PARSED])
    parts: list[_Part] = _or_nothing(lambda: list(islice(_leaves(message), _PARTS)), [])
    return Mail(
        subject=_or_nothing(lambda: _one_line(_header(message, "Subject")), ""),
        text=_or_nothing(lambda: _text(parts, marks_quotes=marks_quotes), ""),
        sender=_or_nothing(lambda: parseaddr(_one_line(_header(message, "From")))[1], ""),
        date=_or_nothing(lambda: _one_line(_header(message, "Date")), ""),
        message_id=_or_nothing(lambda: next(iter(_ids(message, "Message-ID")), ""), ""),
        answers=_or_nothing(lambda: _answers(message), ()),
        automatic=_or_nothing(lambda: _is_automatic(message), False),
        bulk=_or_nothing(lambda: _is_bulk(message), False),
        own=message.get("Tocsin-Delivery") is not None,
        importance=_or_nothing(lambda: _importance(message), ""),
        attachments=_or_nothing(lambda: tuple(_names(parts)), ()),
    )


def _or_nothing(read: Callable[[], _T], nothing: _T) -> _T:
    """The library raises various errors for invalid MIME, which must not lose the rest of the mail."""
    try:
        return read()
    except Exception:
        return nothing


def _parse(head: bytes) -> _Part:
    if head.lower().count(b"boundary") <= _BOUNDARIES:
        try:
            return message_from_bytes(head, policy=_POLICY)
        except Exception:  # noqa: S110 - parts in parts in parts: a RecursionError, among others
            pass
    return BytesHeaderParser(policy=_POLICY).parsebytes(head)


def _leaves(message: _Part) -> Iterator[_Part]:
    return (part for part in message.walk() if not part.is_multipart())


def _text(parts: list[_Part], *, marks_quotes: bool) -> str:
    """The first text that is not an attachment; of HTML the visible text."""
    shown = [part for part in parts if part.get_content_disposition() != "attachment"]
    for part in shown:
        if part.get_content_type() == "text/plain" and (text := _tidy(_decoded(part))):
            return text
    for part in shown:
        if part.get_content_type() == "text/html" and (text := _tidy(_seen(_decoded(part), marks_quotes=marks_quotes))):
            return text
    return ""


def _names(parts: list[_Part]) -> Iterator[str]:
    named = (part.get_filename() for part in parts)
    return islice((_one_line(_unfolded(name)) for name in named if name), _NAMES)


def _decoded(part: _Part) -> str:
    payload = part.get_payload(decode=True)
    charset = part.get_param("charset")
    return _chars(payload[:_DECODED] if isinstance(payload, bytes) else b"", charset)


def _chars(data: bytes, charset: Any) -> str:
    name = charset.strip() if isinstance(charset, str) else ""
    try:
        return data.decode(name if _CHARSETS.fullmatch(name) else "utf-8", "replace")
    except (LookupError, ValueError):
        return data.decode("utf-8", "replace")


def _seen(html: str, *, marks_quotes: bool) -> str:
    """Without text that a browser does not show. RE2 takes linear time, also for tags that are never closed."""
    html = html.replace(_QUOTES, "").replace(_QUOTED, "")
    quotes = ((_QUOTE, f"\n{_QUOTES}"), (_END_OF_QUOTE, f"\n{_QUOTED}"), (_RULE, "\n________________\n"))
    for pattern, instead in (
        (_UNSEEN, " "),
        *(quotes if marks_quotes else ()),
        *((_BREAK, "\n"), (_CELL, "\t"), (_TAG, "")),
    ):
        html = pattern.sub(instead, html)
    return _marked(unescape(html)) if marks_quotes else unescape(html)


def _marked(text: str) -> str:
    """A quotation that is never closed goes on to the end."""
    lines: list[str] = []
    depth = 0
    for line in text.split("\n"):
        depth = max(0, depth + line.count(_QUOTES) - line.count(_QUOTED))
        said = line.replace(_QUOTES, "").replace(_QUOTED, "")
        lines.append(f"> {said}" if depth and said.strip() else said)
    return "\n".join(lines)


def _tidy(text: str) -> str:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")
    return _EMPTY_LINES.sub("\n\n", _BLANKS.sub(" ", lines)).strip()[:TEXT]


def _header(message: _Part, name: str) -> str:
    """The first of this name, decoded. As the parser keeps it: bytes that are not ASCII are unchanged."""
    wanted = name.lower()
    raw = next((str(value) for each, value in message.raw_items() if each.lower() == wanted), "")[:_HEADER]
    return _unfolded(raw)


def _unfolded(raw: str) -> str:
    text = raw.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\r", "").replace("\n", "")
    try:
        pieces = decode_header(text)
    except Exception:
        return text
    # Between encoded words the library has text in an escape of its own.
    return "".join(
        piece
        if isinstance(piece, str)
        else _chars(piece, charset)
        if charset
        else piece.decode("raw-unicode-escape", "replace")
        for piece, charset in pieces
    )


def _one_line(text: str) -> str:
    return " ".join(text.replace("\0", "\ufffd").split())[:_HEADER]


def _answers(message: _Part) -> tuple[str, ...]:
    references = _ids(message, "In-Reply-To") + _ids(message, "References")[::-1]
    return tuple(dict.fromkeys(references))[:_IDS]


def _ids(message: _Part, name: str) -> list[str]:
    return _ID.findall(_header(message, name))


def _is_automatic(message: _Part) -> bool:
    if _header(message, "Auto-Submitted").strip().lower().startswith("auto-replied"):
        return True
    if message.get("X-Autoreply") is not None or message.get("X-Autorespond") is not None:
        return True
    return _header(message, "Precedence").strip().lower() == "auto_reply"


def _is_bulk(message: _Part) -> bool:
    submitted = _header(message, "Auto-Submitted").partition(";")[0].strip().lower()
    if _is_automatic(message) or submitted not in ("", "no"):
        return True
    if message.get("List-Id") is not None or message.get_content_type() == "multipart/report":
        return True
    return _header(message, "Precedence").strip().lower() in ("bulk", "junk", "list")


def _importance(message: _Part) -> str:
    """`high`, `low` or nothing."""
    said = f"{_header(message, 'Importance')} {_header(message, 'X-Priority')}".lower().split()
    if not said:
        return ""
    return "high" if said[0] in ("high", "1", "2") else "low" if said[0] in ("low", "4", "5") else ""

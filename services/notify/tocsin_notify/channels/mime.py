"""A mail as bytes: plain text, and HTML beside it if there is any (RFC 5322, 2045 to 2047).

Written by hand because the standard library's message takes some 3 ms of the event loop per mail, of which a storm sends
hundreds a second. Values come from here and from validated fields; what is not printable ASCII is encoded, so no
value can end a line.
"""

import quopri
import re
import secrets
from collections.abc import Mapping
from email.header import Header
from typing import Final

_PLAIN: Final = re.compile(r"[\x20-\x7e]{0,900}")
_LINE: Final = re.compile(r"\r\n|\r|\n")
_BOUNDARY: Final = "=_tocsin_=" + secrets.token_hex(16)
"""It is random, so no text holds it; with `=_` it cannot stand in quoted-printable either (RFC 2045 §6.7)."""
_LONGEST_LINE: Final = 900  # RFC 5321: 998 and the line end


def compose(headers: Mapping[str, str], text: str, html: str = "") -> bytes:
    """The whole mail. Raises ValueError for a header's name that is none."""
    lines = [_header(name, value) for name, value in headers.items()]
    lines.append("MIME-Version: 1.0")
    if not html:
        return "\r\n".join(lines).encode("ascii") + b"\r\n" + _part("plain", text)
    lines += [f'Content-Type: multipart/alternative; boundary="{_BOUNDARY}"', "", ""]
    edge = f"--{_BOUNDARY}\r\n".encode()
    parts = edge + _part("plain", text) + b"\r\n" + edge + _part("html", html)
    return "\r\n".join(lines).encode("ascii") + parts + f"\r\n--{_BOUNDARY}--\r\n".encode()


def _part(kind: str, text: str) -> bytes:
    """A part of text with its headers."""
    body = "\r\n".join(_LINE.split(text)).encode()
    if text.isascii() and all(len(line) <= _LONGEST_LINE for line in body.split(b"\r\n")):
        encoding = "7bit"
    else:
        encoding = "quoted-printable"
        body = quopri.encodestring(body).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    head = f'Content-Type: text/{kind}; charset="utf-8"\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n'
    return head.encode("ascii") + body


def _header(name: str, value: str) -> str:
    if not name.isascii() or not name.replace("-", "").isalnum():
        raise ValueError(f"no header's name: {name!r}")
    # Text that looks like an encoded word (RFC 2047 §2) would be decoded by the reader's program. The other headers are
    # structured: encoded words in them are intended.
    if _PLAIN.fullmatch(value) and not (name == "Subject" and "=?" in value):
        return f"{name}: {value}"
    flat = " ".join(_LINE.split(value))
    return f"{name}: {Header(flat, 'utf-8', header_name=name).encode(linesep=chr(13) + chr(10))}"

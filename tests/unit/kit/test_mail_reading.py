"""How mails are read, and that no mail costs more than another."""

import time
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis.strategies import binary, lists, sampled_from
from tocsin_kit.mail import reading
from tocsin_kit.mail.reading import Mail, read_mail
from tocsin_testkit.busy import within

TAGS = (
    *(
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n",
        b"Content-Type: message/rfc822\r\n\r\n",
        b"--b--\r\n",
    ),
    *(
        b"Content-Type: text/html; charset=x-zip\r\n\r\n<p",
        b"Content-Transfer-Encoding: base64\r\n",
        b"=?utf-8?B?8J+?=",
    ),
    *(b"From: " + b"(" * 1500, b"Content-Type: " + b"(" * 1500, b"Content-Disposition: attachment; filename*0*="),
    *(b"Subject: ", b"=?x?Q?a=ff?= ", b"\r\n\r\n", b"\xff\xfe", b"<script", b"From: <a@b\r\n", b"Message-ID: <a>\r\n"),
)


def test_a_mail_is_read_with_its_parts_and_its_character_sets() -> None:
    written = EmailMessage()
    written["Subject"] = "Größe überschritten €"
    written["From"] = "Überwachung <nagios@example.com>"
    written["Message-ID"] = "<1@example.com>"
    written["In-Reply-To"] = "<0@example.com>"
    written["References"] = "<first@example.com> <0@example.com>"
    written["Importance"] = "High"
    written.set_content("Platte zu 98 % voll\n", charset="iso-8859-15")
    written.add_alternative("<p>nicht dies</p>", subtype="html")
    written.add_attachment(b"\0\1", maintype="image", subtype="png", filename="größe.png")
    read = read_mail(written.as_bytes())
    assert read == Mail(
        subject="Größe überschritten €",
        text="Platte zu 98 % voll",
        sender="nagios@example.com",
        message_id="<1@example.com>",
        answers=("<0@example.com>", "<first@example.com>"),
        importance="high",
        attachments=("größe.png",),
    )


@pytest.mark.parametrize(
    ("header", "body", "text"),
    [
        (
            "text/html; charset=utf-8",
            "<head><title>x</title></head><p>a &lt;b&gt;</p>c<br>d<script>e</script>",
            "a <b>\nc\nd",
        ),
        ("text/html", "<table><tr><td>CPU</td><td>97&nbsp;%</td></tr></table><style>p{}</style>", "CPU 97 %"),
        ("text/plain; charset=no-such", "caf\u00e9", "café"),
        ("text/plain; charset=zlib", "caf\u00e9", "café"),
        ("text/plain; charset*0=ut; charset*1=f-8", "\u00e9", "é"),
    ],
)
def test_html_and_odd_character_sets_become_text(header: str, body: str, text: str) -> None:
    content = f"Subject: s\r\nContent-Type: {header}\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{body}".encode()
    assert read_mail(content).text == text


@pytest.mark.parametrize(
    ("body", "text", "marked"),
    [
        (
            "<p>a</p><blockquote type=cite>b<p>c</p><p></p>d</blockquote>e",
            "a\n\nb\nc\n\nd\ne",
            "a\n\n> b\n> c\n\n> d\ne",
        ),
        ("a<BLOCKQUOTE>b<blockquote>c</blockquote>d</BLOCKQUOTE>e", "a\nb\nc\nd\ne", "a\n> b\n> c\n> d\ne"),
        ("</blockquote>a<blockquote>b", "a\nb", "a\n> b"),
        ("a\x03<blockquote>b\x03\nc&#3;</blockquote>", "a\nb\nc", "a\n> b\n> c"),
        ("a<hr>b", "a\nb", "a\n________________\nb"),
    ],
)
def test_what_html_quotes_is_marked_for_those_who_ask(body: str, text: str, marked: str) -> None:
    content = f"Content-Type: text/html\r\n\r\n{body}".encode()
    assert read_mail(content).text == text
    assert read_mail(content, marks_quotes=True).text == marked


def test_bytes_in_headers_are_taken_as_utf_8() -> None:
    assert read_mail("Subject: Größe\r\n\r\n".encode()).subject == "Größe"
    assert read_mail(b"Subject: \xff\xfe\r\n\r\n").subject == "\ufffd\ufffd"
    assert read_mail(b"Subject: a\r\n b\0c\r\n\r\n").subject == "a b\ufffdc"
    assert read_mail("Subject: 5 € =?utf-8?q?=C3=BCber?= ü\r\n\r\n".encode()).subject == "5 € über ü"


def test_what_cannot_be_read_costs_the_mail_nothing_else() -> None:
    read = read_mail(b"From: " + b"(" * 1500 + b"\r\nSubject: disk full\r\nMessage-ID: <1@a>\r\n\r\nit is")
    assert (read.subject, read.text, read.message_id, read.sender) == ("disk full", "it is", "<1@a>", "")


@pytest.mark.parametrize(
    "header", [b"Auto-Submitted: auto-replied (vacation)", b"X-Autoreply: yes", b"Precedence: auto_reply"]
)
def test_an_automatic_answer_is_known(header: bytes) -> None:
    assert read_mail(header + b"\r\n\r\n").automatic
    assert read_mail(header + b"\r\n\r\n").bulk


@pytest.mark.parametrize(
    "header",
    [
        b"Auto-Submitted: auto-generated",
        b"Auto-Submitted: auto-notified; x=y",
        b"Precedence: bulk",
        b"Precedence: LIST",
        b"List-Id: <people.example.com>",
        b"Content-Type: multipart/report; report-type=delivery-status; boundary=b",
    ],
)
def test_what_no_person_has_written_to_this_address_is_known(header: bytes) -> None:
    read = read_mail(header + b"\r\n\r\n")
    assert read.bulk
    assert not read.automatic, "what cron sends answers nothing"


@pytest.mark.parametrize("header", [b"Auto-Submitted: no", b"Precedence: normal", b"Precedence: first-class", b"X: y"])
def test_what_a_person_writes_is_no_bulk(header: bytes) -> None:
    assert not read_mail(header + b"\r\n\r\n").bulk


@given(lists(sampled_from(TAGS) | binary(max_size=30), max_size=40))
def test_something_is_read_of_any_bytes(pieces: list[bytes]) -> None:
    read = read_mail(b"".join(pieces))
    assert "\0" not in read.subject + read.text
    assert "\n" not in read.subject
    read.text.encode()  # no halves of surrogate pairs
    read.subject.encode()


HOSTILE = {
    "semicolons": b"Content-Type: text/plain" + b";" * 120_000 + b"\r\n\r\nx",
    "an encoded name": b"Content-Type: text/plain; name=" + b"=?a?q?b?=" * 10_000 + b"\r\n\r\nx",
    "parts in parts": b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(1500)
    )
    + b"\r\n" * 30_000,
    "messages in messages": b"Content-Type: message/rfc822\r\n\r\n" * 4000,
    "as many parts as are told apart": b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(30)
    )
    + b"\r\n" * 60_000,
    "open tags": b"Content-Type: text/html\r\n\r\n" + b"<" * 120_000,
    "open comments": b"Content-Type: text/html\r\n\r\n" + b"<!--<script<style<head" * 6000,
    "a slow codec": b"Content-Type: text/plain; charset=punycode\r\n\r\n" + b"a-" * 60_000 + b"z" * 10_000,
    "headers": b"Subject: =?utf-8?q?" + b"=?" * 60_000,
    "many headers": b"References: <a>\r\n" * 8000,
    "quotes in quotes": b"Content-Type: text/html\r\n\r\n" + b"<blockquote>" * 10_000,
    "entities": b"Content-Type: text/html\r\n\r\n" + b"&" * 120_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_mail_costs_more_than_a_moment(name: str) -> None:
    """The bound is far above what they take, and far below the minutes that they took the library alone."""
    began = time.process_time()
    read = read_mail(HOSTILE[name], marks_quotes=True)
    assert time.process_time() - began < within(2.0)
    assert len(read.text) <= reading.TEXT


@pytest.mark.parametrize("boundaries", [1, reading._BOUNDARIES + 1], ids=["parts", "the head alone"])
def test_no_header_is_kept_that_is_longer_than_any_is_read(boundaries: int) -> None:
    """120,000 semicolons of a `Content-Type` were taken apart for 0.7 s."""
    head = b"Subject: s\r\nContent-Type: multipart/mixed; boundary=b" + b";" * 40_000 + b"\r\n"
    part = (
        b"--b\r\nContent-Type: text/plain"
        + b';"' * 10_000
        + b"\r\n folded; a=b\r\nX: "
        + b"y" * 9000
        + b"\r\n\r\nhello\r\n"
    )
    message = reading._parse(head + b"\r\n" + part + b"boundary " * (boundaries - 1))
    lengths = {
        len(str(value)) for each in message.walk() for name, value in each.raw_items() if name.startswith("Content")
    }
    assert max(lengths) == reading._MIME_HEADER
    assert max(len(str(value)) for each in message.walk() for _, value in each.raw_items()) <= reading._HEADER
    assert read_mail(head + b"\r\n" + part).text == "hello"


def test_what_comes_after_the_head_is_not_looked_at() -> None:
    content = b"Subject: s\r\n\r\n" + b"x" * reading.PARSED + b"y"
    assert "y" not in read_mail(content).text

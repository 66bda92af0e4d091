"""The meaning of a reply to the mail of a page, with any quotes that its author's program adds."""

import time
import uuid
from datetime import UTC, datetime

import pytest
from tocsin.notify.v1.notification_pb2 import NotificationJob
from tocsin_kit.mail import reading
from tocsin_notify.channels.base import Delivery, Target
from tocsin_notify.channels.callbacks import CallbackUrls
from tocsin_notify.domain.action import Action, Asked
from tocsin_notify.domain.mail_reply import read_mail_reply
from tocsin_notify.domain.page import Channel, Kind
from tocsin_testkit.busy import within

LINK = "https://tocsin.example.com/p/TOKEN"
HEAD = (
    "From: Tocsin <page@example.com>\nSent: Monday, November 30, 2026 3:12 AM\nTo: Ana\nSubject: [critical] Disk full\n"
)
QUOTED = "On Mon, 30 Nov 2026 at 03:12, Tocsin <page@example.com> wrote:\n> resolve\n> disk full"


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("ack", Action.ACKNOWLEDGE),
        ("  ACK! \n\nthanks", Action.ACKNOWLEDGE),
        (f"Escalate.\n\n{QUOTED}", Action.ESCALATE),
        (f"r\n{QUOTED}", Action.RESOLVE),
        (f"{QUOTED}\n\nack", Action.ACKNOWLEDGE),
        (
            "Am Mo., 30. Nov. 2026 um 03:12 Uhr schrieb\nTocsin\n<page@example.com>:\n\n> resolve\n\nack",
            Action.ACKNOWLEDGE,
        ),
        ("> resolve\n\nack\n", Action.ACKNOWLEDGE),
        ("ack\n-- \nAna\nresolve", Action.ACKNOWLEDGE),
        ("\ufeff\u200b\n\ufeffack\u200b\n", Action.ACKNOWLEDGE),
        ("\u200e> resolve\n\u200eack", Action.ACKNOWLEDGE),
        (f"ack\n\n{HEAD}\nresolve", Action.ACKNOWLEDGE),
    ],
)
def test_the_first_line_of_the_author_says_what_is_done(text: str, action: Action) -> None:
    assert read_mail_reply(text) == Asked(action)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n \n",
        "I am on it",
        "please ack",
        "ack it for me",
        "thanks\nack",
        QUOTED,
        "> ack",
        " > ack\n> resolve",
        "note",
        "note\n-- \nAna",
        f"note:\n\n{QUOTED}",
        "notes of yesterday",
        "On Monday Tocsin wrote:\nack",
        "On Monday Tocsin <page@example.com> wrote:\n\nresolve: the disk",
        f"{HEAD}\nDisk full\n",
    ],
)
def test_anything_else_does_nothing(text: str) -> None:
    """Words of the page, and of alerts in it, stand in every reply."""
    assert read_mail_reply(text) is None


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("note the writer hangs", "the writer hangs"),
        ("Note: the writer hangs\nsince 3\n\nsee the plot\n-- \nAna", "the writer hangs\nsince 3\n\nsee the plot"),
        (f"note\nthe writer hangs\n\n{QUOTED}", "the writer hangs"),
        ("note : seen\n-----Original Message-----\nFrom: x", "seen"),
        ("note seen\n________________________________\nFrom: x", "seen"),
        ("note " + "x" * 5000, "x" * 4095 + "…"),
        (f"note seen\n\n{HEAD}\nDisk full\n{LINK}", "seen"),
        (
            "note gesehen\n\nVon: Tocsin [mailto:page@example.com]\nGesendet: Montag\nAn: Ana\nBetreff: voll\n\nvoll",
            "gesehen",
        ),
        ("note seen\n\n*From:* Tocsin <page@example.com>\n*Sent:* Monday\n*To:* Ana\n\nfull", "seen"),
        (
            "note ok\n\n\u53d1\u4ef6\u4eba\uff1aTocsin <page@example.com>\n\u65f6\u95f4\uff1a1\n\u6536\u4ef6\u4eba\uff1aAna",
            "ok",
        ),
        ("note seen\n\nOn Monday, Tocsin\n<page@example.com> wrote:\n\nDisk full", "seen"),
        (f"note seen\n\nopen {LINK} to answer\n\nDisk full", "seen"),
        ("note as follows:\nhost: db-1\nstate: down\nsince: 3", "as follows:\nhost: db-1\nstate: down\nsince: 3"),
        ("note \U0001f469\u200d\U0001f4bb looks", "\U0001f469\u200d\U0001f4bb looks"),
    ],
)
def test_a_note_goes_on_to_what_is_quoted_or_a_signature(text: str, note: str) -> None:
    assert read_mail_reply(text, "https://tocsin.example.com/p/") == Asked(Action.NOTE, note)


def delivery(kind: Kind = Kind.NEW_INCIDENT, attempt: int = 3) -> Delivery:
    target, time = Target(Channel.EMAIL, "ana@example.com"), datetime(2026, 11, 30, tzinfo=UTC)
    return Delivery("k", uuid.UUID(int=7), "acme", kind, NotificationJob(), target, attempt, time)


def test_an_address_names_the_attempt_and_is_known_again_by_each_key() -> None:
    old, new = b"o" * 32, b"n" * 32
    word, _, domain = CallbackUrls("", [old], "reply.example.com").reply_address(delivery()).partition("@")
    assert domain == "reply.example.com"
    assert len(word) <= 64
    rotated = CallbackUrls("", [new, old], "reply.example.com")
    for written in (word, word.upper(), word.capitalize()):
        assert rotated.read_reply_address(written) == (uuid.UUID(int=7), 3)
    assert CallbackUrls("", [new], "reply.example.com").read_reply_address(word) is None


def test_what_was_not_signed_here_is_no_address() -> None:
    urls = CallbackUrls("https://tocsin.example.com", [b"k" * 32], "reply.example.com")
    word = urls.reply_address(delivery()).partition("@")[0]
    swapped = word[:-1] + ("a" if word[-1] != "a" else "i")
    for wrong in ("", "ana", word[:-1], word + "a", swapped, "ä", word[::-1], "1", "a" * 58):
        assert urls.read_reply_address(wrong) is None, wrong
    assert urls.read_reply_address(urls.data(delivery(), Action.ACKNOWLEDGE)) is None, "of another purpose"


@pytest.mark.parametrize("kind", [Kind.RESOLUTION, Kind.ACKNOWLEDGMENT, Kind.TEST, Kind.MESSAGE, Kind.VERIFICATION])
def test_what_asks_for_no_answer_has_no_address(kind: Kind) -> None:
    assert not CallbackUrls("", [b"k" * 32], "reply.example.com").reply_address(delivery(kind))
    assert not CallbackUrls("https://tocsin.example.com", [b"k" * 32]).reply_address(delivery())


@pytest.mark.parametrize("piece", ["\u200b", "a\n", "x: <\n", "<a@", "a:\n\n", "> \n", "\u200b\n"])
def test_no_reply_holds_the_others_up(piece: str) -> None:
    """It is read where everything else waits. The bound is far above what it takes."""
    began = time.process_time()
    read_mail_reply(("note " + piece * reading.TEXT)[: reading.TEXT] + "x")
    assert time.process_time() - began < within(1.0)


@pytest.mark.parametrize(
    "line", ["-" * 16_000 + "x", "--" + "-- " * 5000 + "x", "_-" * 8000, "-" * 8000 + " " * 8000 + "x"]
)
def test_no_line_takes_long_to_be_read(line: str) -> None:
    """What is tried in three nested ways takes hours for it."""
    assert read_mail_reply(f"note mine\n{line}") == Asked.note(f"mine\n{line}")

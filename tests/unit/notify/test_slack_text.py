"""What people write at Slack becomes plain text, and which of Slack's events are replies of people."""

from datetime import UTC, datetime
from typing import Any

import pytest
from tocsin_notify.app.chat.slack_replies import SlackReply
from tocsin_notify.channels.slack_text import plain
from tocsin_notify.domain.action import LONGEST_NOTE, Asked
from tocsin_notify.http.slack_events import reply_in


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("a &lt;b&gt; &amp;amp; c", "a <b> &amp; c"),
        ("ask <@U0ANA> or <@U0BEN|ben>", "ask @U0ANA or @ben"),
        ("in <#C01|alerts> and <#C02> and <#C03|>", "in #alerts and #C02 and #C03"),
        ("<!here> <!subteam^S01|@sre> <!subteam^S02> <!date^1392734382^{date}|18 Feb>", "@here @sre @subteam 18 Feb"),
        ("<https://x.example/a?b&amp;c>", "https://x.example/a?b&c"),
        (
            "<https://x.example/a|the plot> <http://x.example|x.example>",
            "the plot (https://x.example/a) http://x.example",
        ),
        ("<mailto:a@x.example|a@x.example>", "mailto:a@x.example"),
        ("<unfinished <> > 1 < 2", "<unfinished  > 1 < 2"),
        ("", ""),
    ],
)
def test_slack_text_is_read_as_it_was_typed(written: str, read: str) -> None:
    assert plain(written) == read


def test_a_note_is_cut_to_what_escalation_takes() -> None:
    assert Asked.note(" a\r\nb\0 ").text == "a\nb"
    assert Asked.note("x" * LONGEST_NOTE).text == "x" * LONGEST_NOTE
    assert Asked.note("x" * 40_000).text == "x" * (LONGEST_NOTE - 1) + "…"


REPLY: dict[str, Any] = {
    "type": "message",
    "user": "UANA00001",
    "text": "mine",
    "ts": "1700000002.000100",
    "thread_ts": "1700000001.000100",
    "channel": "CALERTS01",
}
TOLD: dict[str, Any] = {"type": "event_callback", "event_id": "Ev0PV52K25", "event_time": 1_700_000_002}


def test_a_reply_of_a_person_is_read() -> None:
    time = datetime.fromtimestamp(1_700_000_002, UTC)
    read = SlackReply("CALERTS01", "1700000001.000100", "UANA00001", "mine", "Ev0PV52K25", time)
    for more in ({}, {"subtype": "thread_broadcast"}, {"subtype": "file_share", "files": []}):
        assert reply_in({**TOLD, "event": {**REPLY, **more}}) == read


@pytest.mark.parametrize(
    "more",
    [
        {"bot_id": "B01"},
        {"subtype": "bot_message"},
        {"subtype": "message_changed", "message": REPLY},
        {"subtype": "message_deleted", "previous_message": REPLY},
        {"subtype": "message_replied", "hidden": True},
        {"subtype": "channel_join"},
        {"subtype": ["thread_broadcast"]},
        {"hidden": True},
        {"type": "reaction_added"},
        {"user": None},
        {"user": "ana\n"},
        {"channel": "\0"},
        {"thread_ts": None},
        {"thread_ts": "1700000002.000100"},
        {"thread_ts": "1700000001"},
    ],
)
def test_what_is_no_reply_of_a_person_is_not(more: dict[str, Any]) -> None:
    assert reply_in({**TOLD, "event": {**REPLY, **more}}) is None


@pytest.mark.parametrize(
    "told",
    [
        {},
        {**TOLD},
        {**TOLD, "event": [REPLY]},
        {**TOLD, "event": REPLY, "type": "app_rate_limited"},
        {**TOLD, "event": REPLY, "event_id": ""},
        {**TOLD, "event": REPLY, "event_id": "x" * 65},
        {**TOLD, "event": REPLY, "event_time": "now"},
        {**TOLD, "event": REPLY, "event_time": -1},
        {**TOLD, "event": REPLY, "event_time": 1 << 60},
    ],
)
def test_what_does_not_look_like_an_event_is_no_reply(told: dict[str, Any]) -> None:
    assert reply_in(told) is None

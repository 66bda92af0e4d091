"""What people answer by text message, and which incident they mean."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin_notify.domain.action import Action
from tocsin_notify.domain.sms_reply import Reply, Request, Texted, code_of, meant, read_reply

ANA = "+4915112345678"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12a", Reply(Action.ACKNOWLEDGE, 12)),
        (" 12 A\n", Reply(Action.ACKNOWLEDGE, 12)),
        ("a12", Reply(Action.ACKNOWLEDGE, 12)),
        ("Ack 12", Reply(Action.ACKNOWLEDGE, 12)),
        ("ACK   012.", Reply(Action.ACKNOWLEDGE, 12)),
        ("ack", Reply(Action.ACKNOWLEDGE)),
        ("12e", Reply(Action.ESCALATE, 12)),
        ("escalate 999", Reply(Action.ESCALATE, 999)),
        ("7r", Reply(Action.RESOLVE, 7)),
        ("close 7", Reply(Action.RESOLVE, 7)),
        ("Stop", Request.STOP),
        ("  UNSUBSCRIBE ", Request.STOP),
        ("start", Request.START),
        ("Unstop", Request.START),
        ("stop it", Request.UNCLEAR),
        ("12", Request.UNCLEAR),
        ("12x", Request.UNCLEAR),
        ("1234a", Request.UNCLEAR),
        ("12a 13a", Request.UNCLEAR),
        ("not ack 12", Request.UNCLEAR),
        ("", Request.UNCLEAR),
        ("👍", Request.UNCLEAR),
    ],
)
def test_what_a_message_says(text: str, expected: object) -> None:
    assert read_reply(text) == expected


@given(st.text(max_size=200))
def test_any_text_is_read(text: str) -> None:
    read = read_reply(text)
    assert isinstance(read, Request) or read.code is None or 0 <= read.code <= 999


TEXTED = st.lists(st.builds(Texted, st.uuids(), st.booleans()), max_size=30, unique_by=lambda each: each.incident)


@given(TEXTED, st.sampled_from([Action.ACKNOWLEDGE, Action.ESCALATE]))
def test_a_code_means_only_incidents_that_have_it_and_waiting_ones_first(texted: list[Texted], action: Action) -> None:
    for each in texted:
        code = code_of(each.incident, ANA)
        assert 1 <= code <= 999
        found = meant(Reply(action, code), texted, ANA)
        same = [other for other in texted if code_of(other.incident, ANA) == code]
        waiting = [other.incident for other in same if not other.stopped]
        assert found == (waiting or [other.incident for other in same])
    assert meant(Reply(action), texted, ANA) == [each.incident for each in texted if not each.stopped]


def test_a_code_of_no_incident_means_nothing() -> None:
    incident = uuid.UUID(int=1)
    other = code_of(incident, ANA) % 999 + 1
    assert meant(Reply(Action.ACKNOWLEDGE, other), [Texted(incident, stopped=False)], ANA) == []

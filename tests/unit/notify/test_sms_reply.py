"""What people answer by text message, and which incident they mean."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin_notify.domain.action import Action
from tocsin_notify.domain.sms_reply import Reply, Request, Texted, candidates, code_of, meant, read_reply, shortened

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


TEXTED = st.lists(
    st.builds(Texted, st.uuids(), st.booleans(), st.booleans()), max_size=30, unique_by=lambda each: each.incident
)


@given(TEXTED, st.sampled_from([Action.ACKNOWLEDGE, Action.ESCALATE]))
def test_a_code_means_the_only_incident_that_has_it(texted: list[Texted], action: Action) -> None:
    for each in texted:
        code = code_of(each.incident, ANA)
        assert 1 <= code <= 999
        same = [other.incident for other in texted if code_of(other.incident, ANA) == code]
        assert candidates(Reply(action, code), texted, ANA) == same
        assert meant(Reply(action, code), texted, ANA) == (same[0] if len(same) == 1 else None)


@given(TEXTED)
def test_without_a_code_only_the_only_incident_is_meant_and_only_if_it_was_sent_lately(texted: list[Texted]) -> None:
    possible = [each for each in texted if each.lately or not each.stopped]
    assert candidates(Reply(Action.ACKNOWLEDGE), texted, ANA) == [each.incident for each in possible]
    found = meant(Reply(Action.ACKNOWLEDGE), texted, ANA)
    assert found == (possible[0].incident if len(possible) == 1 and possible[0].lately else None)


def test_an_incident_that_may_not_be_on_the_phone_yet_is_not_taken_for_an_answered_one() -> None:
    read = Texted(uuid.UUID(int=1), stopped=True, lately=True)
    under_way = Texted(uuid.UUID(int=2), stopped=False, lately=True)
    assert meant(Reply(Action.ACKNOWLEDGE), [read, under_way], ANA) is None
    assert meant(Reply(Action.ACKNOWLEDGE), [read], ANA) == read.incident


def test_a_code_that_a_waiting_and_an_answered_incident_share_means_neither() -> None:
    code = code_of(uuid.UUID(int=1), ANA)
    twin = next(each for each in (uuid.UUID(int=n) for n in range(2, 100_000)) if code_of(each, ANA) == code)
    texted = [Texted(uuid.UUID(int=1), stopped=True, lately=True), Texted(twin, stopped=False, lately=True)]
    assert meant(Reply(Action.ACKNOWLEDGE, code), texted, ANA) is None


def test_a_code_of_no_incident_means_nothing() -> None:
    incident = uuid.UUID(int=1)
    other = code_of(incident, ANA) % 999 + 1
    assert meant(Reply(Action.ACKNOWLEDGE, other), [Texted(incident, stopped=False, lately=True)], ANA) is None


def test_codes_have_one_to_three_digits_and_each_phone_has_its_own() -> None:
    incidents = [uuid.UUID(int=number) for number in range(20_000)]
    codes = [code_of(each, ANA) for each in incidents]
    assert (min(codes), max(codes)) == (1, 999)
    assert codes != [code_of(each, "+4915187654321") for each in incidents]


def test_the_answer_to_a_text_message_names_the_incident_without_half_a_word() -> None:
    title = "Checkout: 43 % of card payments fail with 502 from the acquirer since 03:02"
    assert shortened(title, 60) == "Checkout: 43 % of card payments fail with 502 from the..."
    assert shortened("Disk full", 60) == "Disk full"
    assert shortened("x" * 100, 60) == "x" * 57 + "..."
    assert all(len(shortened(title, length)) <= length for length in range(10, 90))

"""What is Twilio's own: signatures, numbers, codes, and evidence that only ever grows."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin_notify.channels.phones import BadNumber, read_number
from tocsin_notify.channels.twilio import TwilioAccount, is_signed
from tocsin_notify.channels.twilio_codes import CODES, Fault, refusal
from tocsin_notify.domain.attempt import Permanent, Retryable
from tocsin_notify.domain.evidence import Evidence, moves_on
from tocsin_testkit.twilio import sign

# The example of twilio.com/docs/usage/security, with the signature that stands there.
URL = "https://example.com/myapp.php?foo=1&bar=2"
FIELDS = [
    ("CallSid", "CA1234567890ABCDE"),
    ("Caller", "+12349013030"),
    ("Digits", "1234"),
    ("From", "+12349013030"),
    ("To", "+18005551212"),
]
SIGNATURE = "vNe7KK2kJwCsxc9K3OLkkKB3qqI="
ACCOUNT = TwilioAccount("AC1", ("new-token", "12345"))


def test_the_signature_of_the_documentation() -> None:
    assert is_signed(ACCOUNT, URL, FIELDS, SIGNATURE), "signed with the token that is being replaced"


def test_a_signature_with_the_port_or_without() -> None:
    bare, with_port = "https://example.com/a?b=1", "https://example.com:8443/a?b=1"
    assert is_signed(ACCOUNT, with_port, FIELDS, sign("12345", bare, dict(FIELDS)))
    assert is_signed(ACCOUNT, bare, FIELDS, sign("12345", "https://example.com:443/a?b=1", dict(FIELDS)))
    assert not is_signed(ACCOUNT, with_port, FIELDS, sign("12345", "https://example.com:9/a?b=1", dict(FIELDS)))


def test_a_field_that_comes_twice_counts_once_for_each_value() -> None:
    once = [*FIELDS, ("Media", "a"), ("Media", "b")]
    # As twilio.com/docs/usage/security has it: values of one name in their order, no value twice.
    signed = sign("12345", URL, {**dict(FIELDS), "Media": "aMediab"})
    assert is_signed(ACCOUNT, URL, once, signed)
    assert is_signed(ACCOUNT, URL, [*once, ("Media", "b")], signed)
    assert not is_signed(ACCOUNT, URL, [*FIELDS, ("Media", "a")], signed)


@pytest.mark.parametrize(
    ("url", "fields", "given"),
    [
        (URL + "0", FIELDS, SIGNATURE),
        (URL, FIELDS[1:], SIGNATURE),
        (URL, [*FIELDS, ("MessageStatus", "delivered")], SIGNATURE),
        (URL, FIELDS, ""),
        (URL, FIELDS, SIGNATURE[:-1]),
        (URL, FIELDS, "ünsigned"),
        (URL, FIELDS, "\udcff"),  # a byte that is no UTF-8, as the HTTP server hands it on
        (URL, FIELDS, sign("other", URL, dict(FIELDS))),
    ],
)
def test_what_is_not_signed(url: str, fields: list[tuple[str, str]], given: str) -> None:
    assert not is_signed(ACCOUNT, url, fields, given)


def test_without_a_token_nothing_is_signed() -> None:
    assert not is_signed(TwilioAccount("AC1"), URL, FIELDS, sign("", URL, dict(FIELDS)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("+4915112345678", "+4915112345678"),
        ("+49 (151) 123-456.78", "+4915112345678"),
        ("+1 500-555-0006", "+15005550006"),
        ("+390612345678", "+390612345678"),  # an Italian number keeps its zero
    ],
)
def test_a_number_has_one_form(text: str, expected: str) -> None:
    assert read_number(text) == expected


@pytest.mark.parametrize(
    "text", ["", "015112345678", "+12", "+1900555", "+123456", "+19005551234", "+4915112345678 ext. 5", "+999123456789"]
)
def test_numbers_that_are_refused(text: str) -> None:
    with pytest.raises(BadNumber):
        read_number(text)


@pytest.mark.parametrize("code", sorted(CODES))
def test_each_code_has_its_outcome(code: int) -> None:
    outcome = refusal(code, 400, f"400 {code}", None)
    fault, why = CODES[code]
    assert isinstance(outcome, Permanent if fault is Fault.RECIPIENT else Retryable)
    assert outcome.reason == f"400 {code} ({why})"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, Permanent),
        (404, Permanent),
        (401, Retryable),
        (403, Retryable),
        (429, Retryable),
        (500, Retryable),
        (503, Retryable),
    ],
)
def test_an_unknown_code_is_judged_by_its_status(status: int, expected: type) -> None:
    assert isinstance(refusal(99_999, status, str(status), 7.0), expected)


@given(st.lists(st.sampled_from(list(Evidence)), max_size=12))
def test_evidence_never_becomes_less_and_ends_where_any_order_ends(told: list[Evidence]) -> None:
    known = Evidence.UNKNOWN
    for each in told:
        before = known
        known = each if moves_on(known, each) else known
        assert not moves_on(known, before)
    order = list(Evidence)
    assert known is max(told, key=order.index, default=Evidence.UNKNOWN)


def test_a_receipt_that_says_the_same_moves_nothing() -> None:
    for one, other in itertools.product(Evidence, Evidence):
        assert not (moves_on(one, other) and moves_on(other, one))
        assert not moves_on(one, one)

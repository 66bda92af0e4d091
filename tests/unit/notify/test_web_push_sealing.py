"""Messages that only one browser can open, and the proof of who sends them."""

import base64
import json
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from tocsin_notify.channels.base import BadAddress
from tocsin_notify.channels.web_push_sealing import (
    LONGEST,
    Vapid,
    check_private_key,
    decode,
    encode,
    read_subscription,
    seal,
    write_subscription,
)
from tocsin_testkit.push_service import VAPID_PRIVATE_KEY, Browser

NOW = datetime(2026, 11, 29, 12, 30, tzinfo=UTC)
CURVE = ec.SECP256R1()
# RFC 8291, section 5.
KEY = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
AUTH = "BTBZMqHH6r4Tts7J_aSIgg"
EXAMPLE = {
    "endpoint": "https://push.example.net/push/JzLQ3raZJfFBR0aqvOMsLrt54w4rJUsV",
    "keys": {"p256dh": KEY, "auth": AUTH},
}


def test_the_example_of_rfc_8291_comes_out_to_the_byte() -> None:
    sender = ec.derive_private_key(int.from_bytes(decode("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"), "big"), CURVE)
    sealed = seal(
        b"When I grow up, I want to be a watermelon",
        read_subscription(json.dumps(EXAMPLE)),
        sender=sender,
        salt=decode("DGv6ra1nlYgDCS1FRnbzlw"),
    )
    assert encode(sealed) == (
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPT"
        "pK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
    )


@given(st.binary(max_size=LONGEST))
def test_a_message_is_opened_by_its_browser_and_by_no_other(message: bytes) -> None:
    browser, other = Browser("one", "https://push.example.net/1"), Browser("two", "https://push.example.net/1")
    wrapped = json.dumps({"body": base64.b64encode(message[: LONGEST // 2]).decode()}).encode()
    sealed = seal(wrapped, read_subscription(browser.subscription))
    assert len(sealed) <= 4096, "what every push service takes"
    assert browser.open(sealed) == json.loads(wrapped)
    with pytest.raises(InvalidTag):
        other.open(sealed)


def test_a_subscription_is_kept_in_one_form() -> None:
    given = json.dumps(EXAMPLE | {"expirationTime": None, "keys": {"auth": f"{AUTH}==", "p256dh": f"{KEY}="}}, indent=2)
    assert write_subscription(read_subscription(given)) == json.dumps(EXAMPLE, separators=(",", ":"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "must be what the browser's PushSubscription says"),
        ("[]", "must be what the browser's PushSubscription says"),
        ("null", "must be what the browser's PushSubscription says"),
        ('{"endpoint": "https://x.example"}', "must be what the browser's PushSubscription says"),
        ("[" * 2000, "must be what the browser's PushSubscription says"),
        (json.dumps(EXAMPLE | {"endpoint": 7}), "must have an endpoint that is a URL"),
        (json.dumps(EXAMPLE | {"keys": {"p256dh": KEY, "auth": "c2hvcnQ"}}), "must have a key auth of 16 bytes"),
        (json.dumps(EXAMPLE | {"keys": {"p256dh": KEY[:-4], "auth": AUTH}}), "must have a key p256dh that is a point"),
        (json.dumps(EXAMPLE | {"keys": {"p256dh": "A" * 87, "auth": AUTH}}), "must have a key p256dh that is a point"),
        (json.dumps(EXAMPLE | {"keys": {"p256dh": "ä!", "auth": AUTH}}), "must be what the browser's"),
    ],
)
def test_what_is_no_subscription_is_refused_in_words(given: str, said: str) -> None:
    with pytest.raises(BadAddress, match=said):
        read_subscription(given)


def test_the_push_service_can_check_who_sends_and_one_proof_serves_for_hours() -> None:
    vapid = Vapid(VAPID_PRIVATE_KEY, "mailto:operator@example.com")
    header = vapid.authorization("https://push.example.net:8443/push/x?y=1", NOW)
    token, _, key = header.removeprefix("vapid t=").partition(", k=")
    public = ec.EllipticCurvePublicKey.from_encoded_point(CURVE, decode(key))
    claims = jwt.decode(
        token, public, algorithms=["ES256"], audience="https://push.example.net:8443", options={"verify_exp": False}
    )
    assert claims["sub"] == "mailto:operator@example.com"
    left = datetime.fromtimestamp(claims["exp"], UTC) - NOW
    assert timedelta(hours=11) <= left <= timedelta(hours=24)
    assert vapid.authorization("https://push.example.net:8443/other", NOW + timedelta(minutes=20)) == header
    assert vapid.authorization("https://push.example.net:8443/other", NOW + timedelta(hours=1)) != header
    assert VAPID_PRIVATE_KEY not in repr(vapid)


@pytest.mark.parametrize("given", ["short", "A" * 43, "_" * 43, "ä" * 43, "not base64url!"])
def test_what_is_no_private_key_is_refused_when_the_service_starts(given: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        check_private_key(given)

"""Secrets at rest, codes, and what may be shown."""

import base64
import uuid

import pytest
from pydantic import SecretStr, ValidationError
from tocsin_notify.channels.base import Target
from tocsin_notify.channels.mail_server import MailServer
from tocsin_notify.domain.page import Channel
from tocsin_notify.domain.verification import code_for, is_right
from tocsin_notify.settings import NotifySettings
from tocsin_notify.store.cipher import Cipher, SecretLost

OLD, NEW = b"o" * 32, b"n" * 32
METHOD = uuid.uuid4()


def test_a_secret_comes_back_with_any_of_the_keys() -> None:
    closed = Cipher([OLD]).close("acme", METHOD, b"hush")
    assert b"hush" not in closed
    assert Cipher([NEW, OLD]).open("acme", METHOD, closed) == b"hush"


@pytest.mark.parametrize(("org", "method"), [("other", METHOD), ("acme", uuid.uuid4())])
def test_a_secret_moved_to_another_row_does_not_open(org: str, method: uuid.UUID) -> None:
    with pytest.raises(SecretLost):
        Cipher([OLD]).open(org, method, Cipher([OLD]).close("acme", METHOD, b"hush"))


def test_a_dropped_key_and_a_changed_byte_are_noticed() -> None:
    closed = Cipher([OLD]).close("acme", METHOD, b"hush")
    with pytest.raises(SecretLost, match="contactMethods"):
        Cipher([NEW]).open("acme", METHOD, closed)
    with pytest.raises(SecretLost):
        Cipher([OLD]).open("acme", METHOD, closed[:-1] + bytes([closed[-1] ^ 1]))


def test_codes_are_six_digits_of_their_own_verification_and_key() -> None:
    first, second = uuid.uuid4(), uuid.uuid4()
    key, other = Cipher([OLD]).code_key, Cipher([NEW]).code_key
    code = code_for(key, first)
    assert len(code) == 6
    assert code.isdigit()
    assert is_right(key, first, code)
    assert {code_for(key, second), code_for(other, first)} != {code}
    codes = {code_for(key, uuid.UUID(int=number)) for number in range(2000)}
    assert len(codes) > 1900, "they look like dice"


def test_secrets_do_not_show_when_printed() -> None:
    assert "hush" not in repr(Target(Channel.WEBHOOK, "https://x", b"hush", "k"))
    assert "hush" not in repr(MailServer("mail", password="hush", username="me"))


def settings(**fields: object) -> NotifySettings:
    keys = SecretStr("k1:" + "Ab3dEf6hIj9lMn" * 3 + "A")
    return NotifySettings(database_url=SecretStr("postgresql://x"), auth_signing_keys=keys, **fields)  # type: ignore[arg-type]


def test_secrets_are_closed_with_their_own_key_or_else_with_the_signing_keys() -> None:
    assert settings().encryption_keys == [base64.urlsafe_b64decode("Ab3dEf6hIj9lMn" * 3 + "A=")]
    own = settings(secret_key=SecretStr(f"{'a' * 32}, {'b' * 32}"))
    assert own.encryption_keys == [b"a" * 32, b"b" * 32]
    assert "aaaa" not in str(own.redacted())


@pytest.mark.parametrize(
    "fields",
    [
        {"secret_key": SecretStr("short")},
        {"critical_reserve": 300},
        {"lease_seconds": 12.0},
        {"SMTP_PORT": 0},
        {"SMTP_STARTTLS": "sometimes"},
    ],
)
def test_settings_that_make_no_sense_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        settings(**fields)

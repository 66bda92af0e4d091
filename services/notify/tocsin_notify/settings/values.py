"""What settings may hold that no bound of pydantic says."""

import re
from typing import Final

from pydantic import SecretStr

from tocsin_notify.channels.urls import BadUrl, read_url
from tocsin_notify.channels.web_push_sealing import check_private_key

_TENANT_GROUP: Final = re.compile(r"[^\s:,]+:(\*|S[A-Z0-9]{6,20})")
_SECRET_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{16,256}")


def parts(value: SecretStr) -> tuple[str, ...]:
    """What stands between commas."""
    return tuple(filter(None, (part.strip() for part in value.get_secret_value().split(","))))


def secret_tokens(value: SecretStr) -> SecretStr:
    """Secrets in the form that Telegram and others take in a header. Raises ValueError."""
    if not all(_SECRET_TOKEN.fullmatch(part) for part in parts(value)):
        raise ValueError("each secret must be 16 to 256 letters, digits, _ and -")
    return value


def vapid_key(value: SecretStr) -> SecretStr:
    """A key of web push. Raises ValueError."""
    check_private_key(value.get_secret_value())
    return value


def tenants_groups(value: str) -> str:
    """Pairs of a tenant and a group. Raises ValueError."""
    if not all(_TENANT_GROUP.fullmatch(part.strip()) for part in value.split(",") if value):
        raise ValueError("must be pairs of tenant and group separated by commas, such as acme:S0604QSJC or acme:*")
    return value


def base_url(value: str) -> str:
    """A URL that paths are appended to; empty stays empty. Raises ValueError."""
    if not value:
        return ""
    try:
        read_url(value, allow_private=True)
    except BadUrl as error:
        raise ValueError(str(error)) from error
    if not value.isascii() or set(value) & set("?#"):
        raise ValueError("must be an ASCII URL without a query, such as https://tocsin.example.com")
    return value.rstrip("/")

"""Signed alerts: a body that is posted with an integration's key is accepted only if its sender knows a secret as well.

A key stands in URLs, which proxies log. The secret is never sent.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.integration_service_pb2 import Integration
from tocsin_kit.auth import invalid_credential
from tocsin_kit.errors import TocsinError, invalid
from tocsin_kit.secret_boxes import Boxes

PURPOSE: Final = b"tocsin ingest signature secrets"
FRESH: Final = 300.0
"""Seconds by which the time of a signature may differ from the database's clock."""
_SCHEMES: Final = ("sha256=", "v1=", "v0=", "v1,")
"""What senders put in front of a signature."""
_LONGEST: Final = 1000


@dataclass(frozen=True, slots=True)
class SignatureRule:
    """How bodies are signed. `secret`: None: no configured key decrypts it any more."""

    header: str
    timestamp_header: str
    secret: bytes | None


def context_of(org_id: str, integration_id: str) -> str:
    """What the secret of an integration is bound to."""
    return f"{org_id}/integrations/{integration_id}"


def stored_secret(
    boxes: Boxes, org_id: str, integration_id: str, wanted: Integration, kept: bytes | None = None
) -> bytes | None:
    """The encrypted secret to store: a new one, or `kept` when none is given.

    Raises INVALID_FIELD when there is neither.
    """
    if not wanted.HasField("signature"):
        return None
    if wanted.signature.secret:
        return boxes.close(context_of(org_id, integration_id), wanted.signature.secret.encode())
    if kept is None:
        raise invalid("integration.signature.secret", "must be given, as there is none yet")
    return kept


def check_signature(rule: SignatureRule, headers: Mapping[str, str], body: bytes | bytearray, now: float) -> None:
    """`now`: in seconds since 1970.

    Raises CREDENTIAL_INVALID with the `header` in its metadata, and SERVICE_UNAVAILABLE when the secret is lost.
    """
    if rule.secret is None:
        raise TocsinError(
            ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE,
            "no key of INGEST_SECRET_KEY opens the secret of this integration; set the one that did, or set the secret anew",
            metadata={"service": "ingest"},
        )
    # Bytes of a header that are not UTF-8 are represented as halves of surrogate pairs.
    given = headers.get(rule.header, "").encode("utf-8", "replace").decode().strip()[:_LONGEST]
    if not given:
        raise invalid_credential(f"{rule.header} is missing, which must hold the body's signature", header=rule.header)
    signed = body
    if rule.timestamp_header:
        stamp = headers.get(rule.timestamp_header, "").strip()
        if not _is_fresh(stamp, now):
            raise invalid_credential(
                f"{rule.timestamp_header} must be the time in seconds since 1970, within 5 minutes",
                header=rule.timestamp_header,
            )
        signed = stamp.encode() + b":" + body
    digest = hmac.digest(rule.secret, signed, hashlib.sha256)
    for scheme in _SCHEMES:
        given = given.removeprefix(scheme)
    right = hmac.compare_digest(given.lower().encode(), digest.hex().encode())
    right |= hmac.compare_digest(given.encode(), base64.b64encode(digest))
    if not right:
        detail = f"{rule.header} is not the signature of this body with the integration's secret"
        raise invalid_credential(detail, header=rule.header)


def _is_fresh(stamp: str, now: float) -> bool:
    return stamp.isascii() and stamp.isdigit() and len(stamp) < 16 and abs(int(stamp) - now) <= FRESH

"""An independent reading of the webhook signature, from the contract's words alone."""

import hmac


def signature_holds(header: str, body: bytes, secret: str, *, key_id: str) -> bool:
    """Whether `Tocsin-Signature: t=…,kid=…,v1=…` proves this body with this secret."""
    fields = dict(part.split("=", 1) for part in header.split(","))
    expected = hmac.digest(secret.encode(), fields["t"].encode() + b"." + body, "sha256").hex()
    return fields["kid"] == key_id and hmac.compare_digest(fields["v1"], expected)

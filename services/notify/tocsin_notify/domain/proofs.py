"""Comparison of signatures that this service, or a holder of the same secret, has made."""

import hmac
from collections.abc import Iterable


def is_any(proofs: Iterable[bytes], given: bytes) -> bool:
    """Whether `given` is one of these, one for each key that holds. Compares with all of them, each in constant time."""
    right = False
    for proof in proofs:
        right |= hmac.compare_digest(proof, given)
    return right

"""What is known of a message after the provider accepted it."""

from dataclasses import dataclass
from typing import Final

from tocsin_notify.domain.page import DeathReason
from tocsin_notify.domain.words import Word


class Evidence(Word):
    """In the order in which it may change: only to a later one. Proof of the delivery replaces a failure."""

    UNKNOWN = ""
    ACCEPTED = "accepted"
    FAILED = "failed"
    DELIVERED = "delivered"
    READ = "read"
    ANSWERED = "answered"


_ORDER: Final = {evidence: place for place, evidence in enumerate(Evidence)}


@dataclass(frozen=True, slots=True)
class Receipt:
    """A later report of a provider about one attempt.

    `code` is its own word and error code. `death` of a failure says whether trying again may help: ATTEMPTS_EXHAUSTED if
    so, PERMANENT_FAILURE if not. `reason` is the failure in words.
    """

    evidence: Evidence
    provider_id: str
    code: str
    reason: str = ""
    death: DeathReason = DeathReason.ATTEMPTS_EXHAUSTED


def moves_on(known: Evidence, told: Evidence) -> bool:
    """Whether the receipt adds something to what is known. Receipts may be late, repeated and out of order."""
    return _ORDER[told] > _ORDER[known]

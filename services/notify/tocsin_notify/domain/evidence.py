"""What is known of a message after the provider took it."""

from dataclasses import dataclass
from typing import Final

from tocsin_notify.domain.page import DeathReason
from tocsin_notify.domain.words import Word


class Evidence(Word):
    """In the order in which it may change: to a later one only. A failure is outdone by proof that it arrived."""

    UNKNOWN = ""
    ACCEPTED = "accepted"
    FAILED = "failed"
    DELIVERED = "delivered"
    READ = "read"
    ANSWERED = "answered"


_ORDER: Final = {evidence: place for place, evidence in enumerate(Evidence)}


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a provider said later about one attempt.

    `code` is its own word and error code. `death` of a failure says whether trying again may help: ATTEMPTS_EXHAUSTED if
    so, PERMANENT_FAILURE if not. `reason` is the failure in words.
    """

    evidence: Evidence
    provider_id: str
    code: str
    reason: str = ""
    death: DeathReason = DeathReason.ATTEMPTS_EXHAUSTED


def moves_on(known: Evidence, told: Evidence) -> bool:
    """Whether the receipt says more than is known. Receipts come late, twice and out of order."""
    return _ORDER[told] > _ORDER[known]

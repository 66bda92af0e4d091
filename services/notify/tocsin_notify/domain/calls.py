"""Decides from the end of a call whether a person was reached.

Only two things prove it: a key was pressed, or the provider detected a person. A call that is not picked up, that a
mailbox takes, or that ended without either sign, has reached no one. The second call in a row is also the last one.
Phones in "do not disturb" mode let a number through that calls again within three minutes; a person who does not hear
that call will not hear a third.
"""

from dataclasses import dataclass
from typing import Final

from tocsin_notify.domain.evidence import Evidence
from tocsin_notify.domain.page import DeathReason

_LAST_CALL: Final = 2
_HUMAN: Final = "human"
_MACHINES: Final = ("machine", "fax")
_NOT_REACHED: Final = {
    "busy": "the line is busy",
    "no-answer": "nobody picked up",
    "canceled": "the call was cancelled",
    "failed": "the call could not be put through",
}
# RFC 3261 §21: the number is unknown, gone, incomplete, or exists nowhere. RFC 8197: the call is unwanted.
_NO_NUMBER: Final = frozenset({"404", "410", "484", "604", "607"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state of the call now; see `Receipt`."""

    evidence: Evidence
    code: str
    reason: str = ""
    death: DeathReason = DeathReason.ATTEMPTS_EXHAUSTED


def answered_by(who: str, call: int) -> Verdict | None:
    """The provider has classified what picked up; `who` is its word for it. None: it cannot tell.

    `call`: which call in a row it is, from 1.
    """
    if who == _HUMAN:
        return Verdict(Evidence.DELIVERED, who)
    if who.startswith(_MACHINES):
        what = "a fax machine" if who == "fax" else "a mailbox or an answering machine"
        return Verdict(Evidence.FAILED, who, f"{what} took the call: {who}", _death(call))
    return None


def ended(status: str, who: str, sip_code: str, call: int) -> Verdict | None:
    """The call is over. `sip_code`: the carrier's code, if there is one. None: a status that is not known."""
    code = " ".join(filter(None, (status, who if status == "completed" else sip_code)))[:64]
    if status == "completed":
        heard = answered_by(who, call)
        if heard is not None:
            return Verdict(heard.evidence, code, heard.reason, heard.death)
        return Verdict(
            Evidence.FAILED, code, "the call ended without a key, and it is unknown who took it", _death(call)
        )
    if status not in _NOT_REACHED:
        return None
    gone = status == "failed" and sip_code in _NO_NUMBER
    death = DeathReason.PERMANENT_FAILURE if gone else _death(call)
    return Verdict(Evidence.FAILED, code, f"{_NOT_REACHED[status]}: {code}", death)


def _death(call: int) -> DeathReason:
    return DeathReason.PERMANENT_FAILURE if call >= _LAST_CALL else DeathReason.ATTEMPTS_EXHAUSTED

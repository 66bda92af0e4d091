"""One alert as it arrived: normalised and routed, ready to be decided."""

from dataclasses import dataclass
from enum import IntEnum

from tocsin_ingest.domain.severity import Severity


class Action(IntEnum):
    """What the sender wants, numbered as `tocsin.ingest.v1.AlertAction` (a test compares them)."""

    TRIGGER = 1
    ACKNOWLEDGE = 2
    RESOLVE = 3


@dataclass(frozen=True, slots=True)
class Message:
    """`content` is the sender's own words, to be shown and never read by a decision; `actor` is who sent it."""

    integration_id: str
    dedup_key: str
    action: Action
    actor: str
    group_key: str
    policy: str
    severity: Severity
    suppress: bool
    summary: str
    source: str
    content: bytes

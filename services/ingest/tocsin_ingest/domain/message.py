"""One alert as it arrived: normalised and routed, ready to be decided."""

from datetime import datetime, timedelta
from enum import IntEnum
from uuid import UUID

from tocsin_ingest.domain.expiry import Expiry
from tocsin_ingest.domain.severity import Severity
from tocsin_ingest.domain.silences import Matched
from tocsin_ingest.domain.thresholds import Threshold
from tocsin_ingest.domain.values import value


class Action(IntEnum):
    """What the sender wants, numbered as `tocsin.ingest.v1.AlertAction` (a test compares them)."""

    TRIGGER = 1
    ACKNOWLEDGE = 2
    RESOLVE = 3
    NOTE = 4


@value
class Message:
    """`key` tells alerts apart and `group_key` incidents, see `tocsin_ingest.domain.fingerprint`.

    `content` is the sender's own text, to be shown and never read by a decision; `actor` is the sender. `started` and `ended`:
    when this firing began and ended by the sender's clock, of senders that tell. They are compared with others of the same key
    only. `silences`: those that match it, whether or not they are in force. `labels`: as they came, where a silence matches it,
    or its rule may keep it, and `content` holds them shortened; a serialized `AlertInput` with nothing else set.

    `seen` is set when no sender sent it, but a held alert is decided again: the number of messages that the alert stood for then.

    `expiry`: of a trigger whose alert is over by itself unless it is sent again. `because`: of a resolve by neither a sender nor
    a person. `pause`: of an alert that opens no incident before it has fired for so long. `threshold`: of one that opens an
    incident only when so many triggers of its group have come. `group_window`: of one that joins the open incident of its group
    only so long after the last one that did; None: however late it comes. `dedup_window`: of a trigger that repeats the alert of
    its key only so long after the last one; None: until that is resolved. `route`: the rules that routed it, stored for
    explanations and never read by a decision; fields of a serialized `AlertDecision`.
    """

    integration_id: str
    dedup_key: str
    key: UUID
    group_key: UUID
    action: Action
    actor: str
    policy: str
    severity: Severity
    suppress: bool
    summary: str
    source: str
    content: bytes
    started: datetime | None = None
    ended: datetime | None = None
    silences: tuple[Matched, ...] = ()
    labels: bytes | None = None
    seen: int | None = None
    expiry: Expiry | None = None
    because: str = ""
    pause: timedelta | None = None
    threshold: Threshold | None = None
    route: bytes = b""
    group_window: timedelta | None = None
    dedup_window: timedelta | None = None

    @property
    def waits(self) -> bool:
        """Whether its rule may keep it for a while."""
        return self.pause is not None or self.threshold is not None

    def saying(self, summary: str, content: bytes) -> "Message":
        """The same message with another content. Written out: `replace` takes several times as long."""
        return Message(
            self.integration_id,
            self.dedup_key,
            self.key,
            self.group_key,
            self.action,
            self.actor,
            self.policy,
            self.severity,
            self.suppress,
            summary,
            self.source,
            content,
            self.started,
            self.ended,
            self.silences,
            self.labels,
            self.seen,
            self.expiry,
            self.because,
            self.pause,
            self.threshold,
            self.route,
            self.group_window,
            self.dedup_window,
        )

"""The events of an escalation."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from tocsin_escalation.domain.policy import Policy, Target


@dataclass(frozen=True, slots=True)
class Started:
    """The incident was opened. `policy` is the one to run on; None when not even a fallback is usable.

    `fallback_cause` says why the policy asked for is not the one that runs; empty when it is. `anew_because` is set when the
    incident was opened before and is not known here (any more); `resolved_by` when it is resolved already. `left_out`: parts of the
    alert that ingest left out.
    """

    policy: Policy | None
    fallback_cause: str = ""
    anew_because: str = ""
    resolved_by: str = ""
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AlertsAdded:
    """More alerts were folded into the incident.

    `source`: the merged incident that they were folded into, if its target is this one. They are counted there, not here.
    """

    alert_count: int
    severity: int
    summary: str
    new_keys: int
    source: UUID | None = None


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer is due, according to Redis or the sweep."""

    timer_id: UUID
    generation: int


@dataclass(frozen=True, slots=True)
class TimerPromoted:
    """An operator makes its timer due now."""

    actor: str


@dataclass(frozen=True, slots=True)
class TimerRemoved:
    """An operator takes its timer out of the queue."""

    actor: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A person works on it. `via`: the channel of the answer, in words; empty for a call of the API.

    `source`: the incident that they answered, if it is merged into this one. The same holds for `Snoozed`, `Escalated` and
    `Resolved`.
    """

    actor: str
    via: str = ""
    source: UUID | None = None


@dataclass(frozen=True, slots=True)
class Unacknowledged:
    """A person gives it back."""

    actor: str


@dataclass(frozen=True, slots=True)
class Snoozed:
    """Quiet for `duration`."""

    actor: str
    duration: timedelta
    via: str = ""
    source: UUID | None = None


@dataclass(frozen=True, slots=True)
class Escalated:
    """A person wants the next level (0) or a named one now."""

    actor: str
    level: int = 0
    via: str = ""
    source: UUID | None = None


@dataclass(frozen=True, slots=True)
class Reassigned:
    """A person hands it to other targets, or to another policy."""

    actor: str
    targets: tuple[Target, ...] = ()
    policy: Policy | None = None


@dataclass(frozen=True, slots=True)
class RespondersAdded:
    """A person asks for further people, in addition to those who are paged already."""

    actor: str
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Restarted:
    """A person starts the policy again. `policy` is its present version; None when it was deleted: then the frozen one runs."""

    actor: str
    policy: Policy | None = None


@dataclass(frozen=True, slots=True)
class Edited:
    """A person corrects facts of the incident. None leaves a fact as it is."""

    actor: str
    title: str | None = None
    severity: int | None = None


@dataclass(frozen=True, slots=True)
class Noted:
    """A person or a sender adds a note. `source`: the incident of the note, if it is merged into this one.

    `via`: the channel of a person's note, in words; empty for a call of the API.
    """

    actor: str
    text: str
    source: UUID | None = None
    via: str = ""


@dataclass(frozen=True, slots=True)
class Resolved:
    """Ingest says that the incident is resolved. `because` is set when neither a sender nor a person resolved it."""

    actor: str
    because: str = ""
    via: str = ""
    source: UUID | None = None


@dataclass(frozen=True, slots=True)
class Merged:
    """A person merges it into the incident `into`. `along`: it was merged before into an incident that is merged now."""

    actor: str
    into: UUID
    along: bool = False


@dataclass(frozen=True, slots=True)
class MergedFrom:
    """Another incident, `source`, was merged into this one."""

    actor: str
    source: UUID
    title: str
    severity: int
    alert_count: int


@dataclass(frozen=True, slots=True)
class Unmerged:
    """It is taken out of the merge: by a person, or `because` the target ended."""

    actor: str
    because: str = ""


@dataclass(frozen=True, slots=True)
class UnmergedFrom:
    """`source` is no longer merged into this incident, because a person took it out, or because it is `over`."""

    actor: str
    source: UUID
    over: bool = False


class OutcomeKind(StrEnum):
    """The outcome of a page."""

    UNREACHABLE = "unreachable"
    FAILED = "failed"
    DELAYED = "delayed"
    SENT = "sent"
    DELIVERED = "delivered"


@dataclass(frozen=True, slots=True)
class PageOutcome:
    """Notify reports an outcome of a page.

    `channel` is a word for people, empty when no channel was tried. `notification` is notify's name of the notification; empty
    when none could be made. `undelivered`, of a failure: a provider had accepted the page, and it was not delivered.
    """

    page: UUID
    user: str
    kind: OutcomeKind
    level: int = 0
    channel: str = ""
    attempts: int = 0
    reason: str = ""
    notification: str = ""
    undelivered: bool = False

    @property
    def ends(self) -> bool:
        """Whether the page ended without having reached a person."""
        return self.kind in (OutcomeKind.UNREACHABLE, OutcomeKind.FAILED)

    @property
    def key(self) -> str:
        """The same outcome has the same key however often it is reported."""
        return f"{self.page}/{self.kind}/{self.notification}"


@dataclass(frozen=True, slots=True)
class StopForgotten:
    """The pages of the present generation are stopped, up to `generation`: whoever did that is forgotten, and nobody can be paged.

    A standby took over that lacked the last changes, or the database was restored from a backup.
    """

    generation: int


@dataclass(frozen=True, slots=True)
class PageStopped:
    """Notify has stopped a page of an earlier generation, whose user had passed the incident on: no outcome of it follows."""

    page: UUID


@dataclass(frozen=True, slots=True)
class PageForgotten:
    """Notify got the page and does not know it any more: its database was restored from a backup.

    The other fields describe how the page was made. `first`: it was one of the incident's first pages.
    """

    page: UUID
    user: str
    level: int
    repeat: int
    generation: int
    planned_time: datetime
    actor: str = ""
    first: bool = False


Event = (
    Started
    | AlertsAdded
    | TimerFired
    | TimerPromoted
    | TimerRemoved
    | Acknowledged
    | Unacknowledged
    | Snoozed
    | Escalated
    | Reassigned
    | RespondersAdded
    | Restarted
    | Edited
    | Noted
    | Merged
    | MergedFrom
    | Unmerged
    | UnmergedFrom
    | Resolved
    | PageOutcome
    | PageForgotten
    | StopForgotten
    | PageStopped
)

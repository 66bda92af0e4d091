"""Deduplication as a beginner would write it: lists, loops and no batches. What the real one is compared with."""

from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from tocsin_ingest.domain.decision import Outcome
from tocsin_ingest.domain.fingerprint import alert_key, group_key
from tocsin_ingest.domain.message import Action, Message
from tocsin_ingest.domain.severity import Severity
from tocsin_ingest.domain.thresholds import Threshold
from tocsin_kit.ids import id_of

ORG = "acme"
INTEGRATION = "prom"


def message(
    key: str,
    action: Action = Action.TRIGGER,
    *,
    group: str = "",
    severity: Severity = Severity.ERROR,
    suppress: bool = False,
    org: str = ORG,
    integration: str = INTEGRATION,
    actor: str = "integrations/prom",
    pause: timedelta | None = None,
    threshold: Threshold | None = None,
    window: timedelta | None = None,
    dedup: timedelta | None = None,
) -> Message:
    """A message; alerts with the same `group` share an incident, within the `window`."""
    by = ("group",) if group else ()
    return Message(
        integration_id=integration,
        dedup_key=key,
        key=id_of(alert_key(org, integration, key)),
        group_key=id_of(group_key(org, integration, key, "policies/p", by, {"group": group})),
        action=action,
        actor=actor,
        policy="policies/p",
        severity=severity,
        suppress=suppress,
        summary=f"{key} is wrong",
        source="db1",
        content=b"",
        pause=pause,
        threshold=threshold,
        group_window=window,
        dedup_window=dedup,
    )


@dataclass
class NaiveIncident:
    group_key: UUID
    severity: Severity
    messages: int = 0
    keys: set[str] = field(default_factory=set)
    open: bool = True


class Naive:
    """Every incident there ever was, and the live alerts by key: [count, incident or None]."""

    def __init__(self) -> None:
        self.incidents: list[NaiveIncident] = []
        self.live: dict[str, tuple[int, NaiveIncident | None]] = {}

    def send(self, sent: Message) -> tuple[Outcome, int, bool]:
        """What must come out: outcome, count, whether the incident closed."""
        count, incident = self.live.get(sent.dedup_key, (0, None))
        if sent.action is Action.ACKNOWLEDGE:
            return (Outcome.ACKNOWLEDGED, count, False) if incident else (Outcome.IGNORED, 0, False)
        if sent.action is Action.NOTE:
            return (Outcome.NOTED, count, False) if incident else (Outcome.IGNORED, 0, False)
        if sent.action is Action.RESOLVE:
            if sent.dedup_key not in self.live:
                return Outcome.IGNORED, 0, False
            del self.live[sent.dedup_key]
            if incident is None:
                return Outcome.RESOLVED, count, False
            incident.keys.remove(sent.dedup_key)
            incident.open = bool(incident.keys)
            return Outcome.RESOLVED, count, not incident.open
        if incident is None:
            if sent.suppress:
                self.live[sent.dedup_key] = (count + 1, None)
                return Outcome.SUPPRESSED, count + 1, False
            open_ones = [each for each in self.incidents if each.open and each.group_key == sent.group_key]
            outcome = Outcome.GROUPED if open_ones else Outcome.OPENED
            if not open_ones:
                self.incidents.append(NaiveIncident(sent.group_key, sent.severity))
            incident = (open_ones or self.incidents[-1:])[0]
        else:
            outcome = Outcome.DEDUPLICATED
        incident.messages += 1
        incident.keys.add(sent.dedup_key)
        incident.severity = min(incident.severity, sent.severity)  # 1 is critical
        self.live[sent.dedup_key] = (count + 1, incident)
        return outcome, count + 1, False

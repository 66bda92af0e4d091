"""What would become of an alert. Decided by the code that decides about alerts that come in, from what is committed now."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.alert_pb2 import AlertInput
from tocsin.ingest.v1.integration_service_pb2 import Integration
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import invalid, not_found
from tocsin_kit.ids import format_name, new_id

from tocsin_ingest.app.compile_rules import compile_usable_rules
from tocsin_ingest.app.directory import AHEAD, Routing, usable_silences
from tocsin_ingest.app.resolve_quiet import words
from tocsin_ingest.app.route_alert import routed
from tocsin_ingest.app.silences import LONGEST
from tocsin_ingest.domain.decide import Decision, Outcome
from tocsin_ingest.domain.message import Message
from tocsin_ingest.domain.routing import Operator, Subject, Trial, trials
from tocsin_ingest.domain.severity import Severity
from tocsin_ingest.domain.snapshot import Snapshot
from tocsin_ingest.store import integrations, silences
from tocsin_ingest.store.integrations import IntegrationRow
from tocsin_ingest.store.silences import MatchersRow
from tocsin_ingest.store.snapshot import look

_PAST: Final = timedelta(minutes=1)
"""A caller's clock may be slow. What was in force earlier is not kept."""
_SHOWN: Final = 200
"""Characters of a value that a matcher looked at."""
_SIGNS: Final = {Operator.EQUAL: "=", Operator.NOT_EQUAL: "!=", Operator.MATCHES: "=~", Operator.NOT_MATCHES: "!~"}


@dataclass(frozen=True, slots=True)
class Tried:
    """A rule that was tried. `place`: in the integration's list; `value`: what its unmet matcher looked at."""

    place: int
    trial: Trial
    value: str


@dataclass(frozen=True, slots=True)
class Simulated:
    """`new_alert`, `new_incident`: there is none yet that could be named."""

    message: Message
    decision: Decision
    tried: Sequence[Tried]
    cut: Sequence[str]
    """What was too expensive for the alert and so not looked at to the end: rules, silences."""
    new_alert: bool
    new_incident: bool
    time: datetime

    @property
    def rule(self) -> Tried | None:
        """The rule that decides; None: the default route does."""
        return next((each for each in self.tried if each.trial.unmet is None), None)

    @property
    def group_by(self) -> tuple[str, ...]:
        """The labels whose alerts share an incident."""
        return () if self.rule is None else self.rule.trial.rule.group_by


async def simulate(
    database: Database, org_id: str, integration_id: str, actor: str, alert: AlertInput, time: datetime | None
) -> Simulated:
    """`alert` was validated. Raises INTEGRATION_NOT_FOUND, INVALID_FIELD for a time that is over or too far ahead."""
    async with database.transaction(org_id) as tx:
        now = await tx.now()
        if time is not None:
            if not now - _PAST <= time <= now + LONGEST:
                raise invalid("time", f"must lie within the next {LONGEST.days} days")
            now = max(now, time)
        rows = await _rows(tx, integration_id, now)
    # Expressions are compiled and tried while no connection waits for it.
    routing, places = _routing(integration_id, *rows)
    message, rules_cut, silences_cut = routed(org_id, actor, routing, alert)
    snapshot = Snapshot(new_id)
    async with database.transaction(org_id) as tx:
        await look(tx, snapshot, message, now)
    [decision] = snapshot.apply([message])
    cut = [name for name, was in (("routing rules", rules_cut), ("silences", silences_cut)) if was]
    return Simulated(
        message,
        decision,
        _tried(routing, places, alert),
        cut,
        decision.alert is None or snapshot.is_new(decision.alert.id),
        decision.incident is None or snapshot.is_new(decision.incident.id),
        now,
    )


async def _rows(tx: Tx, integration_id: str, now: datetime) -> tuple[list[MatchersRow], IntegrationRow | None]:
    """Silences of which an alert of then would be told (others would use up the steps of its expressions), and the integration."""
    quiet = await silences.about(tx, AHEAD, now)
    if not integration_id:
        return quiet, None
    row = await integrations.get(tx, integration_id)
    if row is None:
        raise not_found(ErrorReason.ERROR_REASON_INTEGRATION_NOT_FOUND, format_name("integrations", integration_id))
    return quiet, row


def _routing(
    integration_id: str, quiet: Sequence[MatchersRow], row: IntegrationRow | None
) -> tuple[Routing, list[int]]:
    """How alerts of the integration are routed by what is committed, and the places of the rules that can be used."""
    if row is None:
        return Routing("", None, (), "", usable_silences(quiet)), []
    stored = Integration.FromString(row.routing_rules).routing_rules
    rules, left_out = compile_usable_rules(stored)
    places = [place for place in range(len(stored)) if place not in left_out]
    return Routing(integration_id, row.version_key, rules, row.default_policy, usable_silences(quiet)), places


def _tried(routing: Routing, places: Sequence[int], alert: AlertInput) -> list[Tried]:
    subject = Subject(
        summary=alert.summary, source=alert.source, severity=Severity(alert.severity), labels=dict(alert.labels)
    )
    found = trials(routing.rules, subject)
    return [
        Tried(place, trial, "" if trial.unmet is None else subject.value(trial.unmet.label)[:_SHOWN])
        for place, trial in zip(places, found, strict=False)
    ]


def explain(simulated: Simulated) -> list[str]:
    """In words, a statement a line."""
    lines = [f"rule {each.place} does not match: {_unmet(each)}" for each in simulated.tried if each.trial.unmet]
    lines += [
        f"the {name} take too long for this alert: those that were not tried are left out" for name in simulated.cut
    ]
    message, policy = simulated.message, simulated.message.policy
    way = (
        "no rule matches: the default route is taken"
        if simulated.rule is None
        else f"rule {simulated.rule.place} matches"
    )
    lines.append(
        f"{way}: severity {message.severity.name.lower()}, "
        + (f"policy {policy}" if policy else "the tenant's fallback policy")
    )
    if simulated.group_by:
        lines.append(f"alerts that agree in {', '.join(simulated.group_by)} share an incident")
    in_force = simulated.decision.alert.hold if simulated.decision.alert is not None else None
    lines += [
        f"silences/{each.id} matches, and is not the one that holds it back at {simulated.time:%Y-%m-%d %H:%M} UTC"
        for each in message.silences
        if in_force is None or each.id != in_force.silence_id
    ]
    return [*lines, _outcome(simulated)]


def _unmet(tried: Tried) -> str:
    matcher = tried.trial.unmet
    assert matcher is not None, "only of rules that do not match"
    return f"{matcher.label} {_SIGNS[matcher.operator]} {matcher.value!r} does not hold for {tried.value!r}"


def _outcome(simulated: Simulated) -> str:
    decision = simulated.decision
    incident = decision.incident
    named = "" if incident is None or simulated.new_incident else f"incidents/{incident.id}"
    match decision.outcome:
        case Outcome.OPENED:
            return "a new incident would be opened, and its people paged"
        case Outcome.DEDUPLICATED:
            return f"its key is firing already: it would be counted in {named}, and nobody paged again"
        case Outcome.GROUPED:
            return f"it would join {named}, and nobody would be paged again"
        case Outcome.RESOLVED:
            over = f", and {named} with it" if decision.incident_resolved else ""
            return f"its alert would be over{over}"
        case Outcome.SUPPRESSED:
            return "the rule suppresses it: it would be kept, and nobody paged"
        case Outcome.ACKNOWLEDGED:
            return f"{named} would be acknowledged"
        case Outcome.NOTED:
            return f"the timeline of {named} would have the note"
        case Outcome.SILENCED:
            assert decision.alert is not None
            assert decision.alert.hold is not None
            until = f"{decision.alert.hold.until:%Y-%m-%d %H:%M} UTC"
            return (
                f"silences/{decision.alert.hold.silence_id} holds it back until {until}: nobody would be paged before"
            )
        case Outcome.PAUSED:
            assert decision.alert is not None
            assert decision.alert.pause is not None
            until = f"{decision.alert.pause.until:%Y-%m-%d %H:%M:%S} UTC"
            return f"the rule pauses it: nobody would be paged unless it still fires at {until}"
        case Outcome.BELOW_THRESHOLD:
            assert decision.alert is not None
            assert decision.alert.below is not None
            below = decision.alert.below
            within = words(below.threshold.window)
            return f"it would be trigger {below.triggers} of {below.threshold.count} in {within}: nobody would be paged yet"
        case Outcome.IGNORED:
            return "its key is not firing: nothing would happen"

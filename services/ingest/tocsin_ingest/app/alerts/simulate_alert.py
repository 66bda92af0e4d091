"""The effect that an alert would have. Decided by the same code as received alerts, from the committed state."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from tocsin.ingest.v1.alert_pb2 import AlertInput
from tocsin_kit.budgets import Budgets
from tocsin_kit.db.pool import Database
from tocsin_kit.errors import invalid
from tocsin_kit.ids import new_id

from tocsin_ingest.app.alerts.admission import ALERTS
from tocsin_ingest.app.alerts.in_words import rules_in_words, time_in_words, unless_over
from tocsin_ingest.app.alerts.route_alert import routed
from tocsin_ingest.app.incidents.resolve_quiet import words
from tocsin_ingest.app.integrations.directory import Directory
from tocsin_ingest.app.silences.compiled_silences import AHEAD
from tocsin_ingest.app.silences.silences import LONGEST
from tocsin_ingest.domain.decision import Decision, Outcome
from tocsin_ingest.domain.message import Message
from tocsin_ingest.domain.routing import Operator, Route, Rule, Trial, states
from tocsin_ingest.domain.silences import Silence
from tocsin_ingest.domain.snapshot import Snapshot
from tocsin_ingest.store import silences
from tocsin_ingest.store.alerts.snapshot import look

_PAST: Final = timedelta(minutes=1)
"""A caller's clock may be slow. The former state of rules and silences is not kept."""
_COMPILING: Final = 20
"""The cost of a regular expression that is compiled for a time other than now, in alerts; at most what half a second allows."""
_SHOWN: Final = 200
"""Characters of a shown value."""
_SIGNS: Final = {Operator.EQUAL: "=", Operator.NOT_EQUAL: "!=", Operator.MATCHES: "=~", Operator.NOT_MATCHES: "!~"}


@dataclass(frozen=True, slots=True)
class Simulated:
    """`new_alert`, `new_incident`: they have no name yet."""

    message: Message
    route: Route
    decision: Decision
    tried: Sequence[Trial]
    cut: Sequence[str]
    """Rules or silences that were too expensive for the alert and were not evaluated completely."""
    new_alert: bool
    new_incident: bool
    time: datetime
    now: datetime
    """The database's time; `time` is the same, or later if the caller asked for that."""

    def taken(self, rule: Rule) -> Sequence[str]:
        """The fields of the rule that the route has of it."""
        route = self.route
        if route.contributions:
            return next((each.taken for each in route.contributions if each.rule is rule), ())
        return states(rule) if rule is route.rule else ()


class Simulation:
    """It costs as much as an alert, and counts as one: it uses the rules and silences that are compiled for alerts."""

    def __init__(self, database: Database, directory: Directory, budgets: Budgets) -> None:
        self._database = database
        self._directory = directory
        self._budgets = budgets

    async def of(
        self, org_id: str, integration_id: str, actor: str, alert: AlertInput, time: datetime | None
    ) -> Simulated:
        """`alert` was validated. Raises INTEGRATION_NOT_FOUND, RATE_LIMITED, INVALID_FIELD (`time` is over, or too far ahead)."""
        self._budgets.take(org_id, ALERTS)
        routing = await self._directory.routing(org_id, integration_id)
        if time is not None:
            routing = replace(routing, silences=await self._silences_at(org_id, time))
        tried: list[Trial] = []
        message, route, silences_cut = routed(org_id, actor, routing, alert, tried=tried)
        snapshot = Snapshot(new_id)
        async with self._database.transaction(org_id) as tx:
            now = await tx.now()
            then = now if time is None else max(now, time)
            await look(tx, snapshot, message, then)
        [decision] = snapshot.apply([message])
        cut = [name for name, was in (("routing rules", route.cut), ("silences", silences_cut)) if was]
        return Simulated(
            message,
            route,
            decision,
            tried,
            cut,
            decision.alert is None or snapshot.is_new(decision.alert.id),
            decision.incident is None or snapshot.is_new(decision.incident.id),
            then,
            now,
        )

    def pay_for_pages(self, org_id: str) -> None:
        """A plan of weeks costs escalation more than an alert: it counts as as many alerts as half a second allows. Raises
        RATE_LIMITED."""
        self._budgets.take(org_id, ALERTS, self._budgets.allowed(org_id, ALERTS) / 2)

    async def _silences_at(self, org_id: str, time: datetime) -> tuple[Silence, ...]:
        """Silences that could hold back an alert at that time: others would use up the steps of its expressions."""
        async with self._database.transaction(org_id) as tx:
            now = await tx.now()
            if not now - _PAST <= time <= now + LONGEST:
                raise invalid("time", f"must lie within the next {LONGEST.days} days")
            rows = await silences.about(tx, AHEAD, max(now, time))

        def pay(expressions: int) -> None:
            most = self._budgets.allowed(org_id, ALERTS) / 2
            self._budgets.take(org_id, ALERTS, min(_COMPILING * expressions, most))

        return self._directory.silences.of_rows(org_id, rows, pay)


def explain(simulated: Simulated) -> list[str]:
    """In words, a statement a line."""
    lines = [f"rule {each.rule.place} does not match: {_unmet(each)}" for each in simulated.tried if each.unmet]
    lines += [
        f"the {name} take too long for this alert: those that were not tried are left out" for name in simulated.cut
    ]
    message, policy = simulated.message, simulated.message.policy
    lines.append(
        f"{_way(simulated)}: severity {message.severity.name.lower()}, "
        + (f"policy {policy}" if policy else "the tenant's fallback policy")
    )
    if simulated.route.group_by:
        limit = unless_over(simulated.route.group_window)
        lines.append(f"alerts that agree in {', '.join(simulated.route.group_by)} share an incident{limit}")
    if message.dedup_window is not None:
        lines.append(f"a trigger repeats its alert only within {words(message.dedup_window)} of the last one")
    in_force = simulated.decision.alert.hold if simulated.decision.alert is not None else None
    lines += [
        f"silences/{each.id} matches, and is not the one that holds it back at {time_in_words(simulated.time)}"
        for each in message.silences
        if in_force is None or each.id != in_force.silence_id
    ]
    earlier = simulated.decision.earlier
    if earlier is not None:
        lines.append(
            f"alerts/{earlier.alert_id} would end, as its last trigger came at {time_in_words(earlier.heard)}; "
            f"incidents/{earlier.incident_id} stays open"
        )
    passed = simulated.decision.passed
    if passed is not None:
        lines.append(
            f"it would come too late for incidents/{passed.incident_id}, which the last alert joined at "
            f"{time_in_words(passed.joined)}"
        )
    return [*lines, _outcome(simulated)]


def _way(simulated: Simulated) -> str:
    if simulated.route.rule is None:
        return "no rule matches: the default route is taken"
    matched = [each.rule for each in simulated.tried if each.unmet is None]
    if not matched[0].continues:
        return f"rule {matched[0].place} matches"
    named = rules_in_words((rule.place, "", simulated.taken(rule)) for rule in matched)
    return f"{named} {'match' if len(matched) > 1 else 'matches'}"


def _unmet(trial: Trial) -> str:
    matcher = trial.unmet
    assert matcher is not None, "only of rules that do not match"
    return f"{matcher.label} {_SIGNS[matcher.operator]} {matcher.value!r} does not hold for {shown(trial)!r}"


def shown(trial: Trial) -> str:
    """The alert's value where a matcher did not hold."""
    return trial.value[:_SHOWN]


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
            until = time_in_words(decision.alert.hold.until)
            return (
                f"silences/{decision.alert.hold.silence_id} holds it back until {until}: nobody would be paged before"
            )
        case Outcome.PAUSED:
            assert decision.alert is not None
            assert decision.alert.pause is not None
            until = time_in_words(decision.alert.pause.until)
            return f"the rule pauses it: nobody would be paged unless it still fires at {until}"
        case Outcome.BELOW_THRESHOLD:
            assert decision.alert is not None
            assert decision.alert.below is not None
            below = decision.alert.below
            within = words(below.threshold.window)
            return f"it would be trigger {below.triggers} of {below.threshold.count} in {within}: nobody would be paged yet"
        case Outcome.IGNORED:
            return "its key is not firing: nothing would happen"

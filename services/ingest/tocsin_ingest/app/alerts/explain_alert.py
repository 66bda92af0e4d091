"""Why an alert opened an incident, joined one or opened none, in words: from what was recorded when it was decided."""

from collections.abc import Sequence
from datetime import UTC
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.ingest.v1.alert_pb2 import (
    ALERT_STATE_FIRING,
    ALERT_STATE_RESOLVED,
    Alert,
    AlertDecision,
    EarlierAlert,
    PassedIncident,
    ThresholdProgress,
)

from tocsin_ingest.app.alerts.in_words import rules_in_words, time_in_words, unless_over
from tocsin_ingest.app.incidents.resolve_quiet import words
from tocsin_ingest.domain.decision import Outcome

_UNKNOWN: Final = "it began before decisions were recorded: which rule matched is not known"


def explain(alert: Alert, decisions: Sequence[AlertDecision], incident_open: bool | None) -> list[str]:
    """One statement a line. `decisions` have their times."""
    messages = "one message has" if alert.count == 1 else f"{alert.count} messages have"
    lines = [f"its dedup key is {alert.dedup_key!r}, of which {messages} come"]
    if not decisions:
        lines.append(_UNKNOWN)
    for decision, before in zip(decisions, [None, *decisions], strict=False):
        when = f"{_time(decision.time)}: " if decision.HasField("time") else ""
        # The same route is not repeated.
        route = "" if before is not None and _route(before) == _route(decision) else f"{_route(decision)}; "
        earlier = f"{_earlier(decision.earlier)}; " if decision.HasField("earlier") else ""
        late = f"{_late(decision.passed)}; " if decision.HasField("passed") else ""
        lines.append(f"{when}{route}{earlier}{late}{_outcome(decision, alert.incident)}")
        group = _group(decision, alert)
        if before is None or _group(before, alert) != group:
            lines.append(group)
    return [*lines, _now(alert, incident_open)]


def _route(decision: AlertDecision) -> str:
    version = f" of routing {decision.etag}" if decision.etag else ""
    if decision.contributions:
        way = f"{_together(decision)}{version} matched"
    elif decision.HasField("rule"):
        way = f"rule {decision.rule}{f' {decision.rule_name!r}' if decision.rule_name else ''}{version} matched"
    elif decision.rules_cut:
        way = f"the rules{version} took too long on it, so it took the default route"
    else:
        way = f"no rule{version} matched, so it took the default route"
    return f"{way}, with {decision.policy or 'the fallback policy of the tenant'}"


def _together(decision: AlertDecision) -> str:
    rules: list[tuple[int, str, Sequence[str]]] = [
        (each.rule, each.rule_name, each.taken) for each in decision.contributions
    ]
    if rules[-1][0] != decision.rule:
        # It ended the search.
        rules.append((decision.rule, decision.rule_name, ()))
    return rules_in_words(rules)


def _group(decision: AlertDecision, alert: Alert) -> str:
    if not decision.group_by:
        return "no other key shares its incident"
    values = ", ".join(f"{label} ({alert.labels.get(label, '')!r})" for label in decision.group_by)
    limit = unless_over(decision.group_window.ToTimedelta() if decision.HasField("group_window") else None)
    return f"alerts of the integration and policy that agree in {values} share an incident{limit}"


def _earlier(earlier: EarlierAlert) -> str:
    last = _time(earlier.last_trigger_time)
    return f"it came too late to repeat {earlier.alert}, whose last trigger came at {last}, and ended that"


def _late(passed: PassedIncident) -> str:
    return f"it came too late for {passed.incident}, which the last alert had joined at {_time(passed.last_join_time)}"


def _outcome(decision: AlertDecision, incident: str) -> str:
    until = _time(decision.until_time)
    match decision.outcome:
        case Outcome.OPENED:
            return f"it opened {incident}"
        case Outcome.GROUPED:
            return f"it joined {incident}, which was open"
        case Outcome.SUPPRESSED:
            return "the rule suppressed it, so it opened no incident"
        case Outcome.SILENCED:
            return f"{decision.silence} held it back, until {until} at the latest, so it opened no incident"
        case Outcome.PAUSED:
            return f"the rule paused it until {until}, so it opened no incident at once"
        case Outcome.BELOW_THRESHOLD:
            return f"it was {_progress(decision.threshold)}, so it opened no incident"
        case Outcome.RESOLVED:
            window = words(decision.dedup_window.ToTimedelta())
            return f"a trigger came {window} or longer after the last one: {decision.later_alert} began, and this alert ended"
        case _:
            return f"{Outcome(decision.outcome).name.lower()}"


def _now(alert: Alert, incident_open: bool | None) -> str:
    if alert.state == ALERT_STATE_RESOLVED:
        over = f"it was resolved at {_time(alert.resolve_time)}"
        if not alert.incident:
            return f"{over}, before it had an incident"
        return (
            over if incident_open is None else f"{over}; {alert.incident} is {'open' if incident_open else 'resolved'}"
        )
    if alert.state == ALERT_STATE_FIRING:
        return f"it is firing, in {alert.incident}"
    kept = []
    if alert.silence:
        kept.append(f"{alert.silence} holds it back until {_time(alert.silence_end_time)}")
    if alert.HasField("pause_end_time"):
        kept.append(f"it is paused until {_time(alert.pause_end_time)}")
    if alert.HasField("threshold"):
        kept.append(f"its group has had {_progress(alert.threshold)}")
    return f"it has no incident now: {', and '.join(kept) or 'its rule suppresses it'}"


def _progress(threshold: ThresholdProgress) -> str:
    return f"trigger {threshold.triggers} of {threshold.count} in {words(threshold.window.ToTimedelta())}"


def _time(time: Timestamp) -> str:
    return time_in_words(time.ToDatetime(UTC))

"""Converts an alert as its sender described it into the message to decide: its keys, its route, and the silences that match it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tocsin.ingest.v1.alert_pb2 import AlertInput
from tocsin_kit.ids import id_of

from tocsin_ingest.app.alerts.own_alerts import OWN
from tocsin_ingest.app.integrations.directory import Directory, Routing
from tocsin_ingest.domain.expiry import Expiry
from tocsin_ingest.domain.fingerprint import alert_key, fingerprint, group_key
from tocsin_ingest.domain.message import Action, Message
from tocsin_ingest.domain.routing import Route, Subject, Trial, route
from tocsin_ingest.domain.severity import Severity
from tocsin_ingest.domain.silences import Matched, matching


@dataclass(frozen=True, slots=True)
class Stated:
    """What a sender stated in addition to the alert.

    `labels`: as they came, where the alert holds them shortened; they decide which alert it is and how it is routed.
    `started`, `ended`: when this firing began and ended by the sender's clock, of senders that tell. `expiry`: when it is over
    unless it is sent again.
    """

    labels: Mapping[str, str] | None = None
    started: datetime | None = None
    ended: datetime | None = None
    expiry: Expiry | None = None


_SEVERITIES: Final = {severity.value: severity for severity in Severity}
_ACTIONS: Final = {0: Action.TRIGGER} | {action.value: action for action in Action}
NOTHING_STATED: Final = Stated()
_KEPT_BYTES: Final = 32 << 10
"""The most bytes of labels that are stored with an alert that is held back or paused: a sender may write as many as fit into its
message."""


def route_alert(
    directory: Directory, org_id: str, actor: str, routing: Routing, alert: AlertInput, stated: Stated = NOTHING_STATED
) -> Message:
    """`actor` is the sender."""
    return route_wholly(directory, org_id, actor, routing, alert, stated)[0]


def route_wholly(
    directory: Directory,
    org_id: str,
    actor: str,
    routing: Routing,
    alert: AlertInput,
    stated: Stated = NOTHING_STATED,
    content: bytes | None = None,
) -> tuple[Message, bool]:
    """The message, and whether all matchers were evaluated: otherwise the alert took the default route or is not silenced, which
    is counted.

    `content`: the alert serialized, by callers that have it.
    """
    message, path, silences_cut = routed(org_id, actor, routing, alert, stated, content=content)
    if path.cut:
        directory.routing_was_cut(org_id, routing)
    if silences_cut:
        directory.silences.were_cut(org_id, routing.integration_id, routing.silences)
    return message, not (path.cut or silences_cut)


def routed(
    org_id: str,
    actor: str,
    routing: Routing,
    alert: AlertInput,
    stated: Stated = NOTHING_STATED,
    tried: list[Trial] | None = None,
    content: bytes | None = None,
) -> tuple[Message, Route, bool]:
    """The message, its route, and whether silences were too expensive for it. `tried`: see `route`."""
    # Only the labels that are matched are read from protobuf's map: copying all takes as long as the rest of this function.
    labels = alert.labels if stated.labels is None else stated.labels
    summary, source, severity = alert.summary, alert.source, _SEVERITIES[alert.severity]
    dedup_key = alert.dedup_key or fingerprint(labels, source, summary)
    path = route(
        routing.rules,
        routing.default_policy,
        summary=summary,
        source=source,
        severity=severity,
        labels=labels,
        tried=tried,
    )
    action = _ACTIONS[alert.action]
    matched: tuple[Matched, ...] | None = ()
    if routing.silences and action is Action.TRIGGER:
        subject = Subject(summary=summary, source=source, severity=severity, labels=labels)
        matched = matching(routing.silences, routing.integration_id, subject)
    kept = matched or path.pause is not None or path.threshold is not None
    message = Message(
        routing.integration_id,
        dedup_key,
        id_of(alert_key(org_id, routing.integration_id, dedup_key)),
        id_of(group_key(org_id, routing.integration_id, dedup_key, path.policy, path.group_by, labels)),
        action,
        actor,
        path.policy,
        path.severity,
        path.suppress,
        summary,
        source,
        alert.SerializeToString() if content is None else content,
        stated.started,
        stated.ended,
        matched or (),
        _as_they_came(labels) if kept and stated.labels is not None and dict(labels) != dict(alert.labels) else None,
        expiry=stated.expiry,
        pause=path.pause,
        threshold=None if path.threshold is None or dedup_key in OWN else path.threshold,
        route=routing.records.of(path),
        group_window=path.group_window,
        dedup_window=None if dedup_key in OWN else path.dedup_window,
    )
    return message, path, matched is None


def _as_they_came(labels: Mapping[str, str]) -> bytes:
    """The labels; when they are too large, only the shortest are kept."""
    kept = AlertInput()
    size = 0
    for name, value in sorted(labels.items(), key=lambda label: (len(label[0]) + len(label[1]), label)):
        size += len(name.encode()) + len(value.encode())
        if size > _KEPT_BYTES:
            break
        kept.labels[name] = value
    # Compared with what is stored: the same labels must be the same bytes.
    return kept.SerializeToString(deterministic=True)

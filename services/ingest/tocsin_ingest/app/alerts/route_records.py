"""The record of the rules that routed an alert, for explanations: serialized once for each state of an integration.

Rules that continue make one route together, and which of them match differs from alert to alert: those are serialized for each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tocsin.ingest.v1.alert_pb2 import AlertDecision, RuleContribution
from tocsin_kit.rpc.masks import etag
from tocsin_kit.rpc.timestamps import duration

from tocsin_ingest.domain.routing import Route, Rule


@dataclass(frozen=True, slots=True)
class RouteRecords:
    """Fields of a serialized `AlertDecision`: of each rule by its place, of the default route, and of that as a way out."""

    rules: Mapping[int, bytes] = field(default_factory=dict)
    default: bytes = b""
    cut: bytes = AlertDecision(rules_cut=True).SerializeToString()
    version: int = 0

    def of(self, route: Route) -> bytes:
        """The record of a route that these rules gave."""
        if route.rule is None:
            return self.cut if route.cut else self.default
        if route.rule.continues or route.contributions:
            return _together(route, route.rule, self.version)
        return self.rules.get(route.rule.place, b"")


def records_of(rules: Sequence[Rule], default_policy: str, version: int) -> RouteRecords:
    """The records of an integration in one version."""

    def record(policy: str, **fields: object) -> bytes:
        return AlertDecision(etag=etag(version), policy=policy, **fields).SerializeToString()  # type: ignore[arg-type]

    return RouteRecords(
        {
            rule.place: record(
                rule.policy or default_policy,
                rule=rule.place,
                rule_name=rule.name,
                group_by=rule.group_by,
                group_window=duration(rule.group_window),
                dedup_window=duration(rule.dedup_window),
            )
            for rule in rules
            if not rule.continues
        },
        record(default_policy),
        record(default_policy, rules_cut=True),
        version,
    )


def _together(route: Route, last: Rule, version: int) -> bytes:
    return AlertDecision(
        etag=etag(version),
        policy=route.policy,
        rule=last.place,
        rule_name=last.name,
        group_by=route.group_by,
        group_window=duration(route.group_window),
        dedup_window=duration(route.dedup_window),
        contributions=[
            RuleContribution(rule=each.rule.place, rule_name=each.rule.name, taken=each.taken)
            for each in route.contributions
        ],
    ).SerializeToString()

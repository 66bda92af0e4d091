"""What is told later of the rule that routed an alert: written once for each state of an integration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tocsin.ingest.v1.alert_pb2 import AlertDecision
from tocsin_kit.rpc.masks import etag

from tocsin_ingest.domain.routing import Route, Rule


@dataclass(frozen=True, slots=True)
class RouteRecords:
    """Fields of a serialized `AlertDecision`: of each rule by its place, of the default route, and of that as a way out."""

    rules: Mapping[int, bytes] = field(default_factory=dict)
    default: bytes = b""
    cut: bytes = AlertDecision(rules_cut=True).SerializeToString()

    def of(self, route: Route) -> bytes:
        """Of a route that these rules gave."""
        if route.rule is None:
            return self.cut if route.cut else self.default
        return self.rules.get(route.rule.place, b"")


def records_of(rules: Sequence[Rule], default_policy: str, version: int) -> RouteRecords:
    """Of an integration in one version."""

    def record(policy: str, **fields: object) -> bytes:
        return AlertDecision(etag=etag(version), policy=policy, **fields).SerializeToString()  # type: ignore[arg-type]

    return RouteRecords(
        {
            rule.place: record(
                rule.policy or default_policy, rule=rule.place, rule_name=rule.name, group_by=rule.group_by
            )
            for rule in rules
        },
        record(default_policy),
        record(default_policy, rules_cut=True),
    )

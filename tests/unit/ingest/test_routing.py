"""Rules: which one decides, and what follows; expressions that RE2 refuses."""

from dataclasses import replace

import pytest
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.ingest.v1.integration_service_pb2 import LabelMatcher, MatchOperator, RoutingRule
from tocsin.type.v1.severity_pb2 import SEVERITY_INFO
from tocsin_ingest.app.integrations.compile_rules import MAX_PROGRAM, compile_rules, compile_usable_rules
from tocsin_ingest.domain.fingerprint import alert_key, fingerprint, group_key
from tocsin_ingest.domain.routing import MAX_STEPS, Route, route
from tocsin_ingest.domain.severity import Severity, worst
from tocsin_kit.errors import TocsinError

EQUAL = MatchOperator.MATCH_OPERATOR_EQUAL
NOT_EQUAL = MatchOperator.MATCH_OPERATOR_NOT_EQUAL
MATCHES = MatchOperator.MATCH_OPERATOR_MATCHES
NOT_MATCHES = MatchOperator.MATCH_OPERATOR_NOT_MATCHES


def routed(*rules: RoutingRule, severity: Severity = Severity.UNSPECIFIED, **labels: str) -> Route:
    """Without the rule that decided."""
    found = route(
        compile_rules(rules), "policies/default", summary="disk full", source="db1", severity=severity, labels=labels
    )
    return replace(found, rule=None)


def rule(label: str, operator: MatchOperator.ValueType, value: str, policy: str = "policies/hit") -> RoutingRule:
    return RoutingRule(matchers=[LabelMatcher(label=label, operator=operator, value=value)], policy=policy)


@pytest.mark.parametrize(
    ("operator", "value", "team", "hit"),
    [
        (EQUAL, "db", "db", True),
        (EQUAL, "db", "dba", False),
        (EQUAL, "", None, True),
        (NOT_EQUAL, "db", "web", True),
        (NOT_EQUAL, "db", None, True),
        (MATCHES, "d.", "db", True),
        (MATCHES, "d.", "dba", False),  # anchored at both ends
        (MATCHES, "b", "db", False),
        (MATCHES, "a|b.*", "bc", True),
        (MATCHES, ".*", "two\nlines", True),
        (MATCHES, "", None, True),
        (NOT_MATCHES, "d.", "dba", True),
        (NOT_MATCHES, "d.", "db", False),
    ],
)
def test_operators(operator: MatchOperator.ValueType, value: str, team: str | None, hit: bool) -> None:
    only = rule("team", operator, value)
    policy = (routed(only) if team is None else routed(only, team=team)).policy
    assert policy == ("policies/hit" if hit else "policies/default")


def test_the_first_rule_that_holds_decides_and_all_its_matchers_must() -> None:
    both = RoutingRule(
        matchers=[
            LabelMatcher(label="team", operator=EQUAL, value="db"),
            LabelMatcher(label="env", operator=EQUAL, value="prod"),
        ],
        policy="policies/both",
    )
    rules = (both, rule("team", EQUAL, "db", "policies/first"), rule("team", EQUAL, "db", "policies/second"))
    assert routed(*rules, team="db").policy == "policies/first"
    assert routed(*rules, team="db", env="prod").policy == "policies/both"


def test_the_alerts_own_fields_can_be_matched_unless_a_label_has_their_name() -> None:
    assert routed(rule("summary", MATCHES, "disk.*")).policy == "policies/hit"
    assert routed(rule("source", EQUAL, "db1")).policy == "policies/hit"
    assert routed(rule("severity", EQUAL, "warning"), severity=Severity.WARNING).policy == "policies/hit"
    assert routed(rule("source", EQUAL, "db1"), source="label").policy == "policies/default"


def test_severity_is_the_rules_else_the_alerts_else_critical() -> None:
    assert routed(RoutingRule(severity=SEVERITY_INFO), severity=Severity.ERROR).severity is Severity.INFO
    assert routed(RoutingRule(), severity=Severity.ERROR).severity is Severity.ERROR
    assert routed().severity is Severity.CRITICAL


def test_a_rule_may_leave_the_policy_to_the_integration_and_suppress() -> None:
    assert routed(RoutingRule(suppress=True)) == Route((), "policies/default", Severity.CRITICAL, True)


@pytest.mark.parametrize(
    "expression",
    ["(", "a{1001}", "(?=look)", "\\1", "((a{100}){100}){100}", "(\\pL{100}){5}", "[z-a]"],
)
def test_an_expression_re2_refuses_is_named_in_its_words(expression: str) -> None:
    good = rule("team", MATCHES, "ok")
    bad = RoutingRule(matchers=[good.matchers[0], LabelMatcher(label="x", operator=MATCHES, value=expression)])
    with pytest.raises(TocsinError) as caught:
        compile_rules((good, bad))
    assert caught.value.reason == ErrorReason.ERROR_REASON_INVALID_FIELD
    (violation,) = caught.value.fields
    assert violation.field == "integration.routing_rules[1].matchers[1].value"
    assert "RE2" in violation.description


def test_a_regular_expression_takes_linear_time() -> None:
    # With backtracking this would not end before the sun does.
    assert routed(rule("x", MATCHES, "(a*)*b"), x="a" * 1000).policy == "policies/default"


def expensive(count: int) -> list[RoutingRule]:
    """Rules within each bound of the contract, whose expressions are as expensive as RE2 allows."""
    return [
        RoutingRule(
            matchers=[LabelMatcher(label="x", operator=NOT_MATCHES, value=f"(.*{chr(97 + n % 20)}){{100}}")] * 20
        )
        for n in range(count)
    ]


def test_expressions_beyond_the_budget_of_an_integration_are_refused_at_once() -> None:
    with pytest.raises(TocsinError) as caught:
        compile_rules(expensive(100))
    (violation,) = caught.value.fields
    assert violation.field == "integration.routing_rules[0].matchers[12].value"
    assert f"at most {MAX_PROGRAM}" in violation.description


def test_a_hundred_rules_as_customers_write_them_are_far_below_the_budget() -> None:
    rules = [rule("service", MATCHES, f"(api|web|worker)-{n}-[a-z0-9]+(\\.prod)?") for n in range(100)]
    rules += [rule("summary", MATCHES, f".*(timeout|error {n}|disk full).*") for n in range(100)]
    compiled = compile_rules(rules[:100]), compile_rules(rules[100:])
    for half in compiled:
        assert sum(matcher.cost for each in half for matcher in each.matchers) < MAX_PROGRAM / 2


def test_many_refused_expressions_are_not_all_compiled() -> None:
    bad = RoutingRule(matchers=[LabelMatcher(label="x", operator=MATCHES, value="(\\pL|\\pN){100}")] * 20)
    with pytest.raises(TocsinError) as caught:
        compile_rules([bad] * 100)
    assert len(caught.value.fields) <= 10


def test_stored_rules_beyond_the_budget_are_left_out_and_the_others_route() -> None:
    stored = [*expensive(1), rule("team", EQUAL, "core"), rule("x", MATCHES, "(")]
    usable, left_out = compile_usable_rules(stored)
    assert left_out == [0, 2]
    found = route(usable, "policies/default", summary="", source="", severity=Severity.ERROR, labels={"team": "core"})
    assert found.policy == "policies/hit"


def test_an_alert_too_expensive_to_route_takes_the_default_route() -> None:
    def routed_by(characters: int) -> Route:
        labels = {"x": "ab" * (characters // 2)}
        return route(rules, "policies/default", summary="", source="", severity=Severity.ERROR, labels=labels)

    most = RoutingRule(matchers=[LabelMatcher(label="x", operator=NOT_MATCHES, value="(.*z){100}")] * 12)
    rules = compile_rules([most])
    cost = sum(matcher.cost for matcher in rules[0].matchers)
    assert not routed_by(MAX_STEPS // cost - 10).cut
    assert routed_by(MAX_STEPS // cost + 10) == Route((), "policies/default", Severity.ERROR, False, cut=True)


def test_fingerprints_tell_apart_what_differs() -> None:
    assert fingerprint({"a": "1", "b": "2"}, "", "") == fingerprint({"b": "2", "a": "1"}, "other", "text")
    assert fingerprint({"a": "1b"}, "", "") != fingerprint({"a1": "b"}, "", "")
    assert fingerprint({}, "db1", "x") != fingerprint({}, "db", "1x")
    assert fingerprint({}, "a", "b") != fingerprint({"a": "b"}, "", "")
    assert alert_key("org", "i", "k") != alert_key("orgi", "", "k")


def test_keys_are_what_they_were_when_alerts_were_stored_by_them() -> None:
    """Another hash of the same alert would open its incident a second time after an upgrade."""
    labels = {"b": "2", "a": "1"}
    assert fingerprint(labels, "db1", "x") == "8919e228f978c73289c2ae70188ff4c4023a5e0aa4000e864e1894efd5d25602"
    assert fingerprint({}, "db1", "x") == "bc3d12a8215d416a778c84fbcb6863ed555e930e31acd849b04b511ad7ea0f32"
    assert alert_key("org", "i", "k").hex() == "757cfc415285bff2f3dc1ae04a232cf2"
    assert group_key("org", "i", "k", "p", (), labels).hex() == "dadd4ede4263b9a109101f80aad860f4"
    assert group_key("org", "i", "k", "p", ("b", "c", "a"), labels).hex() == "ccd6ae2ce96bd10496baf530274759b9"


def test_groups_are_of_one_policy_and_of_the_named_labels_only() -> None:
    def key(policy: str = "p", by: tuple[str, ...] = ("cluster",), dedup_key: str = "k", **labels: str) -> object:
        return group_key("org", "i", dedup_key, policy, by, labels)

    assert key(cluster="c", pod="1") == key(cluster="c", pod="2", dedup_key="other")
    assert key(cluster="c") != key(cluster="d")
    assert key(cluster="c") != key("q", cluster="c")
    assert key(by=("a", "b"), a="1", b="2") == key(by=("b", "a"), a="1", b="2")
    assert key(by=()) != key(by=(), dedup_key="other")
    assert key(by=(), cluster="c") == key(by=(), cluster="d")


def test_worst() -> None:
    assert worst(Severity.INFO, Severity.CRITICAL) is Severity.CRITICAL
    assert worst(Severity.ERROR, Severity.WARNING) is Severity.ERROR
    assert worst(Severity.UNSPECIFIED, Severity.INFO) is Severity.INFO

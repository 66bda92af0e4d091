"""Rules that continue: what a route has of which rule, and what is recorded and told of it."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration
from hypothesis import given, settings
from hypothesis import strategies as st
from tocsin.ingest.v1.alert_pb2 import Alert, AlertDecision
from tocsin.ingest.v1.integration_service_pb2 import LabelMatcher, MatchOperator, RoutingRule, TriggerThreshold
from tocsin_ingest.app.alerts.explain_alert import explain
from tocsin_ingest.app.alerts.route_records import records_of
from tocsin_ingest.app.integrations.compile_rules import compile_rules
from tocsin_ingest.domain.decision import Outcome
from tocsin_ingest.domain.routing import MAX_STEPS, Route, Trial, route, states
from tocsin_ingest.domain.severity import Severity
from tocsin_ingest.domain.thresholds import Threshold

from tests.rounds import examples

FIELDS: Final = ("policy", "severity", "group_by", "group_window", "dedup_window", "suppress", "pause", "threshold")
MESSAGES: Final = ("group_window", "dedup_window", "pause", "threshold")
LABELS: Final = {"a": "1", "b": "2"}


def matcher(label: str, value: str) -> LabelMatcher:
    return LabelMatcher(label=label, operator=MatchOperator.MATCH_OPERATOR_EQUAL, value=value)


@st.composite
def rules(draw: st.DrawFn) -> RoutingRule:
    """One that the contract accepts, and that often matches LABELS."""
    drawn = RoutingRule(
        display_name=draw(st.sampled_from(["", "x", "y"])),
        matchers=draw(st.sampled_from([[], [], [matcher("a", "1")], [matcher("a", "2")]])),
        policy=draw(st.sampled_from(["", "", "policies/p", "policies/q"])),
        severity=draw(st.sampled_from([0, 0, 1, 4])),  # type: ignore[arg-type]
        group_by=draw(st.sampled_from([[], [], ["a"], ["a", "b"]])),
        continue_matching=draw(st.booleans()),
    )
    window = draw(st.sampled_from([0, 0, 1, 2]))
    if drawn.group_by and window:
        drawn.group_window.FromTimedelta(timedelta(minutes=window))
    if not drawn.continue_matching and draw(st.booleans()):
        drawn.suppress = True
    elif draw(st.booleans()):
        drawn.dedup_window.FromTimedelta(timedelta(minutes=draw(st.integers(1, 3))))
    elif draw(st.booleans()):
        drawn.pause.FromTimedelta(timedelta(seconds=draw(st.integers(1, 3))))
    elif draw(st.booleans()):
        drawn.threshold.CopyFrom(TriggerThreshold(count=draw(st.integers(2, 4)), window=Duration(seconds=60)))
    return drawn


def matches(rule: RoutingRule, labels: Mapping[str, str]) -> bool:
    return all(labels.get(each.label, "") == each.value for each in rule.matchers)


def says(rule: RoutingRule, field: str) -> bool:
    return rule.HasField(field) if field in MESSAGES else bool(getattr(rule, field))  # type: ignore[arg-type]


def stated_by(field: str, rules: Sequence[RoutingRule], place: int = 0) -> int | None:
    """The oracle: which rule states one field, found for this field alone."""
    if place == len(rules):
        return None
    rule = rules[place]
    if not matches(rule, LABELS):
        return stated_by(field, rules, place + 1)
    if says(rule, field):
        return place
    return stated_by(field, rules, place + 1) if rule.continue_matching else None


def routed(listed: Sequence[RoutingRule], tried: list[Trial] | None = None) -> Route:
    return route(
        compile_rules(listed),
        "policies/default",
        summary="",
        source="",
        severity=Severity.WARNING,
        labels=LABELS,
        tried=tried,
    )


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(rules(), max_size=6))
def test_each_field_is_of_the_first_rule_that_states_it_and_is_asked(listed: list[RoutingRule]) -> None:
    found = {field: stated_by(field, listed) for field in FIELDS}
    groups = found["group_by"]
    found["group_window"] = groups if groups is not None and says(listed[groups], "group_window") else None
    if found["suppress"] is not None:
        found["dedup_window"] = found["pause"] = found["threshold"] = None
    of = {field: RoutingRule() if place is None else listed[place] for field, place in found.items()}
    tried: list[Trial] = []
    path = routed(listed, tried)
    assert path.policy == (of["policy"].policy or "policies/default")
    assert path.severity == Severity(of["severity"].severity or Severity.WARNING)
    assert path.group_by == tuple(of["group_by"].group_by)
    assert path.suppress == of["suppress"].suppress
    assert path.pause == (None if found["pause"] is None else of["pause"].pause.ToTimedelta())
    window = of["group_window"].group_window.ToTimedelta()
    assert path.group_window == (None if found["group_window"] is None else window)
    window = of["dedup_window"].dedup_window.ToTimedelta()
    assert path.dedup_window == (None if found["dedup_window"] is None else window)
    below = of["threshold"].threshold
    assert path.threshold == (
        None if found["threshold"] is None else Threshold(below.count, below.window.ToTimedelta())
    )
    asked = [each.rule.place for each in tried]
    assert asked == list(range(len(asked))), "each one in order"
    hits = [place for place in asked if matches(listed[place], LABELS)]
    assert all(listed[place].continue_matching for place in hits[:-1])
    assert len(asked) == len(listed) or not listed[hits[-1]].continue_matching
    assert (None if path.rule is None else path.rule.place) == (hits[-1] if hits else None)
    taken = {
        place: tuple(field for field in FIELDS if found[field] == place) for place in hits if place in found.values()
    }
    if hits and listed[hits[0]].continue_matching:
        assert {each.rule.place: each.taken for each in path.contributions} == taken
        assert [each.rule.place for each in path.contributions] == sorted(taken)
    else:
        assert path.contributions == ()
        assert tuple(states(path.rule) if path.rule else ()) == taken.get(hits[0] if hits else -1, ())


def recorded(listed: Sequence[RoutingRule]) -> AlertDecision:
    return AlertDecision.FromString(records_of(compile_rules(listed), "policies/default", 7).of(routed(listed)))


def told(decision: AlertDecision) -> str:
    decision.outcome = Outcome.OPENED  # type: ignore[assignment]
    return explain(Alert(count=1, labels=LABELS), [decision], None)[1].split(";")[0]


TOGETHER: Final = (
    RoutingRule(display_name="databases", policy="policies/db", severity=1, continue_matching=True),  # type: ignore[arg-type]
    RoutingRule(matchers=[matcher("a", "2")], group_by=["b"], continue_matching=True),
    RoutingRule(policy="policies/other", continue_matching=True),
    RoutingRule(display_name="last", policy="policies/other", group_by=["a"]),
)


def test_the_record_names_each_rule_that_something_was_taken_of_and_its_words_do() -> None:
    decision = recorded(TOGETHER)
    assert (decision.etag, decision.policy, decision.rule, decision.rule_name) == ("v7", "policies/db", 3, "last")
    assert list(decision.group_by) == ["a"]
    assert [(each.rule, each.rule_name, list(each.taken)) for each in decision.contributions] == [
        (0, "databases", ["policy", "severity"]),
        (3, "last", ["group_by"]),
    ]
    assert told(decision) == (
        "rule 0 'databases' (policy, severity) and rule 3 'last' (group_by) of routing v7 matched, with policies/db"
    )


def test_the_window_of_a_rule_whose_labels_are_not_taken_is_not_taken_either() -> None:
    by_a = RoutingRule(group_by=["a"], continue_matching=True)
    by_b = RoutingRule(group_by=["b"], group_window=Duration(seconds=300))
    assert routed([by_a, by_b]).group_window is None
    found = recorded([RoutingRule(policy="policies/p", continue_matching=True), by_b])
    assert found.group_window == Duration(seconds=300)
    assert [list(each.taken) for each in found.contributions] == [["policy"], ["group_by", "group_window"]]


def test_a_rule_that_only_ended_the_search_is_told_and_one_that_continues_may_be_the_only_one() -> None:
    assert told(recorded([TOGETHER[0], RoutingRule()])) == (
        "rule 0 'databases' (policy, severity) and rule 1 (nothing) of routing v7 matched, with policies/db"
    )
    assert told(recorded([TOGETHER[0]])) == (
        "rule 0 'databases' (policy, severity) of routing v7 matched, with policies/db"
    )
    assert told(recorded([RoutingRule(continue_matching=True)])) == (
        "rule 0 of routing v7 matched, with policies/default"
    )


def test_versions_that_know_no_rules_together_read_the_record_and_theirs_are_read() -> None:
    """An old replica tells of a rule that did match, and of the policy that was taken."""
    decision = recorded(TOGETHER)
    decision.ClearField("contributions")
    assert told(decision) == "rule 3 'last' of routing v7 matched, with policies/db"
    assert not recorded(TOGETHER[3:]).contributions, "without a rule that continues it is what it was"


def test_a_record_is_small_however_many_rules_match() -> None:
    many = [RoutingRule(display_name="x" * 255, policy="policies/p", continue_matching=True)] * 99
    assert [each.rule for each in recorded([*many, *TOGETHER]).contributions] == [0, 99, 102]


def test_an_alert_that_is_too_expensive_takes_the_default_route_after_any_earlier_rule() -> None:
    long = "ab" * (MAX_STEPS // 1000)
    costly = LabelMatcher(label="x", operator=MatchOperator.MATCH_OPERATOR_NOT_MATCHES, value="(.*z){100}")
    listed = compile_rules([TOGETHER[0], RoutingRule(matchers=[costly])])
    found = route(listed, "policies/default", summary="", source="", severity=Severity.ERROR, labels={"x": long})
    assert found == Route((), "policies/default", Severity.ERROR, False, cut=True)


def test_the_fields_are_those_of_the_contract() -> None:
    assert set(FIELDS) <= set(RoutingRule.DESCRIPTOR.fields_by_name)

"""What a newer version wrote, read after a way back to this one: rather a page too many than one too few."""

from dataclasses import replace
from uuid import UUID

import pytest
from tocsin.ingest.v1.integration_service_pb2 import LabelMatcher, MatchOperator, RoutingRule
from tocsin.ingest.v1.silence_service_pb2 import Silence
from tocsin_ingest.app.integrations.compile_rules import compile_usable_rules
from tocsin_ingest.app.silences.compiled_silences import usable_silences
from tocsin_ingest.domain.decision import AlertState
from tocsin_ingest.domain.severity import Severity, worst
from tocsin_ingest.rpc.mapping import alert_of
from tocsin_ingest.store.alerts.alerts import AlertRow
from tocsin_ingest.store.silences import MatchersRow

from tests.store.made_up import Maker

_MORE = b"\xfa\x7f\x03new"
"""Field 2047 of a message, which no message of this version has."""
PLAIN = LabelMatcher(label="team", operator=MatchOperator.MATCH_OPERATOR_EQUAL, value="db")
OPERATOR = LabelMatcher.FromString(PLAIN.SerializeToString() + b"\x10\x63")
FIELD = LabelMatcher.FromString(PLAIN.SerializeToString() + _MORE)


@pytest.mark.parametrize("matcher", [OPERATOR, FIELD])
def test_a_rule_that_is_not_understood_is_left_out_and_the_next_one_decides(matcher: LabelMatcher) -> None:
    newer = RoutingRule(matchers=[matcher], suppress=True)
    rules, left_out = compile_usable_rules([newer, RoutingRule(matchers=[PLAIN], policy="policies/db")])
    assert ([rule.policy for rule in rules], left_out) == (["policies/db"], [0])


def test_a_rule_with_a_condition_that_is_not_known_suppresses_nothing() -> None:
    suppresses = RoutingRule(suppress=True)
    assert compile_usable_rules([suppresses])[1] == []
    assert compile_usable_rules([RoutingRule.FromString(suppresses.SerializeToString() + _MORE)]) == ((), [0])


def test_a_silence_that_is_not_understood_holds_nothing_back_and_others_do() -> None:
    texts = [
        Silence(matchers=[PLAIN]).SerializeToString(),
        Silence(matchers=[OPERATOR]).SerializeToString(),
        Silence(matchers=[FIELD]).SerializeToString(),
        Silence(matchers=[PLAIN]).SerializeToString() + _MORE,
    ]
    usable = usable_silences([MatchersRow(UUID(int=number), 1, "", text) for number, text in enumerate(texts)])
    assert [each.matched.id for each in usable] == [UUID(int=0)]


def test_a_severity_that_is_not_known_counts_as_critical() -> None:
    assert worst(Severity(9), Severity.ERROR) is Severity.CRITICAL
    with pytest.raises(ValueError, match="is not a valid"):
        Severity(-1)


def test_an_alert_in_a_state_that_is_not_known_is_shown() -> None:
    row: AlertRow = Maker(0).value(AlertRow)
    assert alert_of(replace(row, newest=b"", state=AlertState("resting"))).name

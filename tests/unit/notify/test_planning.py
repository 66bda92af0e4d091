"""From a page and rules to notifications: pure, so every case is cheap."""

import uuid

from hypothesis import given
from hypothesis import strategies as st
from tocsin_notify.domain.page import (
    ONE_WAY,
    RINGING,
    Channel,
    Kind,
    Method,
    Page,
    Rule,
    Urgency,
    priority_of,
    urgency_of,
)
from tocsin_notify.domain.planning import is_kept_quiet, plan

PAGE = Page(Kind.NEW_INCIDENT, Urgency.HIGH)
MAIL, HOOK, CONSOLE = (
    Method(uuid.UUID(int=number), channel, verified=True)
    for number, channel in enumerate((Channel.EMAIL, Channel.WEBHOOK, Channel.CONSOLE), 1)
)


def high(method: Method, delay: float = 0) -> Rule:
    return Rule(Urgency.HIGH, method.id, delay)


def low(method: Method, delay: float = 0) -> Rule:
    return Rule(Urgency.LOW, method.id, delay)


def broken(method: Method, *, verified: bool = False, disabled: bool = False) -> Method:
    return Method(method.id, method.channel, verified, disabled)


def test_without_rules_every_usable_method_at_once() -> None:
    planned = plan(PAGE, [MAIL, broken(HOOK), CONSOLE], [])
    assert [(step.method, step.delay) for step in planned] == [(MAIL, 0), (CONSOLE, 0)]


def test_the_last_resort_only_where_there_is_no_other_or_a_rule_names_it() -> None:
    last = Method(uuid.UUID(int=9), Channel.APPRISE, verified=True)
    assert [step.method for step in plan(PAGE, [last, MAIL, HOOK], [])] == [MAIL, HOOK]
    assert [step.method for step in plan(PAGE, [last, broken(MAIL)], [])] == [last]
    assert [step.method for step in plan(PAGE, [last, MAIL], [high(last)])] == [last]
    instead = plan(PAGE, [last, MAIL, CONSOLE], [high(broken(HOOK)), high(MAIL, 60)])
    assert [step.method for step in instead] == [CONSOLE, MAIL], "a method that no rule names is no better than that"
    news = Page(Kind.RESOLUTION, Urgency.LOW)
    assert [step.method for step in plan(news, [last, MAIL], [])] == [MAIL]


def test_rules_of_the_other_urgency_do_not_count() -> None:
    assert [step.method for step in plan(PAGE, [MAIL, HOOK], [low(HOOK)])] == [MAIL, HOOK]


def test_rules_in_their_order_with_their_delays() -> None:
    planned = plan(PAGE, [MAIL, HOOK], [high(HOOK), high(MAIL, 300), high(HOOK, 900)])
    assert [(step.method, step.step, step.delay) for step in planned] == [(HOOK, 0, 0), (MAIL, 1, 300), (HOOK, 2, 900)]


def test_a_rule_without_its_method_is_served_by_one_no_rule_names() -> None:
    planned = plan(PAGE, [MAIL, broken(HOOK, disabled=True, verified=True), CONSOLE], [high(HOOK), high(MAIL, 60)])
    assert [(step.method, step.delay) for step in planned] == [(CONSOLE, 0), (MAIL, 60)]


def test_a_rule_without_its_method_is_served_by_a_named_one_when_there_is_no_other() -> None:
    planned = plan(PAGE, [MAIL], [high(HOOK), high(MAIL, 60)])
    assert [(step.method, step.delay) for step in planned] == [(MAIL, 0), (MAIL, 60)]


def test_two_rules_that_fall_together_are_one_notification() -> None:
    assert len(plan(PAGE, [MAIL], [high(HOOK), high(MAIL), high(CONSOLE)])) == 1


def test_news_is_one_notification_at_once() -> None:
    news = Page(Kind.RESOLUTION, Urgency.LOW)
    assert [step.method for step in plan(news, [MAIL, HOOK], [low(MAIL, 60), low(HOOK)])] == [HOOK]
    assert [step.method for step in plan(news, [MAIL, HOOK], [low(MAIL, 60)])] == [MAIL]
    assert [step.method for step in plan(news, [broken(MAIL), HOOK], [low(MAIL)])] == [HOOK]


def test_no_user_is_called_for_news() -> None:
    news, call = Page(Kind.RESOLUTION, Urgency.LOW), Method(uuid.UUID(int=9), Channel.VOICE, verified=True)
    assert [step.method for step in plan(news, [call, MAIL], [low(call), low(HOOK)])] == [MAIL]
    assert plan(news, [call], [low(call)]) == []
    assert is_kept_quiet(news, [call])
    assert not is_kept_quiet(news, [broken(call)]), "nothing of theirs works, and somebody should know"
    assert [step.method for step in plan(PAGE, [call, MAIL], [high(call)])] == [call]
    assert not is_kept_quiet(PAGE, [call])


def test_an_override_takes_that_channel_and_nothing_else() -> None:
    page = Page(Kind.ESCALATION, Urgency.HIGH, channel_override=Channel.WEBHOOK)
    assert [step.method for step in plan(page, [MAIL, HOOK], [high(MAIL)])] == [HOOK]
    assert plan(page, [MAIL, broken(HOOK)], []) == []


def test_a_message_takes_one_method_of_its_channel_and_another_channel_without_one() -> None:
    message = Page(Kind.MESSAGE, Urgency.LOW, channel_override=Channel.WEBHOOK)
    other = Method(uuid.UUID(int=9), Channel.WEBHOOK, verified=True)
    assert [step.method for step in plan(message, [MAIL, HOOK, other], [low(MAIL)])] == [HOOK]
    assert [step.method for step in plan(message, [MAIL, CONSOLE, broken(HOOK)], [low(CONSOLE)])] == [CONSOLE]
    call = Method(uuid.UUID(int=8), Channel.VOICE, verified=True)
    assert plan(Page(Kind.MESSAGE, Urgency.LOW, channel_override=Channel.VOICE), [call], []) == [], "it does not ring"


def test_a_named_method_needs_no_verification() -> None:
    page = Page(Kind.VERIFICATION, Urgency.HIGH, only_method=MAIL.id)
    assert [step.method.id for step in plan(page, [broken(MAIL), HOOK], [])] == [MAIL.id]


methods = st.lists(
    st.builds(Method, st.uuids(version=4), st.sampled_from(Channel), st.booleans(), st.booleans()),
    max_size=6,
    unique_by=lambda method: method.id,
)


@given(methods, st.data())
def test_a_user_with_a_usable_method_is_always_reached_and_never_through_another(
    owned: list[Method], data: st.DataObject
) -> None:
    known = st.sampled_from([method.id for method in owned]) if owned else st.uuids()
    rules = data.draw(
        st.lists(st.builds(Rule, st.sampled_from(Urgency), known | st.uuids(), st.floats(0, 86400)), max_size=8)
    )
    page = Page(data.draw(st.sampled_from(Kind)), data.draw(st.sampled_from(Urgency)))
    planned = plan(page, owned, rules)
    usable = {method.id for method in owned if method.usable}
    calls_only = all(method.channel in RINGING for method in owned if method.usable)
    assert bool(planned) == bool(usable and not (page.kind in ONE_WAY and calls_only))
    assert not planned or page.kind not in ONE_WAY or planned[0].method.channel not in RINGING
    assert {step.method.id for step in planned} <= usable
    assert len({(step.method.id, step.step) for step in planned}) == len(planned)
    delays = [rule.delay for rule in rules if rule.urgency is page.urgency]
    if planned and delays:
        assert min(step.delay for step in planned) <= min(delays), "no later than the user's first rule"


def test_urgency_and_priority() -> None:
    assert urgency_of(Kind.ESCALATION, severe=True) is Urgency.HIGH
    assert urgency_of(Kind.ESCALATION, severe=False) is Urgency.LOW
    assert urgency_of(Kind.RESOLUTION, severe=True) is Urgency.LOW
    assert priority_of(Kind.NEW_INCIDENT, Urgency.HIGH) < priority_of(Kind.NEW_INCIDENT, Urgency.LOW)
    assert priority_of(Kind.TEST, Urgency.HIGH) == priority_of(Kind.RESOLUTION, Urgency.LOW)

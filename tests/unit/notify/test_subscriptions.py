"""When subscriptions are tried again and stopped, what slots their requests hold, and how they are signed."""

import base64
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tocsin.notify.v1 import incident_event_pb2 as pb
from tocsin.type.v1.severity_pb2 import SEVERITY_ERROR, SEVERITY_WARNING
from tocsin_kit.ids import new_id
from tocsin_notify.app.events.event_payload import MOST_BYTES, payload
from tocsin_notify.app.events.event_slots import EventSlots
from tocsin_notify.app.events.publish_events import wants
from tocsin_notify.channels.standard_webhooks import shown, signatures
from tocsin_notify.domain.subscription import (
    WIDTH,
    EndpointAnswer,
    EventRetryPolicy,
    SubscriptionHealth,
    Verdict,
    judge,
)
from tocsin_notify.store.events.event_deliveries import EventDelivery
from tocsin_notify.store.events.subscriptions import Subscription

NOW = datetime(2026, 3, 1, tzinfo=UTC)
POLICY = EventRetryPolicy(base=5.0, cap=600.0, window=86_400.0, stop_after=3 * 86_400.0)
REFUSED = EndpointAnswer(False, 503, "503 Service Unavailable")
PROVEN = SubscriptionHealth(proven=True)


def test_requests_are_signed_as_the_specification_shows() -> None:
    """The example of the specification's own libraries, which the library for Python (standardwebhooks 1.1.0) signs alike."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = signatures([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert (signed, shown(key)) == (
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    )


def test_pauses_grow_to_their_cap_and_half_of_each_is_random() -> None:
    pauses = [(POLICY.pause(failures, 0.0), POLICY.pause(failures, 1.0)) for failures in (1, 2, 3, 100, 10_000)]
    assert pauses == [(2.5, 5.0), (5.0, 10.0), (10.0, 20.0), (300.0, 600.0), (300.0, 600.0)]


def test_an_endpoint_that_asks_for_time_gets_it_up_to_a_quarter_of_an_hour() -> None:
    verdict = _judged(PROVEN, EndpointAnswer(False, 429, "429", after=120.0))
    assert (verdict.due_time, verdict.standing.resume_time) == (NOW + timedelta(seconds=120),) * 2
    verdict = _judged(PROVEN, EndpointAnswer(False, 429, "429", after=1e9))
    assert verdict.due_time == NOW + timedelta(seconds=900)


def test_one_request_that_is_taken_forgets_all_failures() -> None:
    failing = SubscriptionHealth(7, NOW - timedelta(days=2), "503", NOW, None, proven=True)
    assert _judged(failing, EndpointAnswer(True, 204, "")) == Verdict(PROVEN, None, taken=True)


def test_a_subscription_is_stopped_by_long_failure_and_not_by_few_or_short_ones() -> None:
    long_ago, lately = NOW - timedelta(days=3), NOW - timedelta(days=2)
    assert _judged(SubscriptionHealth(9, long_ago), REFUSED).stopped
    assert not _judged(SubscriptionHealth(8, long_ago), REFUSED).stopped, "too few"
    assert not _judged(SubscriptionHealth(1000, lately), REFUSED).stopped, "not for long enough"
    assert not _judged(SubscriptionHealth(1000, long_ago, stop_time=lately), REFUSED).stopped, "it was already"


def test_an_endpoint_that_is_gone_for_good_stops_it_at_once() -> None:
    verdict = _judged(PROVEN, EndpointAnswer(False, 410, "410 Gone"))
    assert (verdict.stopped, verdict.standing.stop_time) == (True, NOW)


def test_a_delivery_is_given_up_after_the_window_and_not_before() -> None:
    before = judge(PROVEN, REFUSED, NOW, attempts=50, since=NOW - timedelta(hours=23), policy=POLICY, luck=1.0)
    after = judge(PROVEN, REFUSED, NOW, attempts=50, since=NOW - timedelta(hours=24), policy=POLICY, luck=1.0)
    assert (before.due_time, after.due_time) == (NOW + timedelta(seconds=600), None)


def test_after_three_failures_the_whole_subscription_rests() -> None:
    standing = PROVEN
    rests = []
    for _ in range(5):
        standing = judge(standing, REFUSED, NOW, attempts=1, since=NOW, policy=POLICY, luck=1.0).standing
        rests.append(standing.resume_time and (standing.resume_time - NOW).total_seconds())
    assert (rests, standing.probing) == ([None, None, 5.0, 10.0, 20.0], True)


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 3), st.booleans()), max_size=200), st.integers(4, 100)
)
def test_subscriptions_that_work_find_slots_while_others_hang(calls: list[tuple[str, int, bool]], most: int) -> None:
    """Calls that never end, of any tenants, subscriptions and standings: no bound is passed, and doubtful ones leave most slots."""
    slots = EventSlots(most)
    held: list[tuple[str, UUID, SubscriptionHealth]] = []
    for org, number, works in calls:
        id, standing = UUID(int=ord(org) * 1000 + number), PROVEN if works else SubscriptionHealth()
        if slots.room(org, id, standing):
            slots.take(org, id, standing)
            held.append((org, id, standing))
    doubtful = [each for each in held if each[2].doubtful]
    assert len(held) <= most
    assert len(doubtful) <= max(1, most // 4)
    assert all(sum(each[0] == org for each in held) <= slots.share for org in "abcdef")
    assert all(sum(each[1] == id for each in held) <= WIDTH for _, id, _ in held)
    for each in held:
        slots.leave(*each)
    assert (slots.free, slots.for_doubtful, slots.full_subscriptions()) == (most, slots.share, [])


def test_filters_leave_out_what_is_not_asked_for() -> None:
    event = pb.IncidentEvent(type=pb.EVENT_TYPE_INCIDENT_OPENED)
    event.incident.policy, event.incident.severity = "policies/a", SEVERITY_ERROR
    assert wants(_subscription(), event)
    assert wants(_subscription(event_types=("incident.opened",), policies=("policies/a",), least_severity=2), event)
    assert not wants(_subscription(event_types=("incident.resolved",)), event)
    assert not wants(_subscription(policies=("policies/b",)), event)
    assert not wants(_subscription(least_severity=1), event)
    assert not wants(_subscription(disabled=True), event)
    event.type = 9999  # type: ignore[assignment]
    assert not wants(_subscription(), event), "of a later version"


@given(st.text(max_size=1000), st.text(max_size=500))
def test_a_payload_is_bounded_with_any_texts(message: str, title: str) -> None:
    texts = [text.encode("utf-8", "replace").decode() for text in (message, title)]
    event = pb.IncidentEvent(type=pb.EVENT_TYPE_INCIDENT_OPENED, message=texts[0], actor="\0" * 255)
    event.incident.title, event.incident.source, event.incident.severity = texts[1], "\0" * 200, SEVERITY_WARNING
    subscription = _subscription()
    delivery = EventDelivery(
        *(new_id(), "a", subscription.id, new_id(), 1, "incident.opened", event.SerializeToString(), "sending", 1),
        *(None, NOW, NOW, None),
    )
    assert len(payload(subscription, delivery)) <= MOST_BYTES


def test_an_event_that_json_cannot_say_is_an_error_that_the_sender_knows() -> None:
    event = pb.IncidentEvent(type=pb.EVENT_TYPE_INCIDENT_OPENED)
    event.time.seconds = 1 << 60
    subscription = _subscription()
    delivery = EventDelivery(
        *(new_id(), "a", subscription.id, new_id(), 1, "incident.opened", event.SerializeToString(), "sending", 1),
        *(None, NOW, NOW, None),
    )
    with pytest.raises(ValueError, match=r".+"):
        payload(subscription, delivery)


def _judged(standing: SubscriptionHealth, answer: EndpointAnswer) -> Verdict:
    return judge(standing, answer, NOW, attempts=1, since=NOW, policy=POLICY, luck=1.0)


def _subscription(
    *,
    event_types: tuple[str, ...] = (),
    policies: tuple[str, ...] = (),
    least_severity: int = 0,
    disabled: bool = False,
) -> Subscription:
    return Subscription(
        display_name="",
        url="https://example.com",
        event_types=event_types,
        policies=policies,
        least_severity=least_severity,
        disabled=disabled,
        id=new_id(),
        org_id="a",
        secret=b"",
        former_secret=None,
        former_until=None,
        creator="users/ana",
        failures=0,
        failing_since=None,
        failure="",
        resume_time=None,
        stop_time=None,
        proven=True,
        pending=0,
        lost=0,
        loss_time=None,
        version=1,
        create_time=NOW,
        update_time=NOW,
    )

"""Subscriptions and deliveries to contract messages, and back."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.notify.v1 import subscription_service_pb2 as pb
from tocsin_kit.rpc.masks import etag
from tocsin_kit.rpc.timestamps import timestamp

from tocsin_notify.app.events.event_types import NAMES, NUMBERS
from tocsin_notify.store.events.event_deliveries import Attempt, EventDelivery
from tocsin_notify.store.events.subscriptions import Chosen, Subscription

_MOST: Final = (1 << 31) - 1
_REASON: Final = 1024
_STATES: Final = {
    "pending": pb.DELIVERY_STATE_PENDING,
    "sending": pb.DELIVERY_STATE_PENDING,
    "delivered": pb.DELIVERY_STATE_DELIVERED,
    "failed": pb.DELIVERY_STATE_FAILED,
}


def chosen_from(given: pb.Subscription) -> Chosen:
    """What a caller asks a subscription to be; the message is valid."""
    return Chosen(
        display_name=given.display_name,
        url=given.url,
        event_types=tuple(NAMES[number] for number in given.event_types),
        policies=tuple(given.policies),
        least_severity=given.least_severity,
        disabled=given.disabled,
    )


def subscription_to(row: Subscription, now: datetime) -> pb.Subscription:
    """Without its secrets. `now`: the database's clock."""
    former = row.former_until if row.former_until is not None and row.former_until > now else None
    return pb.Subscription(
        name=f"subscriptions/{row.id}",
        display_name=row.display_name,
        url=row.url,
        event_types=[NUMBERS[name] for name in row.event_types if name in NUMBERS],  # type: ignore[misc]
        policies=row.policies,
        least_severity=row.least_severity,  # type: ignore[arg-type]  # the number is the enum's own
        disabled=row.disabled,
        state=_state(row),
        state_reason=row.failure[:_REASON],
        failing_since=_optional(row.failing_since),
        pending_count=min(row.pending, _MOST),
        lost_event_count=min(row.lost, _MOST),
        last_loss_time=_optional(row.loss_time),
        former_secret_expire_time=_optional(former),
        creator=row.creator,
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
        etag=etag(row.version),
    )


def delivery_to(row: EventDelivery, attempts: Sequence[Attempt]) -> pb.EventDelivery:
    """With its attempts."""
    return pb.EventDelivery(
        name=f"deliveries/{row.id}",
        subscription=f"subscriptions/{row.subscription}",
        type=NUMBERS.get(row.type, 0),  # type: ignore[arg-type]
        incident="" if row.incident is None else f"incidents/{row.incident}",
        sequence=row.sequence,
        state=_STATES.get(row.state, pb.DELIVERY_STATE_UNSPECIFIED),
        attempt_count=row.attempts,
        attempts=[
            pb.DeliveryAttempt(
                number=each.number,
                start_time=timestamp(each.start_time),
                end_time=timestamp(each.end_time),
                status=each.status,
                detail=each.detail,
            )
            for each in attempts
        ],
        due_time=_optional(row.due_time),
        create_time=timestamp(row.create_time),
        end_time=_optional(row.end_time),
    )


def states_from(state: pb.DeliveryState.ValueType) -> list[str]:
    """The states of rows that a filter means; 0: all."""
    return [name for name, number in _STATES.items() if state in (0, number)]


def _state(row: Subscription) -> pb.SubscriptionState.ValueType:
    if row.disabled:
        return pb.SUBSCRIPTION_STATE_DISABLED
    if row.stop_time is not None:
        return pb.SUBSCRIPTION_STATE_STOPPED
    return pb.SUBSCRIPTION_STATE_FAILING if row.standing.probing else pb.SUBSCRIPTION_STATE_ACTIVE


def _optional(moment: datetime | None) -> Timestamp | None:
    return None if moment is None else timestamp(moment)

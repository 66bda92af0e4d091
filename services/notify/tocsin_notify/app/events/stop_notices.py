"""Who is told that a subscription was stopped: its creator, if that is a user, and the audit log."""

from typing import Final

from tocsin_kit.db.audit import write_own_entry
from tocsin_kit.db.pool import Tx
from tocsin_kit.ids import new_id

from tocsin_notify.domain.page import Urgency
from tocsin_notify.domain.subscription import SubscriptionHealth
from tocsin_notify.store.events.subscriptions import Subscription
from tocsin_notify.store.messages import messages
from tocsin_notify.store.messages.messages import Content, New

_ACTOR: Final = "services/notify"


async def tell_stopped(tx: Tx, subscription: Subscription, standing: SubscriptionHealth) -> None:
    """In the transaction that stops it. The message is released as every other one is."""
    name = f"subscriptions/{subscription.id}"
    await write_own_entry(tx, _ACTOR, "StopSubscription", [name], standing.failure)
    if not subscription.creator.startswith("users/"):
        return
    since = f" since {standing.failing_since:%Y-%m-%d %H:%M} UTC" if standing.failing_since else ""
    called = f" ({subscription.display_name})" if subscription.display_name else ""
    content = Content(
        user_id=subscription.creator,
        channel=None,
        address="",
        subject="A webhook subscription was stopped",
        body=f"{name}{called} was stopped: its endpoint has taken nothing{since}. The last failure: {standing.failure}. "
        f"{subscription.pending} deliveries wait. Mend the endpoint, then call EnableSubscription.",
        about="",
        urgency=Urgency.LOW,
        send_time=await tx.now(),
        local_time="",
        time_zone="",
        expire_seconds=None,
    )
    await messages.insert(tx, [New(new_id(), _ACTOR, content)])

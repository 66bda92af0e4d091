"""Subscriptions to incident events."""

from pydantic import Field
from tocsin_kit.settings import ServiceSettings


class SubscriptionSettings(ServiceSettings):
    """How many there may be, and how their requests are made and repeated."""

    tenant_subscriptions: int = Field(50, ge=1)
    """Subscriptions of one tenant to incident events. LimitService changes it by tenant (`subscriptions`)."""
    subscription_pending_events: int = Field(10_000, ge=1)
    """Deliveries that may wait for one subscription. Further events are dropped for it; the subscription counts them.
    LimitService changes it by tenant (`pending_events`)."""
    subscription_concurrency: int = Field(64, ge=4, le=10_000)
    """Requests to endpoints of subscriptions at once, in each replica; a tenant has at most a quarter of them. They are apart
    from NOTIFY_CONCURRENCY: no page waits for them."""
    event_backoff_base_seconds: float = Field(5.0, gt=0, le=3600)
    """Longest pause before the second request of a delivery, in seconds; doubled for each further one. Half of it is random."""
    event_backoff_cap_seconds: float = Field(600.0, gt=0, le=86_400)
    """The most that NOTIFY_EVENT_BACKOFF_BASE_SECONDS grows to, for a delivery and for a subscription whose requests all fail."""
    event_retry_window_seconds: float = Field(86_400.0, ge=0, le=30 * 86_400)
    """Seconds for which a delivery to a subscription is tried."""
    event_stop_after_seconds: float = Field(3 * 86_400.0, ge=0, le=90 * 86_400)
    """Seconds for which every request to a subscription must fail, at least ten requests, before it is stopped."""
    event_retention_days: float = Field(14.0, gt=0)
    """Days that deliveries to subscriptions are kept after they ended."""

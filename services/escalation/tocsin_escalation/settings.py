"""What escalation reads from the environment, beside what every service reads."""

from pydantic import Field, SecretStr
from tocsin_kit.secret_boxes import SecretKeys
from tocsin_kit.settings import ServiceSettings, service_settings


class EscalationSettings(ServiceSettings):
    """`ESCALATION_…` variables."""

    model_config = service_settings("ESCALATION_")

    worker_concurrency: int = Field(200, ge=1, le=5000)
    """Timers taken from Redis at once. They are fired together, as one set."""
    worker_rate_per_second: float = Field(0, ge=0)
    """Timers fired per second by all replicas together. 0: no limit."""
    sweep_seconds: float = Field(1.0, gt=0, le=60)
    """How often overdue timers are looked for in PostgreSQL. Without Redis a timer is late by about this time. Reminders are
    looked for as often, with and without Redis: a reminder is late by at most 1.1 times this plus the time of the round."""
    sweep_grace_seconds: float = Field(0.3, ge=0, le=60)
    """How long Redis has to fire a due timer before the sweep does."""
    sweep_batch: int = Field(500, ge=1, le=5000)
    """Timers fired by one transaction of the sweep."""
    rearm_ahead_seconds: float = Field(90.0, gt=0)
    """Timers due within this time are added to Redis again at intervals, in case Redis lost them."""
    cancel_timeout_seconds: float = Field(4.0, gt=0)
    """How long an acknowledge waits for notify to confirm that paging has stopped. Notify needs up to 2.5 s for it when one of
    its replicas is stopped."""
    reconcile_seconds: float = Field(5.0, gt=0, le=3600)
    """How often pages without an outcome are compared with those that notify knows, for up to 5,000 incidents at a time."""
    reconcile_grace_seconds: float = Field(15.0, ge=0, le=3600)
    """For how long notify must not know a page that it was sent before the page is sent again."""
    gap_warning_days: int = Field(7, ge=1, le=35)
    """How far ahead gaps of schedules are searched: policies warn of them, and a metric and the log show them."""
    notice_look_seconds: float = Field(15.0, gt=0, le=300)
    """How often schedules are checked for notices of shifts. A change less than this before a notice is due may delay the notice
    by as much. If checking all schedules takes long (2 s or more), the pause until the next check is ten times as long."""
    notices_per_second: int = Field(100, ge=1, le=5000)
    """The most users whom each replica notifies of their shifts in a second, so that many notices at one minute delay no page."""
    public_url: str = Field("", pattern=r"^(https?://[!-~]+)?$")
    """The base URL at which people reach this service's HTTP, such as `https://tocsin.example.com/escalation`: URLs of calendar
    feeds begin with it. If it has a path, the proxy must remove that path. Empty: CreateCalendarFeed answers with the path at
    ESCALATION_HTTP_LISTEN."""
    secret_key: SecretKeys = SecretStr("")
    """Encrypts the URLs of calendars that schedules import: keys of at least 32 characters, separated by commas. The first
    encrypts, each decrypts. Unset: AUTH_SIGNING_KEYS are used. Set it before you rotate those: a calendar whose URL no key
    decrypts is not read."""
    allow_private_calendars: bool = False
    """Whether calendars that schedules import may lead to private, loopback and link-local addresses."""
    calendar_fetch_seconds: float = Field(900.0, ge=1, le=86_400)
    """How often each calendar that a schedule imports is read."""
    calendar_stale_seconds: float = Field(21_600.0, ge=1, le=604_800)
    """After this time without a successful read a calendar is reported: in the log, by a metric, and as a warning of its
    schedule."""
    retention_days: int = Field(90, ge=1)
    """Resolved incidents and their timelines are kept this long."""
    counting_seconds: float = Field(10.0, gt=0, le=3600)
    """How often timeline entries are counted into the figures of AnalyticsService."""
    figures_retention_days: int = Field(800, ge=1)
    """Figures of incidents and pages are kept this long."""

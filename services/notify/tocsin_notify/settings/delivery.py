"""How many calls are made at once, how often they are repeated, and how long what they did is kept."""

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, model_validator
from tocsin_kit.secret_boxes import SecretKeys, secret_keys
from tocsin_kit.settings import ServiceSettings

from tocsin_notify.domain.bundling import BundlePolicy
from tocsin_notify.domain.provider_rates import checked_rates


class DeliverySettings(ServiceSettings):
    """Calls of providers, their repeats, and storms of pages."""

    secret_key: SecretKeys = SecretStr("")
    """Encrypts the secrets of webhooks: keys of at least 32 characters, separated by commas. The first encrypts, each decrypts.
    Unset: AUTH_SIGNING_KEYS are used. Set it before you rotate those: a secret that no key decrypts fails for good."""
    allow_private_webhooks: bool = False
    """Whether webhooks may lead to private, loopback and link-local addresses."""
    console_contacts: bool = True
    """Whether contact methods may be made whose messages are lines in notify's log. Off: existing ones stay as they are."""
    concurrency: int = Field(300, ge=2, le=10_000)
    """Calls to providers at once, in each replica."""
    critical_reserve: int = Field(75, ge=1)
    """How many of NOTIFY_CONCURRENCY only high-urgency pages may use. Must be smaller than it."""
    org_concurrency: int = Field(100, ge=1)
    """Calls to providers at once of one tenant, in each replica. High-urgency pages and others are counted apart."""
    org_rate_per_second: float = Field(50.0, ge=0)
    """Calls to providers per second of one tenant, in each replica. High-urgency pages are not limited. 0: no limit."""
    org_burst: float = Field(200.0, ge=1)
    """Calls to providers that one tenant may have at once before NOTIFY_ORG_RATE_PER_SECOND limits it."""
    provider_rates: Annotated[str, AfterValidator(checked_rates)] = "telegram=30"
    """Calls per second that providers allow, over all replicas and tenants, such as `telegram=30,sms=10,email=14`. For email,
    sms, voice, pushover, telegram and slack, where all tenants share the operator's account. High-urgency pages count and never
    wait for it. A channel without a rate has no limit."""
    tenant_notifications_per_minute: int = Field(6000, ge=1)
    """Notifications per minute of one tenant, over all replicas; as many at once. High-urgency pages count and never wait for it;
    others wait, and codes and test pages are RATE_LIMITED. LimitService changes it by tenant."""
    tenant_addressed_messages_per_minute: int = Field(60, ge=1)
    """Messages per minute of one tenant to addresses that are not contact methods, over all replicas; as many at once.
    LimitService changes it by tenant."""
    tenant_scheduled_messages: int = Field(10_000, ge=1)
    """Messages of one tenant that may wait for their time. LimitService changes it by tenant."""
    message_countries: str = Field("", pattern="^(|[A-Z]{2}(,[A-Z]{2})*)$")
    """Countries of the telephone numbers to which messages may be sent that are not users' contact methods, as ISO 3166 codes
    separated by commas, such as `DE,AT,CH`. Empty: all."""
    worker_concurrency: int = Field(200, ge=1, le=10_000)
    """Tasks of the stream that are worked on at once, in each replica."""
    attempts: int = Field(5, ge=1, le=100)
    """Attempts through one contact method before the page goes to the user's next one."""
    backoff_base_seconds: float = Field(2.0, gt=0, le=3600)
    """Longest pause before the second attempt, in seconds; doubled for each further one. The pause is random below that."""
    backoff_cap_seconds: float = Field(300.0, gt=0, le=86_400)
    """The most that NOTIFY_BACKOFF_BASE_SECONDS grows to. A provider's Retry-After is followed up to 900 seconds."""
    retry_window_seconds: float = Field(6 * 3600.0, ge=0, le=86_400)
    """How long a page is retried slowly after its attempts, if its user has no other contact method. 0: no slow retries."""
    circuit_failures: int = Field(5, ge=0, le=1000)
    """Number of contact methods that a provider must fail within a minute, while it serves hardly any other one, before pages go
    around it, to the user's next method. Each replica finds out for itself. 0: pages never go around a provider."""
    circuit_probe_seconds: float = Field(10.0, gt=0, le=600)
    """Seconds until a page tries such a provider again. Doubled for each try that fails, up to 60 (or this, if it is more)."""
    attempt_timeout_seconds: float = Field(10.0, gt=0, le=120)
    """Seconds that one call to a provider may take."""
    lease_seconds: float = Field(15.0, gt=0, le=600)
    """Seconds after which an attempt without a result is taken over; about 2 if its process died. At least 5 more than
    NOTIFY_ATTEMPT_TIMEOUT_SECONDS."""
    retention_days: float = Field(90.0, gt=0)
    """Days that finished pages, their notifications and attempts, and dead letters are kept."""
    fence_retention_days: float = Field(8.0, gt=0)
    """Days that the fence of a stopped incident is kept. A page of the incident that arrives later than that would be sent."""
    storm_pages: int = Field(10, ge=0, le=1000)
    """Pages that a person gets one by one within NOTIFY_STORM_WINDOW_SECONDS. Further ones are sent together as one message,
    until no page came for that long. Critical pages do not count, and are always sent at once. 0: pages are never bundled."""
    storm_window_seconds: float = Field(300.0, ge=1, le=86_400)
    """See NOTIFY_STORM_PAGES."""
    storm_collect_seconds: float = Field(30.0, ge=1, le=3600)
    """Seconds from the first page of a bundle to its message. Doubled for each further one of the storm, up to four times."""
    digest_late_seconds: float = Field(6 * 3600.0, ge=300, le=86_400)
    """How late a digest may be sent, in seconds. A later one is skipped, and ListDigests shows that."""

    @model_validator(mode="after")
    def _calls_are_consistent(self) -> "DeliverySettings":
        if self.critical_reserve >= self.concurrency:
            raise ValueError("NOTIFY_CRITICAL_RESERVE must be smaller than NOTIFY_CONCURRENCY")
        if self.lease_seconds < self.attempt_timeout_seconds + 5:
            raise ValueError("NOTIFY_LEASE_SECONDS must exceed NOTIFY_ATTEMPT_TIMEOUT_SECONDS by at least 5 seconds")
        return self

    @property
    def bundling(self) -> BundlePolicy:
        """When pages are bundled, for people who have chosen no budget."""
        collect = self.storm_collect_seconds
        return BundlePolicy(self.storm_pages, self.storm_window_seconds, collect, collect * 4)

    @property
    def encryption_keys(self) -> list[bytes]:
        """The keys that encrypt and decrypt stored secrets, in order."""
        return secret_keys(self.secret_key, self.signing_keys)

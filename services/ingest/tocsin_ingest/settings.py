"""What ingest reads from the environment, beside what every service reads."""

from typing import Literal

from pydantic import Field, SecretStr, model_validator
from tocsin_kit.mail.listener import MailListener
from tocsin_kit.secret_boxes import SecretKeys
from tocsin_kit.settings import Listen, ServiceSettings, service_settings


class IngestSettings(ServiceSettings):
    """`INGEST_…` variables."""

    model_config = service_settings("INGEST_")

    secret_key: SecretKeys = SecretStr("")
    """Encrypts the secrets with which senders sign: keys of at least 32 characters, separated by commas. The first encrypts, each
    decrypts. Unset: AUTH_SIGNING_KEYS are used. Set it before you rotate those: alerts that must be signed are answered 503 while
    no key decrypts."""
    batch_size: int = Field(500, ge=1, le=5000)
    """Dedup keys whose alerts one transaction commits; up to eight times as many alerts when several have one key."""
    batch_lanes: int = Field(4, ge=1, le=64)
    """Tenants whose batches are committed at the same time; each takes a database connection."""
    queue_capacity: int = Field(20_000, ge=100)
    """Alerts that may wait to be committed; one tenant may fill half of it. Beyond it: OVERLOADED."""
    rate_per_second: float = Field(1000.0, gt=0)
    """Alerts per second of one integration, over all replicas. Beyond it and the burst: RATE_LIMITED."""
    rate_burst: float = Field(5000.0, ge=1)
    """Alerts one integration may send at once."""
    tenant_alerts_per_second: int = Field(2000, ge=1)
    """Alerts per second of one tenant, over all replicas; ten times as many at once. An alert that is sent again costs a tenth.
    Beyond it: RATE_LIMITED. LimitService changes this and the next one by tenant."""
    tenant_max_outbox_rows: int = Field(500_000, ge=1000, le=1_000_000)
    """Events of one tenant that may wait for escalation. Beyond it its alerts are RATE_LIMITED until escalation has accepted
    some."""
    stream_window: int = Field(1000, ge=1)
    """Alerts of one StreamAlerts call that may be unanswered; the stream is not read any further meanwhile."""
    policy_check_seconds: float = Field(1.0, gt=0)
    """How long a change of an integration waits for escalation to say whether its policies exist."""
    reconcile_seconds: float = Field(5.0, gt=0, le=3600)
    """How often open incidents are compared with escalation's, up to 5,000 of each side at a time."""
    reconcile_grace_seconds: float = Field(15.0, ge=0, le=3600)
    """How long ingest and escalation must differ about an incident before the difference is reported and repaired."""
    quiet_seconds: float = Field(20.0, gt=0, le=3600)
    """How often incidents are searched that are quiet for the time that their integration sets, up to 20,000 at a time."""
    mail_listen: Listen | Literal[""] = ""
    """The address of the SMTP listener for mails to integrations. STARTTLS is offered with TLS_CERT_FILE. Empty: no listener."""
    mail_domain: str = Field("", max_length=190, pattern=r"^([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.|$))*$")
    """The domain of these addresses, after the `@`. Its MX record, or the mail server that forwards its mails, leads to
    INGEST_MAIL_LISTEN. Without it integrations have no mail addresses, and no mail is accepted."""
    mail_require_tls: bool = False
    """Whether mails are taken over STARTTLS only."""
    mail_max_bytes: int = Field(5 << 20, ge=1 << 16, le=64 << 20)
    """Largest mail. Of one mail at most 128 KiB are read. Beyond it: 552."""
    mail_max_connections: int = Field(100, ge=2, le=10_000)
    """SMTP connections that may be open at once; one host may have half of them. At most an eighth of them may carry a mail at
    one time."""
    mail_command_seconds: float = Field(60.0, gt=0, le=600)
    """How long an SMTP client may be silent, and how long one mail may take to come."""
    mail_session_seconds: float = Field(600.0, gt=0, le=7200)
    """How long an SMTP connection may last."""
    retention_days: int = Field(90, ge=1)
    """Resolved alerts and incidents are kept this long, and up to a fifteenth of it longer; suppressed ones this long after their
    last event."""

    @model_validator(mode="after")
    def _consistent(self) -> "IngestSettings":
        if self.mail_listen and not self.mail_domain:
            raise ValueError("INGEST_MAIL_LISTEN needs INGEST_MAIL_DOMAIN, the domain of the addresses")
        if self.processes > 1 and self.mail_listen.endswith(":0"):
            raise ValueError(
                "INGEST_MAIL_LISTEN has port 0, and INGEST_PROCESSES is above 1: each process would take another port; name one"
            )
        if self.mail_require_tls and not self.tls_cert_file:
            raise ValueError("INGEST_MAIL_REQUIRE_TLS needs TLS_CERT_FILE and TLS_KEY_FILE")
        return self

    @property
    def mail_listener(self) -> MailListener:
        """INGEST_MAIL_…, as the server of mails takes them."""
        return MailListener(
            listen=self.mail_listen,
            domain=self.mail_domain,
            require_tls=self.mail_require_tls,
            max_bytes=self.mail_max_bytes,
            max_connections=self.mail_max_connections,
            command_seconds=self.mail_command_seconds,
            session_seconds=self.mail_session_seconds,
            shared=self.listen_shared,
        )

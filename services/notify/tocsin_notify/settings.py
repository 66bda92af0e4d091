"""What an operator may set. Every variable is described in services/notify/README.md."""

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, model_validator
from tocsin_kit.settings import ServiceSettings, service_settings

from tocsin_notify.channels.email import MailServer, StartTls


def _keys(value: SecretStr) -> SecretStr:
    for key in filter(None, (part.strip() for part in value.get_secret_value().split(","))):
        if len(key) < 32:
            raise ValueError("each key must be at least 32 characters of random text")
    return value


class NotifySettings(ServiceSettings):
    """NOTIFY_… and the shared ones. Times are seconds unless the name says otherwise."""

    model_config = service_settings("NOTIFY_")

    secret_key: Annotated[SecretStr, AfterValidator(_keys)] = SecretStr("")
    """Encrypts webhook secrets: comma-separated, the first closes, all open. Unset: AUTH_SIGNING_KEYS do."""
    allow_private_webhooks: bool = False
    console_contacts: bool = True
    """Whether contact methods may be made that are lines in notify's log. Off: those that are there stay as they are."""
    concurrency: int = Field(200, ge=2, le=10_000)
    critical_reserve: int = Field(50, ge=1)
    org_concurrency: int = Field(50, ge=1)
    org_rate: float = Field(50.0, ge=0)
    org_burst: float = Field(200.0, ge=1)
    worker_concurrency: int = Field(200, ge=1, le=10_000)
    attempts: int = Field(5, ge=1, le=100)
    backoff_base: float = Field(2.0, gt=0, le=3600)
    backoff_cap: float = Field(300.0, gt=0, le=86_400)
    retry_window: float = Field(6 * 3600.0, ge=0, le=86_400)
    attempt_timeout: float = Field(10.0, gt=0, le=120)
    lease: float = Field(15.0, gt=0, le=600)
    retention_days: float = Field(90.0, gt=0)
    fence_retention_days: float = Field(8.0, gt=0)

    smtp_host: str = Field("", validation_alias="SMTP_HOST")
    smtp_port: int = Field(25, validation_alias="SMTP_PORT", ge=1, le=65535)
    smtp_username: str = Field("", validation_alias="SMTP_USERNAME")
    smtp_password: SecretStr = Field(SecretStr(""), validation_alias="SMTP_PASSWORD")
    smtp_from: str = Field("tocsin@localhost", validation_alias="SMTP_FROM", min_length=3)
    smtp_starttls: StartTls = Field(StartTls.AUTO, validation_alias="SMTP_STARTTLS")
    smtp_implicit_tls: bool = Field(False, validation_alias="SMTP_IMPLICIT_TLS")
    smtp_ca_file: str = Field("", validation_alias="SMTP_CA_FILE")
    smtp_connections: int = Field(10, validation_alias="SMTP_CONNECTIONS", ge=1, le=1000)

    @model_validator(mode="after")
    def _consistent(self) -> "NotifySettings":
        if self.critical_reserve >= self.concurrency:
            raise ValueError("NOTIFY_CRITICAL_RESERVE must be smaller than NOTIFY_CONCURRENCY")
        if self.lease < self.attempt_timeout + 5:
            raise ValueError("NOTIFY_LEASE must exceed NOTIFY_ATTEMPT_TIMEOUT by at least 5 seconds")
        return self

    @property
    def mail_server(self) -> MailServer:
        """SMTP_…, as the e-mail channel takes it."""
        return MailServer(
            host=self.smtp_host,
            port=self.smtp_port,
            username=self.smtp_username,
            password=self.smtp_password.get_secret_value(),
            sender=self.smtp_from,
            starttls=self.smtp_starttls,
            implicit_tls=self.smtp_implicit_tls,
            ca_file=self.smtp_ca_file,
        )

    @property
    def encryption_keys(self) -> list[bytes]:
        """What closes and opens stored secrets, in order."""
        own = [part.strip() for part in self.secret_key.get_secret_value().split(",")]
        keys = [key.encode() for key in own if key]
        return keys or [key for _, key in self.signing_keys.keys]

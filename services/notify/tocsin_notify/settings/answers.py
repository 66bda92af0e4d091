"""How people answer pages: by the link in a message, and by a reply to a mail."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from tocsin_kit.mail.listener import MailListener
from tocsin_kit.settings import Listen, ServiceSettings

from tocsin_notify.settings.values import base_url


class AnswerSettings(ServiceSettings):
    """Where answers and receipts come in."""

    public_url: Annotated[str, AfterValidator(base_url)] = ""
    """The base URL at which people and providers reach this service's HTTP, such as `https://tocsin.example.com`. If it has a
    path, the proxy must remove that path and change nothing else. Empty: messages have no answer link, and providers send no
    receipts."""

    receipt_timeout_seconds: float = Field(120.0, ge=5, le=3600)
    """Seconds that a page waits for the receipt that its message arrived. Then it is sent through the user's next method, if
    there is one. Used only with NOTIFY_PUBLIC_URL."""
    link_lifetime_seconds: float = Field(86_400.0, ge=60, le=30 * 86_400)
    """Seconds for which the link in a message can be used to answer. Later it only shows the state of the incident."""

    mail_listen: Listen | Literal[""] = ""
    """The address of the SMTP listener for replies to mails of pages. STARTTLS is offered with TLS_CERT_FILE. Empty: no listener.
    """
    mail_domain: str = Field("", max_length=190, pattern=r"^([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.|$))*$")
    """The domain of reply addresses, after the `@`. Its MX record, or the mail server that forwards its mails, leads to
    NOTIFY_MAIL_LISTEN. It must differ from INGEST_MAIL_DOMAIN. Empty: mails of pages cannot be replied to."""
    mail_require_tls: bool = False
    """Whether replies are accepted over STARTTLS only."""
    mail_max_connections: int = Field(100, ge=2, le=10_000)
    """SMTP connections at once; one host may have half of them. At most an eighth of them may carry a mail at one time."""

    @model_validator(mode="after")
    def _mail_is_consistent(self) -> "AnswerSettings":
        if self.mail_listen and not self.mail_domain:
            raise ValueError("NOTIFY_MAIL_LISTEN needs NOTIFY_MAIL_DOMAIN, the domain of the addresses for replies")
        if self.processes > 1 and self.mail_listen.endswith(":0"):
            raise ValueError("NOTIFY_MAIL_LISTEN needs a port: with 0 each of NOTIFY_PROCESSES would take another")
        if self.mail_require_tls and not self.tls_cert_file:
            raise ValueError("NOTIFY_MAIL_REQUIRE_TLS needs TLS_CERT_FILE and TLS_KEY_FILE")
        return self

    @property
    def mail_listener(self) -> MailListener:
        """NOTIFY_MAIL_…, in the form that the mail listener needs."""
        return MailListener(
            listen=self.mail_listen,
            domain=self.mail_domain,
            require_tls=self.mail_require_tls,
            max_connections=self.mail_max_connections,
            shared=self.listen_shared,
        )

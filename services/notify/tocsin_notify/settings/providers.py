"""The accounts at the providers of messages."""

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, model_validator
from tocsin_kit.settings import ServiceSettings

from tocsin_notify.channels.mail_server import MailServer, StartTls
from tocsin_notify.channels.pushover_account import PushoverAccount
from tocsin_notify.channels.slack_account import SlackAccount
from tocsin_notify.channels.telegram_account import TelegramAccount
from tocsin_notify.channels.twilio import TwilioAccount
from tocsin_notify.channels.web_push_sealing import Vapid
from tocsin_notify.settings.values import base_url, parts, secret_tokens, tenants_groups, vapid_key


class ProviderSettings(ServiceSettings):
    """`TWILIO_…`, `TELEGRAM_…`, `SLACK_…`, `VAPID_…`, `PUSHOVER_…`, `SMTP_…`, and what Apprise may reach."""

    twilio_account_sid: str = Field("", validation_alias="TWILIO_ACCOUNT_SID", pattern="^[A-Za-z0-9-]{0,64}$")
    """The account that sends text messages and calls people, at Twilio or a provider that speaks its API. Empty: neither."""
    twilio_auth_token: SecretStr = Field(SecretStr(""), validation_alias="TWILIO_AUTH_TOKEN")
    """Its auth tokens, separated by commas. The first is the login; each may have signed a receipt (rotation)."""
    twilio_from: str = Field(
        "",
        validation_alias="TWILIO_FROM",
        pattern=r"^(|\+[1-9][0-9]{3,14}|MG[0-9a-f]{32}|[A-Za-z0-9 ]{1,11})$",
    )
    """The sender: a number with its plus sign, a sender id of at most 11 letters and digits, or a messaging service (`MG…`)."""
    twilio_voice_from: str = Field("", validation_alias="TWILIO_VOICE_FROM", pattern=r"^(|\+[1-9][0-9]{3,14})$")
    """The number that calls come from, with its plus sign. Empty: TWILIO_FROM, if that is a number; else no calls are made."""
    twilio_ring_seconds: int = Field(30, validation_alias="TWILIO_RING_SECONDS", ge=5, le=120)
    """Seconds that a call rings. Most mailboxes take a call after 20 to 30 seconds; such a call has reached no one."""
    twilio_base_url: Annotated[str, AfterValidator(base_url)] = Field(
        "https://api.twilio.com", validation_alias="TWILIO_BASE_URL", min_length=1
    )
    """The base URL of its API."""
    twilio_sms_validity_seconds: int = Field(300, validation_alias="TWILIO_SMS_VALIDITY_SECONDS", ge=5, le=14_400)
    """Seconds after which the provider gives up a message that no carrier accepted. The page goes to the next method then."""
    twilio_sms_segments: int = Field(3, validation_alias="TWILIO_SMS_SEGMENTS", ge=1, le=10)
    """The most segments of one text message. Each is charged: 153 characters, or 67 with any outside of GSM-7."""

    twilio_replies: bool = Field(False, validation_alias="TWILIO_REPLIES")
    """Whether the provider's webhook for incoming messages is set to NOTIFY_PUBLIC_URL + `/v1/twilio/reply`. On: each page by
    text message says how to answer by reply. TWILIO_FROM must be a number or a messaging service then."""

    telegram_bot_token: SecretStr = Field(SecretStr(""), validation_alias="TELEGRAM_BOT_TOKEN")
    """The token of the operator's bot at Telegram. Empty: nothing is sent by Telegram."""
    telegram_webhook_secret: Annotated[SecretStr, AfterValidator(secret_tokens)] = Field(
        SecretStr(""), validation_alias="TELEGRAM_WEBHOOK_SECRET"
    )
    """The `secret_token` that its webhook was set with: 16 to 256 letters, digits, `_` and `-`. Several, separated by commas,
    during a rotation. Empty: messages have no buttons."""
    telegram_base_url: Annotated[str, AfterValidator(base_url)] = Field(
        "https://api.telegram.org", validation_alias="TELEGRAM_BASE_URL", min_length=1
    )
    """The base URL of its API."""
    slack_bot_token: SecretStr = Field(SecretStr(""), validation_alias="SLACK_BOT_TOKEN")
    """The bot token (`xoxb-…`) of the operator's app at Slack, with the scope `chat:write`. Empty: nothing is sent by Slack."""
    slack_signing_secret: SecretStr = Field(SecretStr(""), validation_alias="SLACK_SIGNING_SECRET")
    """Signs the app's requests. Several, separated by commas, during a rotation. Empty: messages have no buttons."""
    slack_user_groups: Annotated[str, AfterValidator(tenants_groups)] = Field("", validation_alias="SLACK_USER_GROUPS")
    """The user groups of the workspace that each tenant may let follow a schedule: `tenant:group`, separated by commas, such as
    `acme:S0604QSJC`. `*` stands for every tenant, or every group. Empty: none. The app needs the scope `usergroups:write`, and
    the workspace's settings must allow every member to change user groups."""
    slack_base_url: Annotated[str, AfterValidator(base_url)] = Field(
        "https://slack.com", validation_alias="SLACK_BASE_URL", min_length=1
    )
    """The base URL of its API."""
    vapid_private_key: Annotated[SecretStr, AfterValidator(vapid_key)] = Field(
        SecretStr(""), validation_alias="VAPID_PRIVATE_KEY"
    )
    """The private key by which push services of browsers know this installation (RFC 8292): 32 bytes in base64url, as `web-push
    generate-vapid-keys` prints them. When it changes, subscribed browsers must subscribe again. Empty: nothing is sent by web
    push."""
    vapid_subject: str = Field(
        "", validation_alias="VAPID_SUBJECT", pattern="^(|mailto:.+@.+|https://.+)$", max_length=255
    )
    """The contact for push services: `mailto:` and an address, or an https URL. Required with VAPID_PRIVATE_KEY."""
    pushover_token: SecretStr = Field(SecretStr(""), validation_alias="PUSHOVER_TOKEN")
    """The API token of the operator's application at Pushover. Empty: nothing is sent by Pushover."""
    pushover_base_url: Annotated[str, AfterValidator(base_url)] = Field(
        "https://api.pushover.net", validation_alias="PUSHOVER_BASE_URL", min_length=1
    )
    """The base URL of its API."""
    pushover_retry_seconds: int = Field(60, validation_alias="PUSHOVER_RETRY_SECONDS", ge=30, le=10_800)
    """Seconds after which a page that was not answered rings again."""
    pushover_expire_seconds: int = Field(3600, validation_alias="PUSHOVER_EXPIRE_SECONDS", ge=60, le=10_800)
    """Seconds after which such a page stops ringing."""

    apprise_schemes: str = Field("", pattern="^(|[a-z0-9]{1,32}(,[a-z0-9]{1,32})*)$")
    """Schemes of Apprise that contact methods may use, separated by commas, such as `gotifys,rocket,zulip`. Empty: none. A scheme
    is third-party code that gets the text of pages and calls the URL of its contact method. It runs in processes of its own,
    which may connect to the same addresses as webhooks, and may do nothing else."""
    apprise_workers: int = Field(4, ge=1, le=64)
    """Processes that run Apprise at once, in each replica; about 50 MB each. They are started on demand."""

    smtp_host: str = Field("", validation_alias="SMTP_HOST")
    """The mail server that sends mails. Empty: no mail is sent, and e-mail goes to the user's next contact method at once."""
    smtp_port: int = Field(25, validation_alias="SMTP_PORT", ge=1, le=65535)
    """Its port. 587 with STARTTLS and 465 with SMTP_IMPLICIT_TLS are usual."""
    smtp_username: str = Field("", validation_alias="SMTP_USERNAME")
    """The login at the mail server. Empty: none."""
    smtp_password: SecretStr = Field(SecretStr(""), validation_alias="SMTP_PASSWORD")
    """Its password."""
    smtp_from: str = Field("tocsin@localhost", validation_alias="SMTP_FROM", min_length=3)
    """The sender: an address, or a name with one, such as `Tocsin <tocsin@example.com>`."""
    smtp_starttls: StartTls = Field(StartTls.AUTO, validation_alias="SMTP_STARTTLS")
    """When a plain connection becomes TLS: never, when the server offers it, or always. A password is never sent without TLS."""
    smtp_implicit_tls: bool = Field(False, validation_alias="SMTP_IMPLICIT_TLS")
    """TLS from the first byte (port 465)."""
    smtp_ca_file: str = Field("", validation_alias="SMTP_CA_FILE")
    """The authority (PEM) to trust for the mail server. Empty: the system's."""
    smtp_connections: int = Field(10, validation_alias="SMTP_CONNECTIONS", ge=1, le=1000)
    """SMTP sessions at once, in each replica."""

    @model_validator(mode="after")
    def _accounts_are_consistent(self) -> "ProviderSettings":
        if self.twilio_account_sid and not (self.twilio_account.tokens and self.twilio_from):
            raise ValueError("TWILIO_ACCOUNT_SID needs TWILIO_AUTH_TOKEN and TWILIO_FROM")
        if self.vapid.private_key and not self.vapid_subject:
            raise ValueError("VAPID_PRIVATE_KEY needs VAPID_SUBJECT")
        return self

    @property
    def twilio_account(self) -> TwilioAccount:
        """TWILIO_…, in the form that its channels need."""
        tokens = (part.strip() for part in self.twilio_auth_token.get_secret_value().split(","))
        return TwilioAccount(
            sid=self.twilio_account_sid,
            tokens=tuple(filter(None, tokens)),
            sender=self.twilio_from,
            base_url=self.twilio_base_url,
            sms_validity=self.twilio_sms_validity_seconds,
            sms_segments=self.twilio_sms_segments,
            caller=self.twilio_voice_from or (self.twilio_from if self.twilio_from.startswith("+") else ""),
            ring_seconds=self.twilio_ring_seconds,
            replies=self.twilio_replies,
        )

    @property
    def telegram_account(self) -> TelegramAccount:
        """TELEGRAM_…, in the form that its channel needs."""
        token = self.telegram_bot_token.get_secret_value().strip()
        return TelegramAccount(token, parts(self.telegram_webhook_secret), self.telegram_base_url)

    @property
    def slack_account(self) -> SlackAccount:
        """SLACK_…, in the form that its channel needs."""
        token = self.slack_bot_token.get_secret_value().strip()
        return SlackAccount(token, parts(self.slack_signing_secret), self.slack_base_url)

    @property
    def groups_allowed(self) -> frozenset[tuple[str, str]]:
        """SLACK_USER_GROUPS, as tenant and group."""
        pairs = (part.strip().rpartition(":") for part in self.slack_user_groups.split(",") if part.strip())
        return frozenset((tenant, group) for tenant, _, group in pairs)

    @property
    def vapid(self) -> Vapid:
        """VAPID_…, in the form that its channel needs."""
        return Vapid(self.vapid_private_key.get_secret_value(), self.vapid_subject)

    @property
    def pushover_account(self) -> PushoverAccount:
        """PUSHOVER_…, in the form that its channel needs."""
        return PushoverAccount(
            token=self.pushover_token.get_secret_value().strip(),
            base_url=self.pushover_base_url,
            retry_seconds=self.pushover_retry_seconds,
            expire_seconds=self.pushover_expire_seconds,
        )

    @property
    def apprise_allowed(self) -> tuple[str, ...]:
        """NOTIFY_APPRISE_SCHEMES, one by one."""
        return tuple(filter(None, self.apprise_schemes.split(",")))

    @property
    def mail_server(self) -> MailServer:
        """SMTP_…, in the form that the e-mail channel needs."""
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

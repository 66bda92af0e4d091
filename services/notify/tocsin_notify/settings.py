"""What notify reads from the environment, beside what every service reads."""

import re
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, Field, SecretStr, model_validator
from tocsin_kit.mail.listener import MailListener
from tocsin_kit.secret_boxes import SecretKeys, secret_keys
from tocsin_kit.settings import Listen, ServiceSettings, service_settings

from tocsin_notify.channels.mail_server import MailServer, StartTls
from tocsin_notify.channels.pushover_account import PushoverAccount
from tocsin_notify.channels.slack_account import SlackAccount
from tocsin_notify.channels.telegram_account import TelegramAccount
from tocsin_notify.channels.twilio import TwilioAccount
from tocsin_notify.channels.urls import BadUrl, read_url
from tocsin_notify.channels.web_push_sealing import Vapid, check_private_key
from tocsin_notify.domain.bundling import BundlePolicy
from tocsin_notify.domain.provider_rates import checked_rates
from tocsin_notify.former_names import FORMER_NAMES

_TENANT_GROUP: Final = re.compile(r"[^\s:,]+:(\*|S[A-Z0-9]{6,20})")
_SECRET_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{16,256}")


def _parts(value: SecretStr) -> tuple[str, ...]:
    return tuple(filter(None, (part.strip() for part in value.get_secret_value().split(","))))


def _secret_tokens(value: SecretStr) -> SecretStr:
    if not all(_SECRET_TOKEN.fullmatch(part) for part in _parts(value)):
        raise ValueError("each secret must be 16 to 256 letters, digits, _ and -")
    return value


def _vapid_key(value: SecretStr) -> SecretStr:
    check_private_key(value.get_secret_value())
    return value


def _tenants_groups(value: str) -> str:
    if not all(_TENANT_GROUP.fullmatch(part.strip()) for part in value.split(",") if value):
        raise ValueError("must be pairs of tenant and group separated by commas, such as acme:S0604QSJC or acme:*")
    return value


def _base_url(value: str) -> str:
    """A URL that paths are appended to; empty stays empty."""
    if not value:
        return ""
    try:
        read_url(value, allow_private=True)
    except BadUrl as error:
        raise ValueError(str(error)) from error
    if not value.isascii() or set(value) & set("?#"):
        raise ValueError("must be an ASCII URL without a query, such as https://tocsin.example.com")
    return value.rstrip("/")


class NotifySettings(ServiceSettings):
    """`NOTIFY_…` variables, and those of providers. The name of a duration or a rate ends in its unit."""

    model_config = service_settings("NOTIFY_")
    renamed: ClassVar = FORMER_NAMES

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

    storm_pages: int = Field(10, ge=0, le=1000)
    """Pages that a person gets one by one within NOTIFY_STORM_WINDOW_SECONDS. Further ones are sent together as one message,
    until no page came for that long. Critical pages do not count, and are always sent at once. 0: pages are never bundled."""
    storm_window_seconds: float = Field(300.0, ge=1, le=86_400)
    """See NOTIFY_STORM_PAGES."""
    storm_collect_seconds: float = Field(30.0, ge=1, le=3600)
    """Seconds from the first page of a bundle to its message. Doubled for each further one of the storm, up to four times."""
    digest_late_seconds: float = Field(6 * 3600.0, ge=300, le=86_400)
    """How late a digest may be sent, in seconds. A later one is skipped, and ListDigests shows that."""
    board_url: Annotated[str, AfterValidator(_base_url)] = ""
    """The base URL at which operators open the board: `https://tocsin-admin.example.com` for `/board` below it. Required with
    NOTIFY_BOARD_OIDC_ISSUER, whose client must allow the redirect to `/board/login/oidc/done` below it."""
    board_oidc_issuer: str = Field("", pattern="^(|https?://[!-~]+)$")
    """The OpenID Connect provider through which operators may log in at the board, beside their tokens. Empty: none."""
    board_oidc_client_id: str = ""
    """The client id of the board at the provider."""
    board_oidc_client_secret: SecretStr = SecretStr("")
    """Its secret. Empty: a public client, protected by PKCE alone."""
    board_oidc_scopes: str = Field("openid profile", pattern=r"^openid( [!#-\[\]-~]+)*$")
    """The scopes that it is asked for. Dex, Okta and others tell no groups unless `groups` is among them."""
    board_oidc_claim: str = Field("groups", min_length=1)
    """The claim of the provider's ID token that lists a person's groups or roles."""
    board_oidc_readers: str = ""
    """Values of that claim, separated by commas, whose holders may read the board. All of them are operators of every tenant."""
    board_oidc_writers: str = ""
    """Values of that claim, separated by commas, whose holders may also act at the board."""
    public_url: Annotated[str, AfterValidator(_base_url)] = ""
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
    twilio_base_url: Annotated[str, AfterValidator(_base_url)] = Field(
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
    telegram_webhook_secret: Annotated[SecretStr, AfterValidator(_secret_tokens)] = Field(
        SecretStr(""), validation_alias="TELEGRAM_WEBHOOK_SECRET"
    )
    """The `secret_token` that its webhook was set with: 16 to 256 letters, digits, `_` and `-`. Several, separated by commas,
    during a rotation. Empty: messages have no buttons."""
    telegram_base_url: Annotated[str, AfterValidator(_base_url)] = Field(
        "https://api.telegram.org", validation_alias="TELEGRAM_BASE_URL", min_length=1
    )
    """The base URL of its API."""
    slack_bot_token: SecretStr = Field(SecretStr(""), validation_alias="SLACK_BOT_TOKEN")
    """The bot token (`xoxb-…`) of the operator's app at Slack, with the scope `chat:write`. Empty: nothing is sent by Slack."""
    slack_signing_secret: SecretStr = Field(SecretStr(""), validation_alias="SLACK_SIGNING_SECRET")
    """Signs the app's requests. Several, separated by commas, during a rotation. Empty: messages have no buttons."""
    slack_user_groups: Annotated[str, AfterValidator(_tenants_groups)] = Field("", validation_alias="SLACK_USER_GROUPS")
    """The user groups of the workspace that each tenant may let follow a schedule: `tenant:group`, separated by commas, such as
    `acme:S0604QSJC`. `*` stands for every tenant, or every group. Empty: none. The app needs the scope `usergroups:write`, and
    the workspace's settings must allow every member to change user groups."""
    slack_base_url: Annotated[str, AfterValidator(_base_url)] = Field(
        "https://slack.com", validation_alias="SLACK_BASE_URL", min_length=1
    )
    """The base URL of its API."""
    vapid_private_key: Annotated[SecretStr, AfterValidator(_vapid_key)] = Field(
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
    pushover_base_url: Annotated[str, AfterValidator(_base_url)] = Field(
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
    def _consistent(self) -> "NotifySettings":
        if self.critical_reserve >= self.concurrency:
            raise ValueError("NOTIFY_CRITICAL_RESERVE must be smaller than NOTIFY_CONCURRENCY")
        if self.lease_seconds < self.attempt_timeout_seconds + 5:
            raise ValueError("NOTIFY_LEASE_SECONDS must exceed NOTIFY_ATTEMPT_TIMEOUT_SECONDS by at least 5 seconds")
        if self.board_oidc_issuer and not (self.board_url and self.board_oidc_client_id):
            raise ValueError("NOTIFY_BOARD_OIDC_ISSUER needs NOTIFY_BOARD_URL and NOTIFY_BOARD_OIDC_CLIENT_ID")
        if self.board_oidc_issuer and not (self.board_oidc_readers or self.board_oidc_writers):
            raise ValueError("NOTIFY_BOARD_OIDC_ISSUER needs NOTIFY_BOARD_OIDC_READERS or NOTIFY_BOARD_OIDC_WRITERS")
        if self.mail_listen and not self.mail_domain:
            raise ValueError("NOTIFY_MAIL_LISTEN needs NOTIFY_MAIL_DOMAIN, the domain of the addresses for replies")
        if self.processes > 1 and self.mail_listen.endswith(":0"):
            raise ValueError("NOTIFY_MAIL_LISTEN needs a port: with 0 each of NOTIFY_PROCESSES would take another")
        if self.mail_require_tls and not self.tls_cert_file:
            raise ValueError("NOTIFY_MAIL_REQUIRE_TLS needs TLS_CERT_FILE and TLS_KEY_FILE")
        if self.twilio_account_sid and not (self.twilio_account.tokens and self.twilio_from):
            raise ValueError("TWILIO_ACCOUNT_SID needs TWILIO_AUTH_TOKEN and TWILIO_FROM")
        if self.twilio_replies and not (self.public_url and self.twilio_from.startswith(("+", "MG"))):
            raise ValueError("TWILIO_REPLIES needs NOTIFY_PUBLIC_URL, and a TWILIO_FROM that can be replied to")
        if self.vapid.private_key and not self.vapid_subject:
            raise ValueError("VAPID_PRIVATE_KEY needs VAPID_SUBJECT")
        return self

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

    @property
    def telegram_account(self) -> TelegramAccount:
        """TELEGRAM_…, in the form that its channel needs."""
        token = self.telegram_bot_token.get_secret_value().strip()
        return TelegramAccount(token, _parts(self.telegram_webhook_secret), self.telegram_base_url)

    @property
    def slack_account(self) -> SlackAccount:
        """SLACK_…, in the form that its channel needs."""
        token = self.slack_bot_token.get_secret_value().strip()
        return SlackAccount(token, _parts(self.slack_signing_secret), self.slack_base_url)

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
    def bundling(self) -> BundlePolicy:
        """When pages are bundled, for people who have chosen no budget."""
        collect = self.storm_collect_seconds
        return BundlePolicy(self.storm_pages, self.storm_window_seconds, collect, collect * 4)

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
    def encryption_keys(self) -> list[bytes]:
        """The keys that encrypt and decrypt stored secrets, in order."""
        return secret_keys(self.secret_key, self.signing_keys)

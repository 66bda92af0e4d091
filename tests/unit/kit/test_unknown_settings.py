"""Misspelled settings are named at the start, with the one that was meant; variables of other programs are not."""

import pytest
from pydantic import Field
from tocsin_kit.settings import ServiceSettings, service_settings
from tocsin_kit.unknown_settings import Unknown, unknown_variables, variables_of


class IngestLike(ServiceSettings):
    model_config = service_settings("INGEST_")
    batch_size: int = 1
    retention_days: int = 1
    smtp_username: str = Field("", validation_alias="SMTP_USERNAME")
    smtp_starttls: str = Field("", validation_alias="SMTP_STARTTLS")


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("INGEST_BATCHSIZE", "INGEST_BATCH_SIZE"),
        ("INGEST_BACTH_SIZE", "INGEST_BATCH_SIZE"),
        ("ingest_batch_sizes", "INGEST_BATCH_SIZE"),
        ("INGEST_LOG_LEVEL", "LOG_LEVEL"),
        ("INGEST_XYZZY", ""),
        ("INGST_BATCH_SIZE", "INGEST_BATCH_SIZE"),
        ("LOG_LEVL", "LOG_LEVEL"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("REDIS_URI", "REDIS_URL"),
        ("GRPC_MAX_MESSAGE_SIZE", "GRPC_MAX_MESSAGE_BYTES"),
        ("AUTH_SIGNING_KEY", "AUTH_SIGNING_KEYS"),
        ("SMTP_USER", "SMTP_USERNAME"),
        ("SMTP_TLS", "SMTP_STARTTLS"),
    ],
)
def test_a_variable_that_nothing_reads_is_named(variable: str, nearest: str) -> None:
    assert unknown_variables(IngestLike, {variable: "1"}) == [Unknown(variable.upper(), nearest)]


def test_every_known_variable_with_a_letter_less_is_named() -> None:
    for known in variables_of(IngestLike):
        variables = {known[:at] + known[at + 1 :] for at in range(len(known))}
        # A variable that bears another service's prefix is reported by that service.
        named = sorted(each for each in variables if not each.startswith(("ESCALATION_", "NOTIFY_")))
        assert [each.variable for each in unknown_variables(IngestLike, dict.fromkeys(variables, "1"))] == named


@pytest.mark.parametrize(
    "variable",
    [
        "INGEST_BATCH_SIZE",
        "ingest_batch_size",
        "INGEST_TARGET",
        "INGEST_DATABASE_URL",
        "INGEST_ADMIN_LISTEN",
        "REDIS_URL",
        # The other services' own, in the same .env.
        "ESCALATION_RETENTION_DAYS",
        "NOTIFY_DATABASE_URL",
        "NOTIFY_RETRY_WINDOW_SECONDS",
        # Set by systemd, by Kubernetes for a service called ingest, by OpenSSL, gRPC, PostgreSQL, proxies and shells.
        "NOTIFY_SOCKET",
        "INGEST_SERVICE_HOST",
        "INGEST_SERVICE_PORT_GRPC",
        "INGEST_PORT",
        "INGEST_PORT_7101_TCP",
        "INGEST_PORT_7101_TCP_ADDR",
        "REDIS_PORT",
        "REDIS_SERVICE_HOST",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "GRPC_VERBOSITY",
        "GRPC_TRACE",
        "GRPC_DNS_RESOLVER",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "DATABASE_URL",
        "PGHOST",
        "PATH",
        "HOME",
        "LOGNAME",
        "TOCSIN_VERSION",
        "PYTHONUNBUFFERED",
        "WATCHDOG_USEC",
    ],
)
def test_what_is_read_or_belongs_to_another_program_is_not(variable: str) -> None:
    assert unknown_variables(IngestLike, {variable: "1"}) == []


def test_settings_without_a_prefix_have_shared_variables_only() -> None:
    assert unknown_variables(ServiceSettings, {"ANYTHING": "1", "LOG_LEVL": "1"}) == [Unknown("LOG_LEVL", "LOG_LEVEL")]

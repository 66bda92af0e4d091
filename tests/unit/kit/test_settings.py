"""Settings: where they come from, what is said about wrong ones, what is never said."""

from typing import ClassVar

import pytest
from pydantic import Field
from tocsin_kit.former_names import former_names
from tocsin_kit.settings import ServiceSettings, SettingsError, load, read, service_settings
from tocsin_kit.unknown_settings import unknown_variables

GOOD = {"WIDGET_DATABASE_URL": "postgresql://u:hunter2@h/d", "AUTH_SIGNING_KEYS": "k1:" + "Ab3dEf6hIj9lMn" * 3 + "A"}


class WidgetSettings(ServiceSettings):
    model_config = service_settings("WIDGET_")
    renamed: ClassVar = {"WIDGET_COLOUR": "color", "SHADE": "shade"}
    color: str = "red"
    count: int = 1
    shade: int = Field(0, validation_alias="SHADE_PERCENT", le=100)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_own_ones_have_the_prefix_and_shared_ones_do_not(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("WIDGET_COLOR", "blue")
    environment.setenv("WIDGET_GRPC_LISTEN", "0.0.0.0:7101")
    environment.setenv("LOG_LEVEL", "DEBUG")
    environment.setenv("WIDGET_LOG_LEVEL", "ERROR")
    environment.setenv("GRPC_LISTEN", "elsewhere:1")
    settings = read(WidgetSettings)
    assert (settings.color, settings.grpc_listen, settings.log_level) == ("blue", "0.0.0.0:7101", "DEBUG")
    assert settings.signing_keys.signing[0] == "k1"


def test_every_problem_is_a_line_and_none_shows_a_secret(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("WIDGET_DATABASE_URL")
    environment.setenv("AUTH_SIGNING_KEYS", "k1:hunter2")
    environment.setenv("WIDGET_COUNT", "many")
    environment.setenv("WIDGET_HTTP_LISTEN", "nowhere")
    environment.setenv("DATABASE_POOL_SIZE", "0")
    with pytest.raises(SettingsError) as caught:
        read(WidgetSettings)
    names = sorted(line.split()[0].rstrip(":") for line in caught.value.lines)
    assert names == [
        "AUTH_SIGNING_KEYS",
        "DATABASE_POOL_SIZE",
        "WIDGET_COUNT",
        "WIDGET_DATABASE_URL",
        "WIDGET_HTTP_LISTEN",
    ]
    assert "hunter2" not in str(caught.value)


def test_a_variable_is_read_by_its_former_name_for_one_release(environment: pytest.MonkeyPatch) -> None:
    given = {"WIDGET_COLOUR": "blue", "shade": "7"}
    for name, value in given.items():
        environment.setenv(name, value)
    settings = read(WidgetSettings)
    assert (settings.color, settings.shade) == ("blue", 7)
    assert former_names(WidgetSettings, given) == {"WIDGET_COLOUR": "WIDGET_COLOR", "SHADE": "SHADE_PERCENT"}
    assert unknown_variables(WidgetSettings, given) == []
    environment.setenv("WIDGET_COLOR", "green")
    assert read(WidgetSettings).color == "green", "set by both names, the new one counts"
    environment.setenv("SHADE", "101")
    with pytest.raises(SettingsError, match="SHADE_PERCENT"):
        read(WidgetSettings)


def test_the_process_ends_with_2(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    environment.delenv("WIDGET_DATABASE_URL")
    with pytest.raises(SystemExit) as caught:
        load(WidgetSettings)
    assert caught.value.code == 2
    assert capsys.readouterr().err == "WIDGET_DATABASE_URL is not set\n"


def test_what_is_logged_hides_secrets() -> None:
    settings = read(WidgetSettings)
    shown = str(settings.redacted())
    assert "hunter2" not in shown + repr(settings)
    assert "Ab3dEf6hIj9lMn" not in shown + repr(settings)
    assert settings.redacted()["database_url"] == "***"
    assert settings.redacted()["color"] == "red"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"AUTH_OIDC_ISSUER": "https://issuer.example"}, "AUTH_OIDC_AUDIENCE"),
        ({"TLS_CERT_FILE": "cert.pem"}, "TLS_KEY_FILE"),
        ({"TLS_KEY_FILE": "key.pem"}, "TLS_CERT_FILE"),
        ({"TLS_CLIENT_CA_FILE": "ca.pem"}, "TLS_CERT_FILE"),
        ({"AUTH_SIGNING_KEYS": "k1:" + "A" * 43}, "AUTH_SIGNING_KEYS"),
        ({"AUTH_SIGNING_KEYS": f"k1:{'Ab3dEf6hIj9lMn' * 3}A,k2:{'A' * 43}"}, "AUTH_SIGNING_KEYS"),
    ],
)
def test_half_of_a_protection_is_refused(
    environment: pytest.MonkeyPatch, given: dict[str, str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in given.items():
        environment.setenv(name, value)
    with pytest.raises(SystemExit):
        load(WidgetSettings)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(named)
    assert "AAAA" not in line


def test_whole_protections_are_taken(environment: pytest.MonkeyPatch) -> None:
    for name in ("AUTH_OIDC_ISSUER", "AUTH_OIDC_AUDIENCE", "TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CLIENT_CA_FILE"):
        environment.setenv(name, "x")
    assert read(WidgetSettings).auth_oidc_audience == "x"

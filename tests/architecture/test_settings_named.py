"""Each setting is named by a test: a setting that no test names may have no effect, unnoticed."""

import re
from functools import cache
from pathlib import Path

import pytest
from tocsin_escalation.settings import EscalationSettings
from tocsin_ingest.settings import IngestSettings
from tocsin_kit.settings import ServiceSettings
from tocsin_notify.settings import NotifySettings

TESTS = Path(__file__).resolve().parents[1]
SERVICES: dict[str, type[ServiceSettings]] = {
    "ingest": IngestSettings,
    "escalation": EscalationSettings,
    "notify": NotifySettings,
}
NAMES_WITHOUT_EFFECTS = {"test_unknown_settings.py", "test_configuration.py"}
"""About how variables are spelled and listed, not about their effects."""
GIVEN_BY_STAND_INS = {
    "SLACK_SIGNING_SECRET": "tocsin_testkit.slack signs with it, and tests/store/notify/test_chat.py forges signatures",
    "TELEGRAM_BOT_TOKEN": "tocsin_testkit.telegram takes no other in its paths",
    "TELEGRAM_WEBHOOK_SECRET": "tocsin_testkit.telegram calls back with it, and tests/store/notify/test_chat.py forges it",
}
"""Variables of a provider that its stand-in in the testkit gives to each replica, and why it matters what they say."""
NAMED = re.compile(r'\b([A-Z]+_[A-Z0-9_]+|REFLECTION)\b|\b([a-z][a-z0-9_]*)\s*=|"([a-z][a-z0-9_]*)"')
WHAT_TO_DO = (
    "are named by no test. Write one that gives the variable two values, makes the service by its own wiring "
    "(tests/wired.py), and shows what differs"
)


@pytest.mark.parametrize("service", SERVICES)
def test_each_setting_is_named_by_a_test(service: str) -> None:
    unnamed = sorted(
        variable
        for field, variable in variables(SERVICES[service]).items()
        if variable not in GIVEN_BY_STAND_INS
        and not is_named(field, variable, service, shared=field in ServiceSettings.model_fields)
    )
    assert not unnamed, f"{', '.join(unnamed)} {WHAT_TO_DO}"


def test_a_setting_that_no_test_names_is_found() -> None:
    assert not is_named("no_such" + "_field", "INGEST_NO_SUCH" + "_FIELD", "ingest", shared=False)
    assert not is_named("calendar_stale_seconds", "NOTIFY_CALENDAR_STALE" + "_SECONDS", "notify", shared=False)


def variables(settings: type[ServiceSettings]) -> dict[str, str]:
    """What each field is read from."""
    prefix = settings.model_config.get("env_prefix", "")
    return {
        name: field.validation_alias if isinstance(field.validation_alias, str) else prefix + name.upper()
        for name, field in settings.model_fields.items()
    }


def is_named(field: str, variable: str, service: str, *, shared: bool) -> bool:
    """By its variable; or as a field that is given, by a test of the service that it is a setting of."""
    of_each = {f"{each.upper()}_{field.upper()}" for each in SERVICES} if shared else set()
    return any(
        names & {variable, *of_each} or (field in names and (shared or service in path.parts))
        for path, names in named().items()
    )


@cache
def named() -> dict[Path, set[str]]:
    """The variables and the fields that each test names."""
    return {
        path.relative_to(TESTS): {next(filter(None, each)) for each in NAMED.findall(path.read_text())}
        for path in TESTS.rglob("*.py")
        if path.relative_to(TESTS).parts[0] not in ("architecture", "bench", "chaos")
        and path.name not in NAMES_WITHOUT_EFFECTS
    }

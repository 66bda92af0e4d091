"""docs/configuration.md: every setting is on it, with what it means."""

import re

import pytest
from tocsin_kit.settings import ServiceSettings, service_settings
from tocsin_kit.unknown_settings import unknown_variables, variables_of
from tocsin_stack.plan import StackSettings
from tocsin_stack.variables import VARIABLES
from tocsin_testkit.installation import QUICK

from tests.contract.tools import ROOT, load

configuration = load("configuration")


class Undocumented(ServiceSettings):
    model_config = service_settings("INGEST_")
    colour: str = "red"


def test_every_variable_of_every_service_is_on_the_page_once() -> None:
    listed = re.findall(r"^\| `(\S+)` \|", configuration.page(), re.MULTILINE)
    assert len(listed) == len(set(listed))
    for service, settings in configuration.SERVICES.items():
        named = {each.replace("<SERVICE>", service.upper()) for each in listed}
        assert variables_of(settings).keys() <= named
    assert {each.name for each in VARIABLES} <= set(listed)


def test_a_setting_without_a_docstring_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(configuration.SERVICES, "ingest", Undocumented)
    with pytest.raises(configuration.Undocumented, match=r"Undocumented\.colour"):
        configuration.page()


def test_every_variable_of_the_stack_is_read_and_no_other() -> None:
    sources = (path.read_text() for path in (ROOT / "libs" / "stack" / "tocsin_stack").glob("*.py"))
    named = set(re.findall(r"TOCSIN_[A-Z_]+[A-Z]", "".join(sources)))
    assert named == {each.name for each in VARIABLES}
    assert configuration.docstrings(StackSettings).keys() == StackSettings.__dataclass_fields__.keys()


UNITS = ("_seconds", "_days", "_per_second", "_burst")


def test_the_name_of_a_duration_or_a_rate_ends_in_its_unit() -> None:
    numbers = {
        name
        for settings in configuration.SERVICES.values()
        for name, field in settings.model_fields.items()
        if field.annotation is float
    }
    assert len(numbers) > 20
    assert [name for name in sorted(numbers) if not name.endswith(UNITS)] == []


def test_a_former_name_is_that_of_a_setting_and_no_setting_s_own() -> None:
    for settings in configuration.SERVICES.values():
        assert set(settings.renamed.values()) <= settings.model_fields.keys()
        assert settings.renamed.keys().isdisjoint(variables_of(settings))


@pytest.mark.parametrize("service", configuration.SERVICES)
def test_what_tests_set_is_read(service: str) -> None:
    assert unknown_variables(configuration.SERVICES[service], QUICK) == []

"""Variables that had another name in the last release. They are read for one more release, with a warning.

A settings class names them in `renamed`, and `docker-compose.yml` passes them on: otherwise a variable that was set for the last
release would silently have no effect.
"""

from collections.abc import Mapping
from typing import Final

from pydantic_settings import BaseSettings

from tocsin_kit.unknown_settings import renamed_of, variables_of

MEANING: Final = "the next release does not read it"


def former_names(settings_type: type[BaseSettings], environment: Mapping[str, str]) -> dict[str, str]:
    """The variables in the environment that have another name now, and that name."""
    given = {name.upper() for name in environment}
    variable = {field: variable for variable, field in variables_of(settings_type).items()}
    return {former: variable[field] for former, field in renamed_of(settings_type).items() if former in given}


def values_by_former_names(settings_type: type[BaseSettings], environment: Mapping[str, str]) -> dict[str, str]:
    """Their values, by field. Where the variable is set by its new name, that value is used."""
    values = {name.upper(): value for name, value in environment.items()}
    fields = variables_of(settings_type)
    return {
        fields[variable]: values[former]
        for former, variable in former_names(settings_type, environment).items()
        if variable not in values
    }

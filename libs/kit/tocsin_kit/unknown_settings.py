"""Environment variables that look like settings and are none: a misspelled one would silently leave its default in force."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches
from typing import Final

from pydantic_settings import BaseSettings

NEAR: Final = 0.87
"""How alike two names are (0 to 1, as difflib counts) for one to be a misspelling of the other. `SSL_CERT_FILE`, which
OpenSSL reads, is 0.85 from `TLS_CERT_FILE` and must not be reported."""
NEAR_OF_FAMILY: Final = 0.75
"""The same for names whose first word is equal, such as `SMTP_USER` and `SMTP_USERNAME`."""
NEAR_OF_PREFIX: Final = 0.6
"""How alike a known variable must be to be named beside one that bears the service's prefix and is unknown anyway."""

# Other programs set these for every process: systemd its notification socket, Kubernetes the addresses of each service.
_FOREIGN: Final = re.compile(
    r"NOTIFY_SOCKET|[A-Z0-9]+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


@dataclass(frozen=True, slots=True)
class Unknown:
    """A variable that no setting reads, and the setting that was probably meant; "" when none is near."""

    variable: str
    nearest: str


def variables_of(settings_type: type[BaseSettings]) -> dict[str, str]:
    """Every variable that the settings read, in the order of their fields, with the field's name."""
    prefix = settings_type.model_config.get("env_prefix", "")
    return {
        field.validation_alias if isinstance(field.validation_alias, str) else f"{prefix}{name}".upper(): name
        for name, field in settings_type.model_fields.items()
    }


def renamed_of(settings_type: type[BaseSettings]) -> Mapping[str, str]:
    """The fields of variables that had another name in the last release, by that name."""
    renamed: Mapping[str, str] = getattr(settings_type, "renamed", {})
    return renamed


def unknown_variables(settings_type: type[BaseSettings], environment: Mapping[str, str]) -> list[Unknown]:
    """The variables that bear the prefix of these settings, or nearly the name of one of them, and are not read.

    Variables that bear another service's prefix are left to that service: one `.env` may serve all of them. A service's
    prefix is known by the shared variable `<SERVICE>_TARGET`.
    """
    known = list(variables_of(settings_type))
    own = settings_type.model_config.get("env_prefix", "")
    prefixes = {own, *(f"{name.removesuffix('_TARGET')}_" for name in known if name.endswith("_TARGET"))} - {""}
    found = []
    for variable in sorted({name.upper() for name in environment} - {*known, *renamed_of(settings_type)}):
        if _FOREIGN.fullmatch(variable):
            continue
        if own and variable.startswith(own):
            found.append(Unknown(variable, _nearest(variable, own, known)))
        elif not variable.startswith(tuple(prefixes)) and (meant := _misspelled(variable, known)):
            found.append(Unknown(variable, meant))
    return found


def _nearest(variable: str, own: str, known: Iterable[str]) -> str:
    """`INGEST_LOG_LEVEL` means LOG_LEVEL, which bears no prefix; else the most alike."""
    bare = variable.removeprefix(own)
    if bare in known:
        return bare
    return next(iter(get_close_matches(variable, known, n=1, cutoff=NEAR_OF_PREFIX)), "")


def _misspelled(variable: str, known: Iterable[str]) -> str:
    family = variable.split("_")[0]
    # It counts the letters of its second text once, for all that are compared with it.
    letters = SequenceMatcher(None, "", variable)
    alike, meant = max((_likeness(letters, variable, name), name) for name in known)
    return meant if alike >= (NEAR_OF_FAMILY if meant.split("_")[0] == family else NEAR) else ""


def _likeness(letters: SequenceMatcher[str], variable: str, name: str) -> float:
    """0 where it is below every bound: to count it takes 30 us, for every variable with every setting at every start."""
    letters.set_seq1(name)
    bounded = letters.real_quick_ratio() >= NEAR_OF_FAMILY and letters.quick_ratio() >= NEAR_OF_FAMILY
    return SequenceMatcher(None, variable, name).ratio() if bounded else 0.0

"""docs/configuration.md from the settings classes: `generate` writes the page, `check` says whether it is stale."""

import ast
import inspect
import sys
import textwrap
from enum import Enum
from functools import cache
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from generated import Undocumented, run
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from tocsin_escalation.settings import EscalationSettings
from tocsin_ingest.settings import IngestSettings
from tocsin_kit.settings import Listen, ServiceSettings
from tocsin_kit.unknown_settings import variables_of
from tocsin_notify.settings import NotifySettings
from tocsin_stack.variables import VARIABLES

SERVICES: Final[dict[str, type[ServiceSettings]]] = {
    "ingest": IngestSettings,
    "escalation": EscalationSettings,
    "notify": NotifySettings,
}
# With the prefix of each service; every other field of ServiceSettings has one name for all services.
_PREFIXED: Final = frozenset(
    name for name, field in ServiceSettings.model_fields.items() if not isinstance(field.validation_alias, str)
)
_HEAD: Final = """\
# Configuration

Every environment variable that a service reads. This page is generated from the settings classes by `make configuration`;
`make check` fails while it is stale. The name of a duration or a rate
ends in its unit. Limits are those of one replica.

A service reads its settings once, when it starts. It ends with exit code 2 and one line per problem when a variable is missing
or out of bounds. It logs `unknown_setting` for each variable that bears its prefix, or nearly the name of a setting, and is
not read; the line names the setting that is most alike. It logs `renamed_setting` for one that is set by the name that it had in
the last release, and reads it. `python -m tocsin_<service> check` says the same and ends.

A number, a choice or `true`/`false` that is set and empty is an error. Variables of `docker-compose.yml` itself, such as ports
and image names, are explained in [.env.example](../.env.example).
"""
_TABLE: Final = "| variable | type | default | bounds | meaning |\n|---|---|---|---|---|"


def page() -> str:
    """The whole page. Raises Undocumented."""
    prefixed = [_row(f"`<SERVICE>_{name.upper()}`", ServiceSettings, name) for name in _own(ServiceSettings)]
    shared = [
        _row(f"`{variable}`", ServiceSettings, name)
        for variable, name in variables_of(ServiceSettings).items()
        if name not in _PREFIXED
    ]
    parts = [
        _HEAD,
        "## Every service, with its prefix\n",
        "`<SERVICE>` is `INGEST`, `ESCALATION` or `NOTIFY`. Each service reads its own variables only.\n",
        _table(prefixed),
        "## Every service, by one name\n",
        "Read by ingest, escalation and notify alike.\n",
        _table(shared),
    ]
    for service, settings in SERVICES.items():
        variables = {name: variable for variable, name in variables_of(settings).items()}
        rows = [_row(f"`{variables[name]}`", settings, name) for name in _own(settings)]
        parts += [f"## {service}\n", f"Read by {service} only.\n", _table(rows)]
    stack = [f"| `{each.name}` | {each.kind} | {_code(each.default)} | | {_cell(each.meaning)} |" for each in VARIABLES]
    parts += [
        "## The embedded stack\n",
        "Read by `make up`, `make demo`, `make migrate` and `python -m tocsin_stack`. They also pass on what the services read.\n"
        "With `*_DATABASE_URL` or `REDIS_URL` set, those servers are used and none is started. `*_GRPC_LISTEN` and\n"
        "`*_HTTP_LISTEN` move the ports of the services. `LOG_FORMAT` is `console` here unless it is set.\n",
        _table(stack),
    ]
    return "\n".join(parts)


@cache
def docstrings(settings: type) -> dict[str, str]:
    """The docstring that follows each field, of the class and those it inherits from, as one line of text."""
    found: dict[str, str] = {}
    for each in reversed(settings.__mro__):
        if not each.__module__.startswith("tocsin"):
            continue
        [definition] = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        assert isinstance(definition, ast.ClassDef)
        for statement, following in zip(definition.body, definition.body[1:], strict=False):
            match statement, following:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = " ".join(text.split())
    return found


def _own(settings: type[ServiceSettings]) -> list[str]:
    """The fields that have a section of their own: of the base class those with a prefix, else what a service adds."""
    if settings is ServiceSettings:
        return [name for name in settings.model_fields if name in _PREFIXED]
    return [name for name in settings.model_fields if name not in ServiceSettings.model_fields]


def _row(variable: str, settings: type[ServiceSettings], name: str) -> str:
    field = settings.model_fields[name]
    meaning = docstrings(settings).get(name)
    if not meaning:
        raise Undocumented(f"{settings.__name__}.{name} has no docstring that says what it means")
    return f"| {variable} | {_type(field)} | {_default(field)} | {_bounds(field)} | {_cell(meaning)} |"


def _table(rows: list[str]) -> str:
    return "\n".join([_TABLE, *rows, ""])


def _type(field: FieldInfo) -> str:
    kind: Any = field.annotation
    if Listen in (kind, *get_args(kind)) or field.metadata == list(get_args(Listen)[1:]):
        return "host:port"
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        return " or ".join(map(_code, get_args(kind)))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " or ".join(_code(str(each.value)) for each in kind)
    names = {SecretStr: "text, secret", bool: "`true` or `false`", int: "integer", float: "number", str: "text"}
    return names[kind]


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, bool):
        return _code(str(value).lower())
    if isinstance(value, Enum):
        return _code(str(value.value))
    return _code(f"{value:g}" if isinstance(value, float) and value < 1e6 else str(value))


def _bounds(field: FieldInfo) -> str:
    said = []
    for rule in field.metadata:
        match rule:
            case Ge(ge=bound):
                said.append(f"at least {_number(bound)}")
            case Gt(gt=bound):
                said.append(f"above {_number(bound)}")
            case Le(le=bound):
                said.append(f"at most {_number(bound)}")
            case Lt(lt=bound):
                said.append(f"below {_number(bound)}")
            case MinLen(min_length=bound):
                said.append("not empty" if bound == 1 else f"at least {bound} characters")
    return ", ".join(said)


def _number(bound: object) -> str:
    return f"{bound:,}" if isinstance(bound, int) else f"{bound:g}" if isinstance(bound, float) else str(bound)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(run("configuration", page, sys.argv[1:]))

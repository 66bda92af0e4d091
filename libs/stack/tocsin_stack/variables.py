"""The environment variables of the embedded stack: what they are called, and what is said of them in docs/configuration.md."""

from typing import Final, NamedTuple


class Variable(NamedTuple):
    """A variable that `make up`, `make migrate` and the tests read."""

    name: str
    kind: str
    default: str
    meaning: str


DATA_DIR: Final = Variable(
    "TOCSIN_DATA_DIR",
    "text",
    ".data",
    "The folder of the embedded PostgreSQL, the embedded Valkey, their secrets and all logs.",
)
POSTGRES_PORT: Final = Variable("TOCSIN_POSTGRES_PORT", "integer", "7432", "The port of the embedded PostgreSQL.")
VALKEY_PORT: Final = Variable("TOCSIN_VALKEY_PORT", "integer", "7379", "The port of the embedded Valkey.")
HTTPS_PORT: Final = Variable(
    "TOCSIN_HTTPS_PORT",
    "integer",
    "7243",
    "The port at which `make up` takes alerts by https, with a certificate that it makes, for senders that take no other URL.",
)
POSTGRES_BIN: Final = Variable(
    "TOCSIN_POSTGRES_BIN", "text", "", "The folder of PostgreSQL's programs. Empty: those of the installed wheel."
)
VALKEY_BIN: Final = Variable(
    "TOCSIN_VALKEY_BIN", "text", "", "The folder of the program `valkey-server`. Empty: that of the installed wheel."
)

VARIABLES: Final = (DATA_DIR, POSTGRES_PORT, VALKEY_PORT, HTTPS_PORT, POSTGRES_BIN, VALKEY_BIN)

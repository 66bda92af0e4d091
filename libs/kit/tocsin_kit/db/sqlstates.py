"""What each SQLSTATE of PostgreSQL means to a caller: the one table that says so.

Codes and classes are those of PostgreSQL's documentation, appendix A. A code without an entry of its own means what its class
(its first two characters) means; a class that is not listed is a defect.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

import asyncpg
from asyncpg import exceptions as pg


class Meaning(Enum):
    """What a caller can do about a failure."""

    AWAY = "away"
    """The server, or this session, cannot do it now. UNAVAILABLE; the session is closed, because another may be able."""
    REPEATABLE = "repeatable"
    """The transaction lost a conflict. CONFLICT; the same transaction run again can succeed."""
    HELD = "held"
    """Another transaction held a lock for longer than this one waits. CONFLICT."""
    DENIED = "denied"
    """The role lacks a right that an operator must grant. UNAVAILABLE; another session would change nothing."""
    CALLER = "caller"
    """A fault of the statement's values: constraints and conversions. The error comes out as it was raised."""
    DEFECT = "defect"
    """The statement itself is wrong. The error comes out as it was raised, and the edge masks it as INTERNAL."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A meaning, and a text for callers that may not see the server's own."""

    meaning: Meaning
    words: str = ""
    of_server: bool = False
    """The server as a whole is in this state: no transaction is the cause, and another one would meet it as well."""


_DOES_NOT_ANSWER: Final = "the database did not answer in time"
_LOST: Final = "the database cannot be reached"
_TROUBLED: Final = "the database reports an internal failure"
_POOLER: Final = "a pooler in front of the database does not keep sessions"
_FULL: Final = "the database has reached a limit of its resources"

_CALLER: Final = Decision(Meaning.CALLER)
_DEFECT: Final = Decision(Meaning.DEFECT)
_REPEATABLE: Final = Decision(Meaning.REPEATABLE, "the database resolved a conflict against this call")


def _away(words: str) -> Decision:
    return Decision(Meaning.AWAY, words)


def _state(words: str) -> Decision:
    return Decision(Meaning.AWAY, words, of_server=True)


CLASSES: Final[Mapping[str, Decision]] = {
    "01": _DEFECT,  # warnings: they are never raised
    "02": _DEFECT,
    "03": _DEFECT,
    "08": _away(_LOST),
    "09": _DEFECT,
    "0A": _away("the database, or a pooler in front of it, does not support what this call needs"),
    "0B": _DEFECT,
    "0F": _DEFECT,
    "0L": _DEFECT,
    "0P": _DEFECT,
    "0Z": _DEFECT,
    "10": _DEFECT,
    "20": _DEFECT,
    "21": _DEFECT,
    "22": _CALLER,
    "23": _CALLER,
    "24": _DEFECT,
    "25": _DEFECT,
    "26": _away(_POOLER),
    "27": _CALLER,
    "28": _state("the database refuses the service's login"),
    "2B": _DEFECT,
    "2D": _DEFECT,
    "2F": _DEFECT,
    "34": _away(_POOLER),
    "38": _DEFECT,
    "39": _DEFECT,
    "3B": _DEFECT,
    "3D": _state("the database does not exist"),
    "3F": _DEFECT,
    "40": _REPEATABLE,
    "42": _DEFECT,
    "44": _CALLER,
    "53": _away(_FULL),
    "54": _CALLER,  # a value that makes an index entry too large, for example
    "55": _DEFECT,
    "57": _away(_LOST),
    "58": _away(_TROUBLED),
    "72": _REPEATABLE,
    "F0": _away(_TROUBLED),
    "HV": _DEFECT,  # foreign tables: there are none
    "P0": _DEFECT,
    "XX": _away(_TROUBLED),
}

CODES: Final[Mapping[str, Decision]] = {
    "25006": _state("the database is read-only"),  # this session is on a standby, or on a primary that was demoted
    "25P03": _away(_DOES_NOT_ANSWER),  # idle in the transaction for too long: the session is closed already
    "25P04": _away(_DOES_NOT_ANSWER),
    "40002": _CALLER,
    "40003": _away(_LOST),  # the statement's completion is unknown
    "42501": Decision(Meaning.DENIED, "the database denies the service's role a right it needs", of_server=True),
    "42P05": _away(_POOLER),  # the prepared statement exists: another client's session
    "53100": _state("the database has no disk space left"),
    "53200": _away("the database is out of memory"),
    "53300": _state("the database accepts no more connections"),
    "55000": _away("the database is not in a state to do this"),
    "55006": _away("the database is in use by an administrator"),
    "55P02": _away("the database, or a pooler in front of it, refuses a setting of the session"),
    "55P03": Decision(Meaning.HELD, "another call holds what this one needs"),
    "57014": _away(_DOES_NOT_ANSWER),  # the server's statement_timeout, or an administrator
    "57P03": _state("the database is starting, stopping or recovering"),
    "57P04": _state("the database does not exist"),
    "P0001": _CALLER,  # RAISE in a trigger of ours is a constraint
}

# Where the server uses one code for two cases, the function that raised it distinguishes them. Its name is not translated, as the
# text is.
ROUTINES: Final[Mapping[tuple[str, str], Decision]] = {
    ("0A000", "RevalidateCachedQuery"): _REPEATABLE,  # a migration changed a table under a prepared statement
    # Not a constraint of a table (`ExecConstraints` raises those): a partition was attached while this statement waited for the
    # default one, and the row belongs there now.
    ("23514", "ExecPartitionCheckEmitError"): _REPEATABLE,
    ("42501", "ExecWithCheckOptions"): _DEFECT,  # row-level security: a row of another tenant
    ("54000", "GetNewTransactionId"): _away("the database must be vacuumed before it accepts writes"),
    ("54000", "GetNewMultiXactId"): _away("the database must be vacuumed before it accepts writes"),
}


def decide(error: BaseException) -> Decision | None:
    """The decision about an error that the server, or the driver, raised; None for any other exception."""
    if isinstance(error, asyncpg.OutdatedSchemaCacheError | pg.InvalidCachedStatementError):
        return _REPEATABLE
    if isinstance(error, asyncpg.InternalClientError):
        # The server's last message arrived between two statements; asyncpg has no better class for it.
        return _away(_LOST)
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return CODES["25006"]
    if not isinstance(error, asyncpg.PostgresError):
        return None
    return of_code(error.sqlstate or "", getattr(error, "server_source_function", None) or "")


def of_code(code: str, routine: str = "") -> Decision:
    """The decision about a SQLSTATE that the server's function `routine` raised."""
    return ROUTINES.get((code, routine)) or CODES.get(code) or CLASSES.get(code[:2], _DEFECT)

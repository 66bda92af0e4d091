"""What a failure of PostgreSQL means to a caller. Drivers' texts and SQLSTATEs never leave this module and its neighbours."""

from typing import Final

import asyncpg
from tocsin.errors.v1.error_reason_pb2 import ErrorReason

from tocsin_kit.db.sqlstates import Meaning, decide
from tocsin_kit.errors import TocsinError

_SESSION_ENDED: Final = ("08", "57P01", "57P02", "57P03", "57P04", "57P05", "25P03", "25P04")


def unavailable(message: str) -> TocsinError:
    """DATABASE_UNAVAILABLE."""
    return TocsinError(ErrorReason.ERROR_REASON_DATABASE_UNAVAILABLE, message)


def is_connection_loss(error: BaseException, connection: asyncpg.Connection | None = None) -> bool:
    """Whether `error` says that the session is closed. An OSError counts only when it came from this connection."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(_SESSION_ENDED)
    if isinstance(error, asyncpg.InternalClientError):
        return not isinstance(error, asyncpg.OutdatedSchemaCacheError)
    return connection is not None and connection.is_closed() and isinstance(error, (OSError, asyncpg.InterfaceError))


def is_repeatable(error: BaseException | None) -> bool:
    """Whether the same transaction can succeed when it is repeated."""
    decision = decide(error) if error is not None else None
    return decision is not None and decision.meaning is Meaning.REPEATABLE


def is_of_server(error: BaseException | None) -> bool:
    """Whether `error`, or its cause, says that the server as a whole is full, is read-only, or refuses sessions or rights.

    Work that is done in halves to find the failing item would fail with each of them: it waits instead.
    """
    while error is not None:
        decision = decide(error)
        if decision is not None:
            return decision.of_server
        error = error.__cause__
    return False


def spoils_session(error: BaseException, connection: asyncpg.Connection) -> bool:
    """Whether the session must be closed: it is gone already, or another server may do in it what this one refuses."""
    if is_connection_loss(error, connection) or isinstance(error, TimeoutError):
        return True
    decision = decide(error)
    return decision is not None and decision.meaning is Meaning.AWAY


def translate(error: BaseException, connection: asyncpg.Connection | None = None) -> TocsinError | None:
    """The contract's error for the driver's; None for errors of the caller (constraints, defects)."""
    if is_connection_loss(error, connection):
        return unavailable("the database cannot be reached; nothing was done")
    if connection is not None and isinstance(error, TimeoutError):
        # The driver's own limit: the server hangs, or this process was stopped for a while.
        return unavailable("the database did not answer in time")
    decision = decide(error)
    if decision is None:
        return None
    match decision.meaning:
        case Meaning.AWAY | Meaning.DENIED:
            return unavailable(f"{decision.words}; nothing was done")
        case Meaning.REPEATABLE | Meaning.HELD:
            return TocsinError(ErrorReason.ERROR_REASON_CONFLICT, decision.words)
        case _:
            return None

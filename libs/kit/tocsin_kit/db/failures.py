"""What a failure of PostgreSQL means to a caller. Drivers' words and SQLSTATEs never leave this module's neighbours."""

import asyncpg
from asyncpg import exceptions as pg
from tocsin.errors.v1.error_reason_pb2 import ErrorReason

from tocsin_kit.errors import TocsinError

# Trying the whole transaction again can succeed. InvalidCachedStatement: a migration changed a table under a prepared
# statement, and asyncpg prepares it anew the next time.
REPEATABLE = (pg.SerializationError, pg.DeadlockDetectedError, pg.InvalidCachedStatementError)

_LOST = (
    pg.PostgresConnectionError,  # class 08, and the driver's own "connection was closed in the middle of operation"
    pg.AdminShutdownError,
    pg.CrashShutdownError,
    pg.CannotConnectNowError,
    pg.DatabaseDroppedError,
    pg.IdleInTransactionSessionTimeoutError,
    asyncpg.InternalClientError,  # the server's farewell arrived between two statements; asyncpg knows no better name
)


def unavailable(message: str) -> TocsinError:
    """DATABASE_UNAVAILABLE."""
    return TocsinError(ErrorReason.ERROR_REASON_DATABASE_UNAVAILABLE, message)


def is_connection_loss(error: BaseException, connection: asyncpg.Connection | None = None) -> bool:
    """Whether `error` says that the session is gone. An OSError counts only when it was this connection's."""
    if isinstance(error, _LOST):
        return True
    return connection is not None and connection.is_closed() and isinstance(error, (OSError, asyncpg.InterfaceError))


def translate(error: BaseException, connection: asyncpg.Connection | None = None) -> TocsinError | None:
    """The error of the contract for what the driver raised; None for the caller's own (constraints, defects)."""
    if is_connection_loss(error, connection):
        return unavailable("the database cannot be reached; nothing was done")
    if isinstance(error, REPEATABLE):
        return TocsinError(ErrorReason.ERROR_REASON_CONFLICT, "the database resolved a conflict against this call")
    if isinstance(error, pg.LockNotAvailableError):
        return TocsinError(ErrorReason.ERROR_REASON_CONFLICT, "another call holds what this one needs")
    if isinstance(error, (pg.QueryCanceledError, pg.TooManyConnectionsError)):
        return unavailable("the database did not answer in time; nothing was done")
    if connection is not None and isinstance(error, TimeoutError):
        # The driver's own limit: the server hangs, or this process was stopped for a while.
        return unavailable("the database did not answer in time")
    return None

"""Whether a pooler in front of the database lends a session to a client for as long as the client is connected.

One that pools transactions would break, without an error, what the services set for a session: work of all tenants would see no
rows, so that a sender with a right key would be told that it is wrong, and locks that fence pages would be those of others.
"""

import secrets
from typing import Final

from tocsin_kit.db.dialing import Connection
from tocsin_kit.db.failures import unavailable

_POOLED: Final = (
    "a pooler in front of the database pools transactions; let it pool sessions (of PgBouncer: pool_mode=session)"
)


async def require_own_sessions(first: Connection, second: Connection) -> None:
    """Raises DATABASE_UNAVAILABLE unless each connection, idle until now, is one session of the server.

    What one has set must be there still after the other one began a transaction, which takes the session that is idle.
    """
    mark = secrets.token_hex(8)
    await first.execute(f"SET tocsin.session = '{mark}'")
    await second.execute("BEGIN")
    try:
        found = await first.execute(f"SELECT WHERE current_setting('tocsin.session', true) = '{mark}'")
    finally:
        await second.execute("ROLLBACK")
    await first.execute("RESET tocsin.session")
    if found != "SELECT 1":
        raise unavailable(_POOLED)

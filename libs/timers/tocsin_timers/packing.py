"""Commands packed in C. redis-py does that in its synchronous connections only; in Python it is half the cost of arming."""

import hiredis
from redis.asyncio.connection import Connection
from redis.exceptions import DataError


class PackedConnection(Connection):
    """A connection that packs with hiredis. To be deleted once redis-py's asyncio connections do so themselves."""

    def pack_command(self, *args: str | bytes | float) -> list[bytes]:  # type: ignore[override]
        """The command as the Redis protocol has it. Raises DataError for what has no form there."""
        name = args[0]
        words = name.split() if isinstance(name, (str, bytes)) else (name,)
        try:
            return [hiredis.pack_command((*words, *args[1:]))]
        except TypeError as error:
            raise DataError(str(error)) from error

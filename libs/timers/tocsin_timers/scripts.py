"""The Lua scripts in `lua/`, called by their digest."""

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import NoScriptError

Client = Redis | RedisCluster
Argument = str | bytes | int | float


class Script:
    """One script. A server that does not know it yet (new, restarted, failed over) gets the source in the next call."""

    def __init__(self, name: str) -> None:
        self._source = (files("tocsin_timers") / "lua" / f"{name}.lua").read_bytes()
        self._digest = sha1(self._source, usedforsecurity=False).hexdigest()

    async def __call__(self, client: Client, keys: Sequence[Argument], arguments: Sequence[Argument] = ()) -> Any:
        """What the script returns. Raises RedisError."""
        try:
            return await client.execute_command("EVALSHA", self._digest, len(keys), *keys, *arguments)
        except NoScriptError:
            return await client.execute_command("EVAL", self._source, len(keys), *keys, *arguments)


ADOPT = Script("adopt")
ARM = Script("arm")
BURY = Script("bury")
CANCEL = Script("cancel")
FIGURES = Script("figures")
GROUPS = Script("groups")
INFO = Script("info")
PAUSE = Script("pause")
PERMIT = Script("permit")
PROMOTE = Script("promote")
RECLAIM = Script("reclaim")
REDRIVE = Script("redrive")
REFILL = Script("refill")
RELEASE = Script("release")
RENEW = Script("renew")
SEND = Script("send")
SETTLE = Script("settle")
TIDY = Script("tidy")

"""The Lua scripts in `lua/`, called by their digest."""

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any, Final

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


ADOPT: Final = Script("adopt")
ARM: Final = Script("arm")
BURY: Final = Script("bury")
CANCEL: Final = Script("cancel")
CHECK: Final = Script("check")
FIGURES: Final = Script("figures")
GROUPS: Final = Script("groups")
INFO: Final = Script("info")
OWN: Final = Script("own")
PAUSE: Final = Script("pause")
PERMIT: Final = Script("permit")
PROMOTE: Final = Script("promote")
RECLAIM: Final = Script("reclaim")
REDRIVE: Final = Script("redrive")
REFILL: Final = Script("refill")
RELEASE: Final = Script("release")
RENEW: Final = Script("renew")
SEND: Final = Script("send")
SETTLE: Final = Script("settle")
TIDY: Final = Script("tidy")

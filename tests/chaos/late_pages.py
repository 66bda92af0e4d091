"""What notify and a receiver know of a page that came after an answer was OK: whoever reads a failed test has nothing else."""

import json
import time
import uuid
from typing import Any, Final

from tocsin_testkit.received import Received
from tocsin_testkit.world import World

_SAID: Final = """
SELECT p.user_id, p.level, p.generation, n.id AS notification, n.state, a.number, a.outcome, a.detail, a.sender,
       extract(epoch FROM p.create_time - app_now())::float8 AS stored,
       extract(epoch FROM a.start_time - app_now())::float8 AS claimed,
       extract(epoch FROM a.end_time - app_now())::float8 AS written
FROM pages p LEFT JOIN notifications n ON n.page_id = p.id LEFT JOIN attempts a ON a.notification_id = n.id
WHERE p.incident = $1 ORDER BY p.create_time, p.id, n.id, a.number
"""
_FENCE: Final = """
SELECT generation, reason, extract(epoch FROM update_time - app_now())::float8 AS committed
FROM cancel_fences WHERE incident = $1
"""
_TIMES: Final = frozenset({"stored", "claimed", "written", "committed"})


async def account(world: World, incident: str, ok: float, messages: list[Received]) -> str:
    """Lines about all pages of an incident, times in seconds after the OK.

    `ok`: `time.monotonic()` when its caller had it. `arrived` is when the receiver's kernel had the first bytes of the request,
    `claimed` and `committed` are when the transactions of the attempt and of the cancel began, `written` is when the outcome was.
    The database's times hold only if the world's clock was not moved between.
    """
    database = await world.database("notify")
    try:
        id = uuid.UUID(incident.removeprefix("incidents/"))
        now = time.monotonic()
        rows = [("page", dict(each)) for each in await database.fetch(_SAID, id)]
        rows += [("fence", dict(each)) for each in await database.fetch(_FENCE, id)]
    finally:
        await database.close()
    lines = [f"{incident}, seconds after its OK:"]
    for kind, row in rows:
        lines.append(f"  {kind} " + json.dumps({name: _after(name, value, now - ok) for name, value in row.items()}))
    for message in messages:
        if message.incident == incident:
            told = {"kind": message.kind, "level": message.level, "address": message.address, "key": message.key}
            lines.append(f"  message {json.dumps(told | {'arrived': round(message.at - ok, 4)})}")
    return "\n".join(lines)


def _after(name: str, value: Any, since_ok: float) -> Any:
    if name in _TIMES and value is not None:
        return round(value + since_ok, 4)
    return value if isinstance(value, int | float | str | None) else str(value)

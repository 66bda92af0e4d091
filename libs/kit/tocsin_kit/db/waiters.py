"""Who waits for a connection: tenants take turns, so that none waits behind all that another one has begun."""

import asyncio
from collections import OrderedDict, deque

from tocsin_kit.db.dialing import Connection

Waiter = asyncio.Future[Connection | None]


class Waiters:
    """Of each tenant the longest waiting comes first."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[Waiter]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def of(self, org_id: str) -> int:
        """How many of this tenant wait."""
        return len(self._lines.get(org_id, ()))

    def add(self, org_id: str, waiter: Waiter) -> None:
        """The last of its tenant; its tenant has the last turn if it has none yet."""
        self._lines.setdefault(org_id, deque()).append(waiter)
        self._count += 1

    def next(self) -> Waiter:
        """Takes out whose turn it is. Raises KeyError when nobody waits."""
        org_id, line = self._lines.popitem(last=False)
        waiter = line.popleft()
        if line:
            self._lines[org_id] = line
        self._count -= 1
        return waiter

    def remove(self, org_id: str, waiter: Waiter) -> None:
        """It waits no more, if it still did."""
        line = self._lines.get(org_id)
        if line is None or waiter not in line:
            return
        line.remove(waiter)
        if not line:
            del self._lines[org_id]
        self._count -= 1

"""How a servicer runs a mutation of the caller's tenant."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from google.protobuf.message import Message

from tocsin_kit.db import requests
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.rpc.call import tenant

R = TypeVar("R", bound=Message)


class ApplyOnce:
    """`tocsin_kit.db.requests.once` in a transaction of its own, for the tenant of the current call."""

    def __init__(self, db: Database) -> None:
        self._db: Final = db

    async def __call__(
        self, method: str, request: Message, response_type: type[R], work: Callable[[Tx], Awaitable[R]]
    ) -> R:
        """The result of `work`, or its first answer to this request. It may run several times: see `Database.run`.

        Raises SCOPE_MISSING for a credential of all tenants, REQUEST_ID_REUSED, CONFLICT, DATABASE_UNAVAILABLE, and the errors of
        `work`.
        """

        async def run(tx: Tx) -> R:
            return await requests.once(tx, method, request, response_type, lambda: work(tx))

        return await self._db.run(tenant(), run)

    async def answered(self, method: str, request: Message, response_type: type[R]) -> R | None:
        """The stored answer to this request, if there is one: for work that begins before the transaction.

        Raises SCOPE_MISSING, DATABASE_UNAVAILABLE.
        """
        async with self._db.transaction(tenant()) as tx:
            return await requests.answered(tx, method, request, response_type)

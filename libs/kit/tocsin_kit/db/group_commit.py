"""Calls of one method that arrive together share a transaction, and each gets its own answer."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import grpc
from google.protobuf.message import Message

from tocsin_kit.batches import Batches
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.requests import once_each
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger
from tocsin_kit.rpc.call import Call, current_call

_log = get_logger(__name__)

Wanted = TypeVar("Wanted")
R = TypeVar("R", bound=Message)

_MOST: Final = 200
_WAITING: Final = 4000
_TENANTS_AT_ONCE: Final = 2


@dataclass(frozen=True, slots=True, eq=False)
class _Asked(Generic[Wanted]):
    call: Call
    request: Message
    wanted: Wanted


class GroupCommit(Generic[Wanted, R]):
    """The calls of one method. Each tenant's calls are committed together, at most 200 at a time; tenants alternate."""

    def __init__(
        self,
        database: Database,
        method: str,
        response_type: type[R],
        work: Callable[[Tx, Sequence[Wanted]], Awaitable[Sequence[R | TocsinError]]],
    ) -> None:
        """`work` answers each of the calls, in the transaction of one tenant. It may run again (`Database.run`), and with fewer
        of them."""
        self._database = database
        self._method = method
        self._response_type = response_type
        self._work = work
        self._batches: Batches[_Asked[Wanted], R] = Batches(
            self._commit, most=_MOST, waiting=_WAITING, lane=lambda each: each.call.org_id, at_once=_TENANTS_AT_ONCE
        )

    async def once_together(self, request: Message, wanted: Wanted) -> R:
        """The answer to the current call, as `requests.once` gives it; committed when it returns.

        Raises the answer of `work` if it is an error, OVERLOADED, and the errors of `Database.run`.
        """
        return await self._batches.submit(_Asked(current_call(), request, wanted))

    async def _commit(self, asked: Sequence[_Asked[Wanted]]) -> Sequence[R | Exception]:
        try:
            return await self._commit_together(asked)
        except TocsinError as error:
            if len(asked) == 1 or error.code is not grpc.StatusCode.ABORTED:
                raise
            # One of them needs rows that another session holds: that is no answer to the others.
            _log.info("group_commit_conflict", method=self._method, calls=len(asked), error=error.message)
        return [await self._commit_alone(each) for each in asked]

    async def _commit_alone(self, asked: _Asked[Wanted]) -> R | Exception:
        try:
            [answer] = await self._commit_together([asked])
        except Exception as error:
            # The caller reports it. If it were raised here, the committed calls of the others would be repeated.
            return error
        return answer

    async def _commit_together(self, asked: Sequence[_Asked[Wanted]]) -> Sequence[R | TocsinError]:
        async def work(tx: Tx, places: Sequence[int]) -> Sequence[R | TocsinError]:
            return await self._work(tx, [asked[place].wanted for place in places])

        return await once_each(
            self._database,
            asked[0].call.org_id,
            self._method,
            [(each.request, each.call) for each in asked],
            self._response_type,
            work,
        )

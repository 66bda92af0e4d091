"""A notify that stops itself (SIGSTOP) at one place of the gate's transaction: `python -m … PLACE`, once."""

import asyncio
import os
import runpy
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

import tocsin_notify.wiring  # noqa: F401 - before it is forked, and not in each fork
from tocsin_kit.db.session_transaction import SessionTransaction
from tocsin_notify.app.delivery.calls import Calls
from tocsin_notify.app.delivery.permits import Permit
from tocsin_notify.store.delivery import notifications
from tocsin_notify.store.delivery.gate import Passage

PLACES: Final = (
    "after its locks",
    "while the claim's result comes",
    "after the claim",
    "while the commit's answer comes",
    "after the commit",
    "before the first byte",
    "before it unlocks",
    "in a repeat",
)


def stop_at(place: str) -> None:
    """Patches what the place needs."""
    armed = [True]

    def stand_still() -> None:
        if armed:
            armed.clear()
            os.kill(os.getpid(), signal.SIGSTOP)

    def after(owner: Any, name: str, when: Callable[..., bool] = lambda *_: True) -> None:
        real = getattr(owner, name)

        async def patched(*args: Any, **kwargs: Any) -> Any:
            answer = await real(*args, **kwargs)
            if when(*args):
                stand_still()
            return answer

        setattr(owner, name, patched)

    def before(owner: Any, name: str, when: Callable[..., bool] = lambda *_: True) -> None:
        real = getattr(owner, name)

        async def patched(*args: Any, **kwargs: Any) -> Any:
            if when(*args):
                stand_still()
            return await real(*args, **kwargs)

        setattr(owner, name, patched)

    def as_it_is_asked(owner: Any, name: str) -> None:
        """The statement is being sent, and its answer is not read."""
        real = getattr(owner, name)

        async def patched(*args: Any, **kwargs: Any) -> Any:
            asking = asyncio.ensure_future(real(*args, **kwargs))
            await asyncio.sleep(0.005)
            stand_still()
            return await asking

        setattr(owner, name, patched)

    match place:
        case "after its locks":
            before(notifications, "claim", lambda tx, ids, **_: bool(ids))
        case "while the claim's result comes":
            as_it_is_asked(notifications, "claim")
        case "after the claim":
            after(notifications, "claim")
        case "while the commit's answer comes":
            as_it_is_asked(Passage, "commit")
        case "after the commit":
            before(Calls, "start", lambda _, starts, since: bool(starts))
        case "before the first byte":
            before(Permit, "begin")
        case "before it unlocks":
            before(SessionTransaction, "__aexit__", lambda kept, *_: bool(kept._clean_up))
        case "in a repeat":
            real = Permit.begin

            async def begin(self: Permit, call: Any, *, repeat: bool = False) -> Any:
                after(notifications, "may_start")
                return await real(self, call, repeat=True)

            Permit.begin = begin  # type: ignore[method-assign]
        case _:
            raise ValueError(place)


if __name__ == "__main__":
    stop_at(sys.argv.pop(1))
    runpy.run_module("tocsin_notify", run_name="__main__")

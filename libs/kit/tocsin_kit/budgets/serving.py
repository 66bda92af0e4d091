"""What a service adds so that its limits hold over all replicas and operators can change them."""

from typing import TypeVar

from tocsin_kit.budgets.budgets import Budgets
from tocsin_kit.budgets.record import Record
from tocsin_kit.budgets.shares import Redis, Shares
from tocsin_kit.lifecycle import Runtime
from tocsin_kit.rpc.limit_service import LimitService
from tocsin_kit.rpc.paging import PageTokens
from tocsin_kit.settings import ServiceSettings

S = TypeVar("S", bound=ServiceSettings)


def serve_limits(runtime: Runtime[S], pages: PageTokens, redis: Redis, errors: tuple[type[Exception], ...]) -> None:
    """LimitService, and the loops that keep the limits. `errors`: what `redis` raises when it is away."""
    budgets = runtime.rpc.budgets
    LimitService(runtime.database, budgets, pages).add_to(runtime.rpc)
    runtime.loops.add("tenant-limits", Record(runtime.database, budgets).sweep, everywhere=True)
    share(runtime, budgets, redis, runtime.name, errors)


def share(runtime: Runtime[S], budgets: Budgets, redis: Redis, name: str, errors: tuple[type[Exception], ...]) -> None:
    """The loop that keeps budgets of this name equal in all replicas. `errors`: as above."""
    runtime.loops.add(f"{name}-shares", Shares(budgets, redis, name, errors).run, everywhere=True)

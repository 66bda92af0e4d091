from tests.contract.notify.caller import caller, door, visitor
from tests.store.notify.support import (
    database_url,
    hooks,
    inbox,
    looks_often,
    mail,
    notify,
    redis_url,
    shared_valkey,
    world,
)

__all__ = [
    "caller",
    "database_url",
    "door",
    "hooks",
    "inbox",
    "looks_often",
    "mail",
    "notify",
    "redis_url",
    "shared_valkey",
    "visitor",
    "world",
]

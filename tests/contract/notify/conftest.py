from tests.contract.notify.caller import caller, door, visitor
from tests.store.notify.support import (
    database_url,
    emptied,
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
    "emptied",
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

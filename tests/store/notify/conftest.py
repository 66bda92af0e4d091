from tests.store.notify.phones import twilio
from tests.store.notify.stream import broker
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
    "broker",
    "database_url",
    "emptied",
    "hooks",
    "inbox",
    "looks_often",
    "mail",
    "notify",
    "redis_url",
    "shared_valkey",
    "twilio",
    "world",
]

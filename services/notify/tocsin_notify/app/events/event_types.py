"""The names of events, as payloads, filters and rows have them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tocsin.notify.v1 import incident_event_pb2 as pb

_PREFIX: Final = "EVENT_TYPE_"
PING: Final = "ping"


def _named(name: str) -> str:
    first, _, rest = name.removeprefix(_PREFIX).lower().partition("_")
    return f"{first}.{rest}" if rest else first


NAMES: Final[Mapping[int, str]] = MappingProxyType(
    {number: _named(name) for name, number in pb.EventType.items() if number}
)
"""By the number of the enum: `incident.level_reached`."""
NUMBERS: Final[Mapping[str, int]] = MappingProxyType({name: number for number, name in NAMES.items()})

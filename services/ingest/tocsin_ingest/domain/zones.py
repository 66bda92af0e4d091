"""Time zones of the IANA database, from the pinned package `tzdata` and never from the host, so that all replicas agree."""

from functools import lru_cache
from importlib.resources import files
from zoneinfo import ZoneInfo


class UnknownZone(ValueError):
    """The name is no zone of the IANA database."""


@lru_cache(1024)
def zone(name: str) -> ZoneInfo:
    """A zone such as `Europe/Berlin`. Raises UnknownZone."""
    if name not in _names():
        raise UnknownZone(name)
    with files("tzdata.zoneinfo").joinpath(*name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


@lru_cache(1)
def _names() -> frozenset[str]:
    return frozenset((files("tzdata") / "zones").read_text().split())

"""Which addresses outside a service may call for a tenant: public ones only, unless the operator allows more.

The check happens on the addresses a name resolved to, and the connection goes to exactly those: a name that answers
with a public address first and a private one later (DNS rebinding) gets nowhere.
"""

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

from tocsin_kit.public_addresses import is_public, literal

_THREADS: Final = 64
"""A tenant's slow name server holds a thread for seconds; the others must still find one."""


class NoPublicAddress(OSError):
    """A name that leads to addresses this service must not call, or nowhere.

    One answer for both: else a tenant could ask, name by name, what the operator's own name servers know.
    """

    def __init__(self, host: str) -> None:
        super().__init__(f"{host} leads to no public address, or cannot be resolved")


class PublicResolver(AbstractResolver):
    """Resolves names with the system's resolver, in threads of its own, and drops what may not be called."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="dns")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises NoPublicAddress. Where private addresses are allowed, an OSError that says why a name has none."""
        looking = asyncio.get_running_loop().run_in_executor(self._threads, _lookup, host, port, family)
        if self._allow_private:
            return list(await looking)
        try:
            found = await looking
        except OSError as error:
            raise NoPublicAddress(host) from error
        public = [entry for entry in found if self._is_public(entry)]
        if not public:
            raise NoPublicAddress(host)
        return public

    async def close(self) -> None:
        """Do not wait for lookups that hang."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @staticmethod
    def _is_public(entry: ResolveResult) -> bool:
        address = literal(entry["host"])
        return address is not None and is_public(address)


def _lookup(host: str, port: int, family: socket.AddressFamily) -> Sequence[ResolveResult]:
    return [
        ResolveResult(
            hostname=host,
            host=str(address[0]),
            port=int(address[1]),
            family=kind,
            proto=protocol,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for kind, _, protocol, _, address in socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    ]

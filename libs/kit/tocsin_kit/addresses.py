"""Which addresses outside a service may call for a tenant: public ones only, unless the operator allows more.

The addresses that a name resolved to are checked, and the connection goes to exactly these: a name that answers with a public
address first and a private one later (DNS rebinding) does not help an attacker.
"""

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

from tocsin_kit.public_addresses import is_public, literal

_THREADS: Final = 64
"""A tenant's slow name server uses a thread for seconds; threads must be left for the others."""


class NoPublicAddress(OSError):
    """A name that resolves to addresses this service must not call, or to none.

    One answer for both: otherwise a tenant could find out, name by name, which names the operator's own name servers have.
    """

    def __init__(self, host: str) -> None:
        super().__init__(f"{host} leads to no public address, or cannot be resolved")


class PublicResolver(AbstractResolver):
    """Resolves names with the system's resolver, in threads of its own, and removes addresses that may not be called."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="dns")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises NoPublicAddress. Where private addresses are allowed, it raises an OSError with the reason if a name has none."""
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
        """Does not wait for look-ups that hang."""
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

"""One Tocsin for many tests: each test is a tenant of its own, so that tests cannot see each other."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tocsin_testkit.installation import Installation
from tocsin_testkit.tenant import Tenant

_number = itertools.count(1)


class World(Installation):
    """An installation with tenants in it."""

    def tenant(self) -> Tenant:
        """A new tenant."""
        return Tenant(self, f"org-{next(_number)}")

    @asynccontextmanager
    async def customer(self) -> AsyncIterator[Tenant]:
        """A new tenant. Anything that reached its people and that the block did not ask for raises AssertionError at its end.

        So does a service that has ended: the tests after it would fail with nothing to say why.
        """
        tenant = self.tenant()
        yield tenant
        assert self.ended() == []
        await self.idle()
        assert tenant.unexpected() == []

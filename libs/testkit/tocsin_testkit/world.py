"""One Tocsin for many tests: each test is a tenant of its own, so that tests cannot see each other."""

import itertools

from tocsin_testkit.installation import Installation
from tocsin_testkit.tenant import Tenant

_number = itertools.count(1)


class World(Installation):
    """An installation with tenants in it."""

    def tenant(self) -> Tenant:
        """A new tenant."""
        return Tenant(self, f"org-{next(_number)}")

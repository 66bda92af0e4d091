"""How many files a process may have open: each connection is one, and so is what a page is sent through.

Connections that others open must not take the last one. What the process opens itself would fail then: sessions with the
database, calls of other services and of providers, and the answer of `/readyz`.
"""

import resource
from typing import Final

_FOR_RPC: Final = 2
_FOR_HTTP: Final = 8
"""Parts of all files: a half for connections of gRPC, an eighth for those of HTTP."""


def raise_limit() -> int:
    """Raise the limit that systems set for old programs (often 1,024) to what this process may have; returns it.

    Each file beyond 1,024 would be one that `select` cannot wait for, which nothing here calls.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):
        return soft  # macOS names no limit and refuses it
    return hard


def most_connections(wanted: int, *, http: bool = False) -> int:
    """As many connections as `wanted`, or what the limit of this process leaves for them."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        wanted if limit == resource.RLIM_INFINITY else max(2, min(wanted, limit // (_FOR_HTTP if http else _FOR_RPC)))
    )

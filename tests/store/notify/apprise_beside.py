"""The process that runs Apprise, in a world where 127.0.0.1 is the public internet and every other address is not.

`rebind.example` is public when it is looked at, and private each time after that.
"""

import socket
from typing import Any

from tocsin_notify.channels import apprise_fence, apprise_worker

_real = socket.getaddrinfo
_looked = 0


def _lookup(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
    global _looked
    if host == "rebind.example":
        _looked += 1
        host = "127.0.0.1" if _looked == 1 else "127.0.0.2"
    elif host == "private.example":
        host = "127.0.0.2"
    return _real(host, port, *rest, **more)


if __name__ == "__main__":
    socket.getaddrinfo = _lookup
    setattr(apprise_fence, "is_public", lambda address: str(address) == "127.0.0.1")  # noqa: B010
    apprise_worker.main()

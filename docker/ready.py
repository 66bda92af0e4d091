"""Exit 0 when the service in this container says that it is ready: what HEALTHCHECK calls.

Usage: `ready.py INGEST_ADMIN_LISTEN`, the variable that says where operators' listener is. An image has no curl to ask
with, and this runs every few seconds beside each replica: a bare socket costs a third of what http.client does, which
is most of a start of Python.
"""

import os
import socket
import sys

TIMEOUT = 3.0


def ask(port: int, *, tls: bool) -> str:
    """The whole answer to GET /readyz. Raises OSError."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as plain:
        connection = plain
        if tls:
            import ssl

            # The certificate names the service and not this loopback address, where no other host can listen.
            context = ssl._create_unverified_context()  # noqa: S323
            connection = context.wrap_socket(plain)
        connection.sendall(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")
        answer = b""
        while part := connection.recv(4096):
            answer += part
    return answer.decode(errors="replace")


def main(variable: str) -> str | None:
    """None when ready, else what is wrong, for `docker inspect`."""
    port = int(os.environ[variable].rpartition(":")[2])
    try:
        answer = ask(port, tls=bool(os.environ.get("TLS_CERT_FILE")))
    except OSError as error:
        return f"no answer from port {port} ({variable}): {error}"
    head, _, body = answer.partition("\r\n\r\n")
    return None if head.split()[1:2] == ["200"] else body or f"no HTTP from port {port} ({variable}): {answer!r}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

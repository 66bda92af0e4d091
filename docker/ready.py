"""Exit 0 when the service in this container says that it is ready: what HEALTHCHECK calls.

Usage: `ready.py INGEST_HTTP_LISTEN`, the variable that says where the HTTP listener is. An image has no curl to ask
with; only the standard library is imported, and little of it, because this runs every few seconds beside the service.
"""

import http.client
import os
import ssl
import sys

TIMEOUT = 3.0


def main() -> str | None:
    """None when ready, else what is wrong, for `docker inspect`."""
    variable = sys.argv[1]
    port = int(os.environ[variable].rpartition(":")[2])
    connection: http.client.HTTPConnection
    if os.environ.get("TLS_CERT_FILE"):
        # The certificate names the service and not this loopback address; nobody else can listen here.
        context = ssl._create_unverified_context()  # noqa: S323 - the reason is above
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=TIMEOUT, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        body = response.read(4096).decode(errors="replace")
    except OSError as error:
        return f"no answer from port {port} ({variable}): {error}"
    return None if response.status == 200 else body


if __name__ == "__main__":
    sys.exit(main())

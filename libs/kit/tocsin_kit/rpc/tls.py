"""TLS and mTLS from files that settings name. A server shows a renewed certificate from the next connection on."""

import ssl
from pathlib import Path
from typing import Any, Final

import grpc

from tocsin_kit.logging import get_logger
from tocsin_kit.settings import ServiceSettings

_log = get_logger(__name__)

_Stamp = tuple[tuple[int, int, int], ...]


class ServerFiles:
    """Certificate, key and client authority of one listener, read again when they have changed.

    A renewal replaces two files one after the other: while they do not fit together, the pair before stays in use.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        """Raises OSError or ssl.SSLError when they cannot be used."""
        self._certificate: Final = settings.tls_cert_file
        self._key: Final = settings.tls_key_file
        self._authority: Final = settings.tls_client_ca_file
        self._seen = self._stamp()
        self.context = self._load()
        """For HTTP."""
        self.configuration = self._configuration()
        """For gRPC."""

    def refresh(self) -> bool:
        """Reads the files if they have changed. True when something else is in use now."""
        try:
            stamp = self._stamp()
            if stamp == self._seen:
                return False
            self._seen = stamp
            context, configuration = self._load(), self._configuration()
        except (OSError, ssl.SSLError) as error:
            _log.error(
                "certificate_unusable", file=self._certificate, error=str(error), effect="the one before is shown"
            )
            return False
        self.context, self.configuration = context, configuration
        _log.info("certificate_reloaded", file=self._certificate)
        return True

    def _stamp(self) -> _Stamp:
        files = (self._certificate, self._key, self._authority)
        found = [Path(file).stat() for file in files if file]
        return tuple((each.st_mtime_ns, each.st_size, each.st_ino) for each in found)

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._certificate, self._key)
        context.sni_callback = self._choose
        return context

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Called at each handshake, whether or not the client names a host."""
        self.refresh()
        connection.context = self.context

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        pair = (Path(self._key).read_bytes(), Path(self._certificate).read_bytes())
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=_read(self._authority))


def server_credentials(settings: ServiceSettings) -> grpc.ServerCredentials | None:
    """None: plain text. With TLS_CLIENT_CA_FILE every client must show a certificate of that authority."""
    if not settings.tls_cert_file:
        return None
    files = ServerFiles(settings)

    def changed() -> Any:
        """Called at each handshake, in a thread of gRPC's. None: no change, which gRPC's stubs do not know."""
        return files.configuration if files.refresh() else None

    return grpc.dynamic_ssl_server_credentials(
        files.configuration, changed, require_client_authentication=bool(settings.tls_client_ca_file)
    )


def server_context(settings: ServiceSettings) -> ssl.SSLContext | None:
    """The same for HTTP, which asks no client for a certificate."""
    return ServerFiles(settings).context if settings.tls_cert_file else None


def client_credentials(settings: ServiceSettings) -> grpc.ChannelCredentials | None:
    """None: plain text. With TLS_SERVER_CA_FILE calls use TLS and show this service's certificate, if any.

    gRPC keeps them for the life of the channel: calls to other services show a renewed certificate after a restart.
    """
    if not settings.tls_server_ca_file:
        return None
    return grpc.ssl_channel_credentials(
        root_certificates=_read(settings.tls_server_ca_file),
        private_key=_read(settings.tls_key_file),
        certificate_chain=_read(settings.tls_cert_file),
    )


def _read(path: str) -> bytes | None:
    return Path(path).read_bytes() if path else None

"""TLS and mTLS from files that settings name. Renewed files are in use from the next connection on, without a restart."""

import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tocsin_kit.logging import get_logger
from tocsin_kit.rpc.health import HealthCheck
from tocsin_kit.settings import ServiceSettings

_log = get_logger(__name__)

_UNREADABLE: Final = (ValueError, TypeError, UnsupportedAlgorithm)
"""TypeError: the key has a password."""
_LEAST_LIFE: Final = 0.1
"""Of the time for which a certificate was made: with less left it should have been renewed. Renewals begin at a third."""
_LEAST_LEFT: Final = timedelta(days=14)
"""Enough, however long it was made for."""

_Stamp = tuple[tuple[int, int, int] | None, ...]


class Pem(NamedTuple):
    """What the files hold; None where no file is named."""

    certificate: bytes | None
    key: bytes | None
    authority: bytes | None
    leaf: x509.Certificate | None

    def has_expired(self) -> bool:
        """Whether others refuse the certificate because it is too old."""
        return self.leaf is not None and self.leaf.not_valid_after_utc < datetime.now(UTC)


class CertificateTrouble(Exception):
    """Renewed files are not in use, or the certificate in use ends soon."""


class TlsFiles:
    """Certificate, key and authority, read again when they have changed.

    A renewal replaces the files one after the other, and may write them in place. The files that were read before stay in use
    while the new ones do not fit together, are incomplete, or hold an expired certificate where the one in use has not expired.
    """

    def __init__(self, certificate: str, key: str, authority: str) -> None:
        """Empty: no such file. Raises OSError, of which ssl.SSLError is one, when they cannot be used."""
        self._certificate: Final = certificate
        self._key: Final = key
        self._authority: Final = authority
        self._reading: Final = threading.Lock()
        self._seen = self._stamp()
        self._unusable = ""
        self._pem = self._read()
        self.adopt(self._pem)
        if self._pem.has_expired():
            _log.error("certificate_expired", file=certificate, effect="it is shown, and others refuse it")

    def adopt(self, pem: Pem) -> None:
        """Make of it what is used. Raises OSError, and has changed nothing then."""

    def refresh(self) -> bool:
        """Read the files if they have changed. True when something else is in use now. Callable from any thread."""
        if self._stamp() == self._seen:
            return False
        with self._reading:
            return self._refresh()

    def _refresh(self) -> bool:
        stamp = self._stamp()
        if stamp == self._seen:
            return False
        try:
            pem = self._read()
            if pem.has_expired() and not self._pem.has_expired():
                raise OSError("the certificate has expired, and the one in use has not")
            self.adopt(pem)
        except OSError as error:
            failure = str(error)
        else:
            failure, self._pem = "", pem
        if self._stamp() != stamp:
            return False  # replaced while they were read: the next look reads them again
        self._seen, self._unusable = stamp, failure
        if failure:
            _log.error("certificate_unusable", file=self._name(), error=failure, effect="the one before is used")
        else:
            _log.info("certificate_reloaded", file=self._name())
        return not failure

    async def check(self) -> None:
        """A health check. Raises CertificateTrouble."""
        self.refresh()
        if self._unusable:
            raise CertificateTrouble(f"{self._name()} is not in use, the one before it is: {self._unusable}")
        leaf = self._pem.leaf
        if leaf is not None:
            end, begin = leaf.not_valid_after_utc, leaf.not_valid_before_utc
            if end - datetime.now(UTC) < min(_LEAST_LEFT, (end - begin) * _LEAST_LIFE):
                raise CertificateTrouble(f"{self._name()} ends at {end:%Y-%m-%d %H:%M} UTC: renew it")

    def _name(self) -> str:
        return self._certificate or self._authority

    def _stamp(self) -> _Stamp:
        return tuple(_stamp_of(file) for file in (self._certificate, self._key, self._authority) if file)

    def _read(self) -> Pem:
        certificate, key, authority = (_bytes(file) for file in (self._certificate, self._key, self._authority))
        leaf = None
        if certificate is not None and key is not None:
            leaf = _certificates(certificate, self._certificate)[0]
            if _public_key(key, self._key) != leaf.public_key():
                raise OSError(f"{self._key} is not the key of {self._certificate}")
        if authority is not None:
            _certificates(authority, self._authority)
        return Pem(certificate, key, authority, leaf)


class ServerFiles(TlsFiles):
    """Certificate, key and authorities of one listener."""

    context: ssl.SSLContext
    """For HTTP."""
    configuration: grpc.ServerCertificateConfiguration
    """For gRPC."""

    def __init__(self, settings: ServiceSettings) -> None:
        """Raises as `TlsFiles` does."""
        super().__init__(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)

    def adopt(self, pem: Pem) -> None:
        """See `TlsFiles`."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._certificate, self._key)
        context.sni_callback = self._choose
        pair = (pem.key or b"", pem.certificate or b"")
        configuration = grpc.ssl_server_certificate_configuration([pair], root_certificates=pem.authority)
        self.context, self.configuration = context, configuration

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Called at each handshake, whether or not the client names a host."""
        self.refresh()
        connection.context = self.context


class ClientFiles(TlsFiles):
    """Those of calls to other services."""

    credentials: grpc.ChannelCredentials
    """A channel keeps what it was made with: see `rpc.client`."""

    def adopt(self, pem: Pem) -> None:
        """See `TlsFiles`."""
        self.credentials = grpc.ssl_channel_credentials(pem.authority, pem.key, pem.certificate)


class AuthorityFile(TlsFiles):
    """The authority that a client of another kind trusts, such as that of a mail server."""

    context: ssl.SSLContext

    def __init__(self, authority: str) -> None:
        """Raises as `TlsFiles` does."""
        super().__init__("", "", authority)

    def adopt(self, pem: Pem) -> None:
        """See `TlsFiles`."""
        self.context = ssl.create_default_context(cadata=(pem.authority or b"").decode())


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


def client_credentials(settings: ServiceSettings) -> ClientFiles | None:
    """None: plain text. With TLS_SERVER_CA_FILE calls use TLS and show this service's certificate, if any."""
    if not settings.tls_server_ca_file:
        return None
    return ClientFiles(settings.tls_cert_file, settings.tls_key_file, settings.tls_server_ca_file)


def certificate_checks(settings: ServiceSettings) -> list[HealthCheck]:
    """Whether the files that servers and calls use are whole and last. Not critical: what is in use works on."""
    checks = []
    if settings.tls_cert_file:
        checks.append(HealthCheck("certificate", ServerFiles(settings).check, critical=False))
    if (calls := client_credentials(settings)) is not None:
        checks.append(HealthCheck("certificate-authority", calls.check, critical=False))
    return checks


def _certificates(pem: bytes, file: str) -> list[x509.Certificate]:
    if pem.count(b"-----BEGIN ") != pem.count(b"-----END "):
        raise OSError(f"{file} is not whole")
    try:
        return x509.load_pem_x509_certificates(pem)
    except _UNREADABLE as error:
        raise OSError(f"{file} holds no certificate that can be read: {error}") from error


def _public_key(pem: bytes, file: str) -> object:
    try:
        return load_pem_private_key(pem, None).public_key()
    except _UNREADABLE as error:
        raise OSError(f"{file} holds no key that can be read: {error}") from error


def _bytes(file: str) -> bytes | None:
    return Path(file).read_bytes() if file else None


def _stamp_of(file: str) -> tuple[int, int, int] | None:
    """None: the file is not there. That is remembered as well, so that it is not read again and again."""
    try:
        found = Path(file).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino

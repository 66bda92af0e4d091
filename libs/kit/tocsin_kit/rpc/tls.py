"""TLS and mTLS from files that settings name."""

from pathlib import Path

import grpc

from tocsin_kit.settings import ServiceSettings


def server_credentials(settings: ServiceSettings) -> grpc.ServerCredentials | None:
    """None: plain text. With TLS_CLIENT_CA_FILE every client must show a certificate of that authority."""
    if not settings.tls_cert_file:
        return None
    authority = _read(settings.tls_client_ca_file)
    return grpc.ssl_server_credentials(
        [(Path(settings.tls_key_file).read_bytes(), Path(settings.tls_cert_file).read_bytes())],
        root_certificates=authority,
        require_client_auth=authority is not None,
    )


def client_credentials(settings: ServiceSettings) -> grpc.ChannelCredentials | None:
    """None: plain text. With TLS_SERVER_CA_FILE calls use TLS and show this service's certificate, if any."""
    if not settings.tls_server_ca_file:
        return None
    return grpc.ssl_channel_credentials(
        root_certificates=_read(settings.tls_server_ca_file),
        private_key=_read(settings.tls_key_file),
        certificate_chain=_read(settings.tls_cert_file),
    )


def _read(path: str) -> bytes | None:
    return Path(path).read_bytes() if path else None

"""A renewed certificate is shown from the next connection on, without a restart and without a gap."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
from tocsin_kit.http import HttpServer
from tocsin_kit.metrics import Metrics
from tocsin_kit.rpc.health import Health
from tocsin_kit.rpc.tls import ServerFiles
from tocsin_kit.settings import ServiceSettings

from tests.certificates import Certificates, make_certificates


@pytest.fixture
def shown(tmp_path: Path) -> Certificates:
    (tmp_path / "shown").mkdir()
    return make_certificates(tmp_path / "shown")


@pytest.fixture
def renewed(tmp_path: Path) -> Certificates:
    (tmp_path / "renewed").mkdir()
    return make_certificates(tmp_path / "renewed")


@pytest.fixture
def secure(settings: ServiceSettings, shown: Certificates) -> ServiceSettings:
    return settings.model_copy(update={"tls_cert_file": str(shown.certificate), "tls_key_file": str(shown.key)})


def renew(shown: Certificates, renewed: Certificates) -> None:
    renewed.certificate.replace(shown.certificate)
    renewed.key.replace(shown.key)


async def certificate_at(port: int) -> str:
    return await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port), timeout=30)


async def test_grpc_and_http_show_it(
    serve: Any, echo: Any, secure: ServiceSettings, shown: Certificates, renewed: Certificates
) -> None:
    metrics = Metrics()
    http = HttpServer(secure, metrics=metrics, health=Health((), metrics))
    await http.start()
    try:
        grpc_server = await serve(echo.Echo(), using=secure)
        ports = (grpc_server.port, http.port)
        old, new = shown.certificate.read_text(), renewed.certificate.read_text()
        assert [await certificate_at(port) for port in ports] == [old, old]
        renew(shown, renewed)
        assert [await certificate_at(port) for port in ports] == [new, new]
    finally:
        await http.stop()


def test_while_the_files_do_not_fit_together_the_pair_before_is_shown(
    secure: ServiceSettings, shown: Certificates, renewed: Certificates
) -> None:
    files = ServerFiles(secure)
    before = files.configuration
    renewed.certificate.replace(shown.certificate)
    assert not files.refresh()
    assert files.configuration is before
    shown.key.unlink()
    assert not files.refresh()
    renewed.key.replace(shown.key)
    assert files.refresh()
    assert files.configuration is not before
    assert not files.refresh()

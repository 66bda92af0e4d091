"""Renewed certificates and authorities are used from the next connection on, without a restart and without a gap."""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from tocsin_kit.auth import JwtAuthenticator, Principal, TokenSource
from tocsin_kit.http import HttpServer
from tocsin_kit.lifecycle import Service
from tocsin_kit.lifecycle import serve as serve_service
from tocsin_kit.metrics import Metrics
from tocsin_kit.rpc import client as client_module
from tocsin_kit.rpc.client import channel
from tocsin_kit.rpc.health import Health
from tocsin_kit.rpc.tls import AuthorityFile, CertificateTrouble, ClientFiles, ServerFiles, client_credentials
from tocsin_kit.settings import ServiceSettings
from tocsin_testkit.busy import until

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


@pytest.fixture
def mutual(secure: ServiceSettings, shown: Certificates) -> ServiceSettings:
    authority = str(shown.authority)
    return secure.model_copy(update={"tls_client_ca_file": authority, "tls_server_ca_file": authority})


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


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def no_end(path: Path) -> None:
    """Of the last certificate; those before it are whole."""
    path.write_bytes(path.read_bytes() * 2)
    path.write_bytes(path.read_bytes()[:-30])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def noise(path: Path) -> None:
    path.write_bytes(bytes(range(256)))


def no_certificate(path: Path) -> None:
    path.write_bytes(b"-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n")


def gone(path: Path) -> None:
    path.unlink()


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("file", "harm"),
    [
        *(
            (file, harm)
            for file in ("certificate", "key", "authority")
            for harm in (half, empty, noise, gone, a_folder)
        ),
        *((file, harm) for file in ("certificate", "authority") for harm in (no_end, no_certificate)),
    ],
)
@pytest.mark.parametrize("side", ["server", "client"])
async def test_what_is_not_whole_is_told_of_and_not_used(
    mutual: ServiceSettings,
    shown: Certificates,
    renewed: Certificates,
    file: str,
    harm: Callable[[Path], None],
    side: str,
) -> None:
    files = ServerFiles(mutual) if side == "server" else client_credentials(mutual)
    assert files is not None
    before = in_use(files)
    await files.check()
    path: Path = getattr(shown, file)
    harm(path)
    assert not files.refresh()
    assert in_use(files) is before
    with pytest.raises(CertificateTrouble, match="not in use"):
        await files.check()
    mend(path)
    for name in ("certificate", "key", "authority"):
        getattr(renewed, name).replace(getattr(shown, name))
    assert files.refresh()
    assert in_use(files) is not before
    await files.check()


def mend(path: Path) -> None:
    """So that another file can take its place."""
    if path.is_dir():
        path.rmdir()


def in_use(files: ServerFiles | ClientFiles) -> object:
    return files.credentials if isinstance(files, ClientFiles) else files.configuration


async def test_an_expired_certificate_replaces_none_that_is_valid(
    secure: ServiceSettings, shown: Certificates, tmp_path: Path
) -> None:
    files = ServerFiles(secure)
    before = files.configuration
    (tmp_path / "expired").mkdir()
    renew(shown, make_certificates(tmp_path / "expired", minutes=-1.0))
    assert not files.refresh()
    assert files.configuration is before
    with pytest.raises(CertificateTrouble, match="has expired"):
        await files.check()
    (tmp_path / "again").mkdir()
    renew(shown, make_certificates(tmp_path / "again"))
    assert files.refresh()
    await files.check()


async def test_a_certificate_that_ends_soon_is_told_of(
    secure: ServiceSettings, shown: Certificates, tmp_path: Path
) -> None:
    (tmp_path / "short").mkdir()
    renew(shown, make_certificates(tmp_path / "short", minutes=5))
    with pytest.raises(CertificateTrouble, match="renew it"):
        await ServerFiles(secure).check()


def test_a_renewed_authority_of_another_server_is_trusted(shown: Certificates, renewed: Certificates) -> None:
    files = AuthorityFile(str(shown.authority))
    before = files.context.get_ca_certs()
    renewed.authority.replace(shown.authority)
    assert files.refresh()
    assert [each["serialNumber"] for each in files.context.get_ca_certs()] != [each["serialNumber"] for each in before]


class Grant(JwtAuthenticator):
    async def authenticate(self, token: str) -> Principal | None:
        principal = await super().authenticate(token)
        return principal and Principal(principal.org_id, principal.subject, principal.scopes | {"echo:use"})


async def test_calls_between_services_go_on_when_everything_is_renewed(
    serve: Any,
    echo: Any,
    mutual: ServiceSettings,
    shown: Certificates,
    renewed: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Certificate, key and authority of both sides; of two channels that read the same files. No connection of before is left."""
    monkeypatch.setattr(client_module, "_LOOK_EVERY", 0.0)
    options = {"authenticators": [Grant(mutual.signing_keys)]}
    server = await serve(echo.Echo(), using=mutual, **options)
    await server.health.check_once()
    files, tokens = client_credentials(mutual), TokenSource(mutual.signing_keys, "tester")
    async with AsyncExitStack() as opened:
        callers = []
        for _ in range(2):
            below = channel(f"127.0.0.1:{server.port}", service_name="echo", tokens=tokens, tls=files)
            callers.append(echo.Client(await opened.enter_async_context(below)))

        async def answered() -> bool:
            try:
                for each in callers:
                    await each.call("Unary", echo.Request(text="hi"), timeout=30)
            except grpc.aio.AioRpcError:
                return False
            return True

        await until(answered)
        for _ in range(2):
            renewed.certificate.replace(shown.certificate)  # one after the other, as renewals do
            assert await answered()
            renewed.key.replace(shown.key)
            assert await answered()
            renewed.authority.replace(shown.authority)
            await server.stop(0)
            server = await serve(
                echo.Echo(), using=mutual.model_copy(update={"grpc_listen": f"127.0.0.1:{server.port}"}), **options
            )
            await server.health.check_once()
            await until(answered)
            renewed = make_certificates(renewed.authority.parent)


@pytest.mark.parametrize("harm", [half, gone])
async def test_a_service_does_not_start_with_files_that_cannot_be_used(
    mutual: ServiceSettings, shown: Certificates, harm: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    harm(shown.key)

    async def build(_: object) -> Service:
        raise AssertionError

    with pytest.raises(SystemExit):
        await serve_service("echo", mutual, build)
    assert str(shown.key) in capsys.readouterr().out

"""The Dockerfile: what an image holds, whom it runs as, and how it says that it is ready."""

import asyncio
import datetime
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pydantic import SecretStr
from tocsin_kit.http import HttpServer
from tocsin_kit.metrics import Metrics
from tocsin_kit.rpc.health import Health, HealthCheck
from tocsin_kit.settings import ServiceSettings
from tocsin_stack.service import SERVICES, ServiceSpec

from tests.contract.containers.support import ROOT, dockerfile, service


def test_the_images_differ_in_name_and_ports_only() -> None:
    def without_names(spec: ServiceSpec) -> str:
        text = dockerfile(spec).replace(spec.name, "SERVICE").replace(spec.name.upper(), "SERVICE")
        for port, kind in ((spec.grpc_port, "GRPC"), (spec.http_port, "HTTP"), (spec.http_port + 100, "ADMIN")):
            text = text.replace(str(port), kind)
        return text

    assert len({without_names(spec) for spec in SERVICES}) == 1
    *_, shared, own = dockerfile(SERVICES[0]).split("\nFROM ")
    assert shared.endswith("\nUSER 10001:10001\n")
    assert "USER" not in own
    assert own.endswith('\nENTRYPOINT ["python", "-m", "tocsin_ingest"]\nCMD ["serve"]')


# Imports a whole service where nothing is to be had that its image lacks, and prints where its own modules came from.
IMPORT = """
import json, pathlib, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError("not in the image: " + name, name=name)

sys.meta_path.insert(0, Absent())
import {module}.__main__ as main
import alembic.command, sqlalchemy.ext.asyncio
from tocsin_kit.db.migrations import head_of

head_of(pathlib.Path(main.__file__).parent.parent / "migrations")
files = {{name: getattr(module, "__file__", None) for name, module in sys.modules.items()}}
print(json.dumps({{name: file for name, file in files.items() if file and name.startswith("tocsin")}}))
"""


@service
def test_an_image_holds_all_that_its_service_imports(spec: ServiceSpec, tmp_path: Path) -> None:
    text = dockerfile(spec)
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source, target in re.findall(r"^COPY ([^-\s]\S*) (/app/\S*)$", text, re.MULTILINE):
        assert any(source == name or source.startswith(f"{name}/") for name in allowed), source
        place = tmp_path / "code" / target[1:]
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__", "*.pyi"))
        else:
            place.mkdir(parents=True)
            shutil.copy(ROOT / source, place)
    for name in re.findall(r"^COPY --from=code /(app/\S+) /app/", text, re.MULTILINE):
        if (tmp_path / "code" / name).is_dir():
            shutil.copytree(tmp_path / "code" / name, tmp_path / name)
    shutil.rmtree(tmp_path / "code")
    path = re.search(r"PYTHONPATH=(\S+)", text)
    assert path is not None
    locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.runtime.lock").read_text(), re.MULTILINE))
    absent = {
        package
        for package, owners in importlib.metadata.packages_distributions().items()
        if not any(re.sub(r"[-_.]+", "-", owner).lower() in locked for owner in owners)
    }
    environment = {"PATH": os.defpath, "PYTHONPATH": path[1].replace("/app", str(tmp_path / "app"))}
    program = IMPORT.format(absent=absent, module=spec.module)
    output = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd="/", check=True, stdout=subprocess.PIPE
    )
    ours: dict[str, str] = json.loads(output.stdout)
    assert {spec.module, "tocsin_kit", "tocsin"} <= {name.partition(".")[0] for name in ours}
    assert {name for name, file in ours.items() if not file.startswith(str(tmp_path))} == set()


def test_no_secret_and_no_data_can_enter_a_build() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    named = [rule[1:] for rule in rules if rule.startswith("!")]
    assert all(name.split("/")[0] in {"libs", "services", "docker"} or name.endswith(".lock") for name in named)


async def ready(port: int, **environment: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(ROOT / "docker" / "ready.py"), "INGEST_ADMIN_LISTEN"),
        env={"INGEST_ADMIN_LISTEN": f"0.0.0.0:{port}", **environment},
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    return process.returncode, errors.decode()


def certificate(folder: Path) -> dict[str, str]:
    """A certificate for a name, not for the address the health check asks at."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ingest")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
    signed = builder.not_valid_after(now + datetime.timedelta(hours=1)).sign(key, SHA256())
    (folder / "cert.pem").write_bytes(signed.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return {"tls_cert_file": str(folder / "cert.pem"), "tls_key_file": str(folder / "key.pem")}


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_the_health_check_asks_the_service_itself(tls: bool, tmp_path: Path) -> None:
    store_is_there = False

    async def store() -> None:
        if not store_is_there:
            raise ConnectionError("store is away")

    settings = ServiceSettings(
        database_url=SecretStr("postgresql://nobody@127.0.0.1/none"),
        auth_signing_keys=SecretStr("k1:" + "Ab3dEf6hIj9lMn" * 3 + "A"),
        http_listen="127.0.0.1:0",
        admin_listen="127.0.0.1:0",
    ).model_copy(update=certificate(tmp_path) if tls else {})
    metrics = Metrics()
    health = Health((HealthCheck("store", store),), metrics)
    server = HttpServer(settings, metrics=metrics, health=health)
    environment = {"TLS_CERT_FILE": settings.tls_cert_file} if tls else {}
    await server.start()
    try:
        await health.check_once()
        code, said = await ready(server.admin_port, **environment)
        assert code == 1
        assert "store is away" in said
        store_is_there = True
        await health.check_once()
        assert await ready(server.admin_port, **environment) == (0, "")
        health.shut_down()
        assert (await ready(server.admin_port, **environment))[0] == 1
    finally:
        await server.stop()
    code, said = await ready(server.admin_port, **environment)
    assert code == 1
    assert f"no answer from port {server.admin_port}" in said

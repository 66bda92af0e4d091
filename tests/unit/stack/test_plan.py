"""Addresses, environments, ports, secrets, migration marks: everything decided before a process starts."""

import socket
import stat
from pathlib import Path

import pytest
from tocsin_stack import secret
from tocsin_stack.errors import StackError
from tocsin_stack.plan import Plan, StackSettings
from tocsin_stack.ports import HOST, Wanted, free_port, is_taken, require_free
from tocsin_stack.schema import SeenMigrations
from tocsin_stack.service import SERVICES

INGEST, ESCALATION, NOTIFY = SERVICES


def test_fixed_ports_can_be_moved_by_the_services_own_variables(tmp_path: Path) -> None:
    overrides = {"INGEST_GRPC_LISTEN": "127.0.0.1:9101", "TOCSIN_VALKEY_PORT": "9379", "TOCSIN_HTTPS_PORT": "9443"}
    plan = Plan(StackSettings(tmp_path, fixed_ports=True, overrides=overrides))
    assert plan.target("ingest") == "127.0.0.1:9101"
    assert plan.target("notify") == "127.0.0.1:7103"
    assert (plan.postgres_port, plan.valkey_port) == (7432, 9379)
    assert {want.port for want in plan.service_ports} == {9101, 7201, 7102, 7202, 7103, 7203, 9443}


@pytest.mark.parametrize(
    ("variable", "value"),
    [("INGEST_GRPC_LISTEN", "7101x"), ("TOCSIN_POSTGRES_PORT", "0"), ("NOTIFY_HTTP_LISTEN", "127.0.0.1:65536")],
)
def test_a_senseless_port_names_its_variable(tmp_path: Path, variable: str, value: str) -> None:
    with pytest.raises(StackError, match=variable):
        Plan(StackSettings(tmp_path, fixed_ports=True, overrides={variable: value}))


def test_a_service_learns_its_own_database_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESCALATION_DATABASE_URL", "of the caller")
    monkeypatch.setenv("ESCALATION_TENANT_DATABASE_URL", "of the caller")
    monkeypatch.setenv("KEPT", "of the caller")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    urls = {f"{spec.name.upper()}_DATABASE_URL": f"postgresql://{spec.name}" for spec in SERVICES}
    urls["INGEST_TENANT_DATABASE_URL"] = "postgresql://calls"
    plan = Plan(StackSettings(tmp_path, replicas={"notify": 2}, overrides={**urls, "REDIS_URL": "redis://there"}))
    assert plan.embedded_databases == ()
    assert not plan.embedded_redis
    environment = plan.environment(INGEST, 0)
    assert environment["INGEST_DATABASE_URL"] == "postgresql://ingest"
    assert environment["INGEST_TENANT_DATABASE_URL"] == "postgresql://calls"
    assert plan.environment(NOTIFY, 0)["NOTIFY_TENANT_DATABASE_URL"] == "", "one login for all"
    assert environment["REDIS_URL"] == "redis://there"
    assert environment["KEPT"] == "of the caller"
    assert "ESCALATION_DATABASE_URL" not in environment
    assert "ESCALATION_TENANT_DATABASE_URL" not in environment
    assert "PYTHONDONTWRITEBYTECODE" not in environment, "start-up would take twice as long"
    assert "NOTIFY_GRPC_LISTEN" not in environment
    assert environment["ESCALATION_TARGET"] == plan.environment(ESCALATION, 0)["ESCALATION_GRPC_LISTEN"]
    assert plan.environment(ESCALATION, 0)["INGEST_TARGET"] == environment["INGEST_GRPC_LISTEN"]
    replicas = [plan.environment(NOTIFY, index)["NOTIFY_GRPC_LISTEN"] for index in range(2)]
    assert environment["NOTIFY_TARGET"] == "ipv4:" + ",".join(replicas)


def test_databases_without_a_url_are_embedded(tmp_path: Path) -> None:
    plan = Plan(StackSettings(tmp_path, overrides={"NOTIFY_DATABASE_URL": "postgresql://theirs"}))
    assert [spec.name for spec in plan.embedded_databases] == ["ingest", "escalation"]
    assert plan.postgres_port is None, "tests get a free one"
    assert plan.embedded_redis


def test_taken_ports_are_told_all_at_once() -> None:
    with socket.create_server((HOST, 0)) as first, socket.create_server((HOST, 0)) as second:
        ports = [server.getsockname()[1] for server in (first, second)]
        wanted = [Wanted(port, f"purpose {index}", f"VARIABLE_{index}") for index, port in enumerate(ports)]
        with pytest.raises(StackError) as caught:
            require_free([*wanted, Wanted(free_port(), "free", "FREE")])
    assert str(caught.value).splitlines() == [
        "cannot start:",
        f"  127.0.0.1:{ports[0]} for purpose 0 is taken; stop what holds it, or set VARIABLE_0",
        f"  127.0.0.1:{ports[1]} for purpose 1 is taken; stop what holds it, or set VARIABLE_1",
    ]


def test_free_ports_are_never_a_clients_own(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = {free_port() for _ in range(50)}
    assert len(ports) == 50
    assert max(ports) < 32768, "below what kernels hand out to outgoing connections"
    assert not any(map(is_taken, ports))


def test_a_lingering_connection_does_not_make_a_port_taken() -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection((HOST, port)) as client:
            accepted, _ = server.accept()
            accepted.close()  # the side that closes first keeps the TIME_WAIT
            assert client.recv(1) == b""
    assert not is_taken(port)


def test_secrets_are_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "passwords" / "ingest"
    first = secret.kept(path)
    assert len(first) == 43
    assert secret.kept(path) == first
    assert secret.kept(tmp_path / "other") != first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["ingest"]


def test_a_changed_migration_is_not_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "some_service"
    package.mkdir()
    (package / "__init__.py").touch()
    revision = tmp_path / "migrations" / "versions" / "0001.py"
    revision.parent.mkdir(parents=True)
    revision.write_text("first")
    monkeypatch.syspath_prepend(tmp_path)
    seen = SeenMigrations(tmp_path / "seen")
    assert not seen.is_current("some", "some_service")
    seen.record("some", "some_service")
    assert seen.is_current("some", "some_service")
    revision.write_text("changed")
    assert not seen.is_current("some", "some_service")

"""docker-compose.yml, as the real program understands it."""

import json
import re
from typing import Any

import pytest
from tocsin_escalation.settings import EscalationSettings
from tocsin_ingest.settings import IngestSettings
from tocsin_kit.settings import ServiceSettings
from tocsin_notify.settings import NotifySettings
from tocsin_stack.service import SERVICES, ServiceSpec

from tests.contract.containers.support import ROOT, containers, dockerfile, service

SETTINGS: dict[str, type[ServiceSettings]] = {
    "ingest": IngestSettings,
    "escalation": EscalationSettings,
    "notify": NotifySettings,
}


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """docker-compose.yml as the real program understands it."""
    settings = tmp_path_factory.mktemp("compose") / "settings.env"
    settings.write_text(containers.fill((ROOT / ".env.example").read_text()))
    try:
        program = containers.tool("docker-compose")
        code, output = containers.run(program, "--env-file", str(settings), "config", "--format", "json", root=ROOT)
    except containers.Skipped as reason:
        pytest.skip(str(reason))
    assert code == 0, output
    return dict(json.loads(output))


def test_every_container_is_shut_in(compose: dict[str, Any]) -> None:
    for name, container in compose["services"].items():
        assert container["read_only"], name
        assert container["init"], name
        assert container["cap_drop"] == ["ALL"], name
        assert "cap_add" not in container, name
        assert container["security_opt"] == ["no-new-privileges:true"], name
        assert container["logging"]["options"].keys() == {"max-size", "max-file"}, name
        assert container["deploy"]["resources"]["limits"].keys() == {"memory", "pids"}, name
        assert "build" in container or container["user"] in ("postgres", "valkey"), name  # ours say it in the image
    assert compose["networks"]["stores"]["internal"]


def test_stores_are_healthy_and_migrations_done_before_a_service_starts(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for spec in SERVICES:
        needs = {name: need["condition"] for name, need in services[spec.name]["depends_on"].items()}
        assert needs == {
            f"migrate-{spec.name}": "service_completed_successfully",
            "valkey": "service_healthy",
        }
        migration = services[f"migrate-{spec.name}"]
        assert migration["command"] == ["migrate"]
        assert migration["depends_on"]["databases"]["condition"] == "service_completed_successfully"
        assert migration["image"] == services[spec.name]["image"]
        assert migration["build"] == services[spec.name]["build"]
        assert migration["environment"].keys() == {spec.variable("DATABASE_URL"), spec.variable("TENANT_DATABASE_URL")}
    assert services["databases"]["depends_on"]["postgres"]["condition"] == "service_healthy"


def test_only_services_can_be_reached_and_only_from_this_machine(compose: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert published.keys() == {spec.name for spec in SERVICES}
    for spec in SERVICES:
        ports = [(port["host_ip"], port["published"], port["target"]) for port in published[spec.name]]
        wanted = (spec.grpc_port, spec.http_port, spec.http_port + 100)
        assert ports == [("127.0.0.1", str(port), port) for port in wanted]


def test_operators_ports_appear_on_this_machine_wherever_the_others_do() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    for spec in SERVICES:
        port = spec.http_port + 100
        assert f"- 127.0.0.1:${{{spec.variable('ADMIN_PORTS')}:-{port}}}:{port}" in text
        image = dockerfile(spec)
        assert f"{spec.variable('ADMIN_LISTEN')}=0.0.0.0:{port}" in image
        assert f'"{spec.variable("ADMIN_LISTEN")}"]' in image


@service
def test_a_service_can_be_told_every_setting_and_no_other_service_s_secret(
    spec: ServiceSpec, compose: dict[str, Any]
) -> None:
    environment = compose["services"][spec.name]["environment"]
    prefix = SETTINGS[spec.name].model_config.get("env_prefix", "")
    known = set(SETTINGS[spec.name].renamed) | {
        field.validation_alias if isinstance(field.validation_alias, str) else f"{prefix}{name}".upper()
        for name, field in SETTINGS[spec.name].model_fields.items()
    }
    said_by_image = {spec.variable(f"{kind}_LISTEN") for kind in ("GRPC", "HTTP", "ADMIN")}
    assert environment.keys() | said_by_image == known
    for other in SERVICES:
        assert environment[other.variable("TARGET")] == f"dns:///{other.name}:{other.grpc_port}"
    urls = {name: value for name, value in environment.items() if str(value).startswith("postgresql:")}
    assert urls.keys() == {spec.variable("DATABASE_URL"), spec.variable("TENANT_DATABASE_URL")}
    assert urls[spec.variable("DATABASE_URL")].startswith(f"postgresql://tocsin_{spec.name}:")
    assert urls[spec.variable("TENANT_DATABASE_URL")].startswith(f"postgresql://tocsin_{spec.name}_tenant:")


@service
def test_a_stop_has_time_for_every_stage(spec: ServiceSpec, compose: dict[str, Any]) -> None:
    container = compose["services"][spec.name]
    grace = float(container["environment"]["SHUTDOWN_GRACE_SECONDS"])
    allowed = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", container["stop_grace_period"])
    assert allowed is not None
    seconds = int(allowed[1] or 0) * 60 + int(allowed[2] or 0)
    assert seconds > 3 * grace, "RPCs and loops, then HTTP, then what is left: see tocsin_kit.lifecycle.serve"


def test_the_example_names_every_variable_compose_reads() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    read = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", text))
    passed_on = set(re.findall(r"^      ([A-Z_]+):$|^  ([A-Z_]+):$", text, re.MULTILINE))
    example = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert read - example == set()
    assert example - read - {name for pair in passed_on for name in pair} == set()

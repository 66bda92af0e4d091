"""tocsin-client from outside, against a running Tocsin: both clients, and the wheels in an empty environment."""

import asyncio
import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import tocsin_client
from packaging.requirements import Requirement
from tocsin.escalation.v1 import incident_pb2
from tocsin.escalation.v1.directory_service_pb2 import CreateUserRequest, GetUserRequest, User
from tocsin.escalation.v1.incident_service_pb2 import AcknowledgeIncidentRequest
from tocsin.ingest.v1.alert_pb2 import ALERT_OUTCOME_OPENED, AlertInput
from tocsin.ingest.v1.alert_service_pb2 import SendAlertRequest
from tocsin_stack.ports import free_port
from tocsin_testkit.tenant import Tenant

from tests.e2e.operator_doc import ROOT

README = ROOT / "libs" / "client" / "README.md"

pytestmark = pytest.mark.stack


def addresses(tenant: Tenant) -> dict[str, Any]:
    stack = tenant.world.stack
    return {name: stack.plan.target(name) for name in stack.services}


@pytest.fixture
def client(tenant: Tenant) -> Iterator[tocsin_client.Client]:
    with tocsin_client.Client(token=tenant.world.token(tenant.org_id), tls=None, **addresses(tenant)) as client:
        yield client


@pytest.fixture
async def aio(tenant: Tenant) -> AsyncIterator[tocsin_client.AioClient]:
    async with tocsin_client.AioClient(
        token=lambda: tenant.world.token(tenant.org_id), tls=None, **addresses(tenant)
    ) as aio:
        yield aio


def alert(key: str, **fields: str) -> SendAlertRequest:
    return SendAlertRequest(alert=AlertInput(summary=f"{key} is down", dedup_key=key, **fields))  # type: ignore[arg-type]


def heard(tenant: Tenant) -> None:
    """What people were told besides is of no interest here."""
    for message in filter(tenant.owns, tenant.world.inbox.messages):
        tenant.expected(message)


async def test_errors_are_exceptions_with_reason_metadata_and_fields(
    client: tocsin_client.Client, aio: tocsin_client.AioClient
) -> None:
    with pytest.raises(tocsin_client.NotFound) as threaded:
        await asyncio.to_thread(client.directory.GetUser, GetUserRequest(name="users/nobody"))
    with pytest.raises(tocsin_client.NotFound) as awaited:
        await aio.directory.GetUser(GetUserRequest(name="users/nobody"))
    for error in (threaded.value, awaited.value):
        assert (error.reason, error.metadata) == ("USER_NOT_FOUND", {"name": "users/nobody"})
    with pytest.raises(tocsin_client.InvalidArgument) as invalid:
        await aio.directory.CreateUser(CreateUserRequest(user_id="Not An Id", user=User(display_name="x")))
    assert [violation.field for violation in invalid.value.field_violations] == ["user_id"]
    assert invalid.value.request_id


async def test_a_wrong_credential_is_refused(tenant: Tenant) -> None:
    async with tocsin_client.AioClient(token="nonsense", tls=None, **addresses(tenant)) as aio:
        with pytest.raises(tocsin_client.Unauthenticated) as error:
            await aio.directory.GetUser(GetUserRequest(name="users/ana"))
        assert error.value.reason == "CREDENTIAL_INVALID"


async def test_the_key_of_a_failed_call_makes_its_repeat_the_same_call(aio: tocsin_client.AioClient) -> None:
    """A caller gives up before the answer comes; the repeat with the error's key gets the answer of the first attempt."""
    request = CreateUserRequest(user_id="ana", user=User(display_name="Ana"))
    with pytest.raises(tocsin_client.DeadlineExceeded) as late:
        await aio.directory.CreateUser(request, timeout=0.0001)
    assert late.value.is_transient
    request.request_id = late.value.request_id
    first = await aio.directory.CreateUser(request)
    assert (await aio.directory.CreateUser(request)).user == first.user
    request.request_id = ""
    with pytest.raises(tocsin_client.AlreadyExists):
        await aio.directory.CreateUser(request)


async def test_an_address_without_a_server_is_unavailable_and_waits_no_longer_than_the_deadline() -> None:
    async with tocsin_client.AioClient(token="t", escalation=f"127.0.0.1:{free_port()}", tls=None) as aio:
        with pytest.raises((tocsin_client.Unavailable, tocsin_client.DeadlineExceeded)):
            await aio.directory.GetUser(GetUserRequest(name="users/ana"), timeout=0.3)


async def test_an_incident_is_opened_and_acknowledged(tenant: Tenant, aio: tocsin_client.AioClient) -> None:
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana]))
    answer = await aio.alerts.SendAlert(
        SendAlertRequest(integration=prom.name, alert=AlertInput(summary="db down", dedup_key="db"))
    )
    await ana.is_paged(answer.incident, level=1)
    response = await aio.incidents.AcknowledgeIncident(AcknowledgeIncidentRequest(name=answer.incident))
    assert response.incident.state == incident_pb2.INCIDENT_STATE_ACKNOWLEDGED
    await tenant.world.idle()
    heard(tenant)


async def test_many_alerts_have_their_results_in_order_and_a_bad_one_fails_alone(
    client: tocsin_client.Client, aio: tocsin_client.AioClient
) -> None:
    def requests(prefix: str) -> Iterator[SendAlertRequest]:
        for n in range(60):
            yield alert(f"{prefix}-{n}") if n != 30 else SendAlertRequest(alert=AlertInput(source="no summary"))

    async def arriving(prefix: str) -> AsyncIterator[SendAlertRequest]:
        for request in requests(prefix):
            yield request

    threaded = await asyncio.to_thread(lambda: list(client.send_alerts(requests("sync"), batch=25)))
    awaited = [result async for result in aio.send_alerts(arriving("aio"), batch=25)]
    for prefix, results in (("sync", threaded), ("aio", awaited)):
        assert [result.request.alert.dedup_key for result in results if result.error is None] == [
            f"{prefix}-{n}" for n in range(60) if n != 30
        ]
        assert {result.response.outcome for result in results if result.response} == {ALERT_OUTCOME_OPENED}
        [bad] = [result for result in results if result.error is not None]
        assert isinstance(bad.error, tocsin_client.InvalidArgument)


async def test_an_error_of_the_source_reaches_who_reads_the_results(
    client: tocsin_client.Client, aio: tocsin_client.AioClient
) -> None:
    def broken() -> Iterator[SendAlertRequest]:
        yield alert("before")
        raise LookupError("the source is broken")

    with pytest.raises(LookupError):
        await asyncio.to_thread(lambda: list(client.send_alerts(broken())))
    with pytest.raises(LookupError):
        _ = [result async for result in aio.send_alerts(broken())]


async def test_the_wheels_alone_are_enough_for_the_examples(tenant: Tenant, tmp_path: Path) -> None:
    """In an environment that holds our two wheels and what they say they need, and nothing else."""
    python = await asyncio.to_thread(environment_of_wheels, tmp_path)
    [ana] = await tenant.people("ana")
    prom = await tenant.integration(await tenant.policy([ana]))
    examples = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    assert len(examples) == 3
    variables = {name.upper(): address for name, address in addresses(tenant).items()}
    variables |= {"TOCSIN_KEY": prom.key, "TOCSIN_TOKEN": tenant.world.token(tenant.org_id)}
    said = []
    for example in examples:
        process = await asyncio.create_subprocess_exec(
            *(str(python), "-I", "-c", example.replace("range(1000)", "range(3)")),
            env=variables,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        said.append(output.decode())
        assert process.returncode == 0, said[-1]
        await tenant.world.idle()
    incident = said[0].strip()
    await ana.is_paged(incident)
    assert said[1] == "", "every alert was taken"
    assert {f"acknowledged node-{n} is down" for n in range(3)} < {*said[2].splitlines()}
    assert (await tenant.incident(incident)).state == incident_pb2.INCIDENT_STATE_ACKNOWLEDGED
    await tenant.world.idle()
    heard(tenant)


def environment_of_wheels(folder: Path) -> Path:
    """Builds the wheels, installs them with no index, links their dependencies' closure. Returns the interpreter."""
    program = str(Path(sys.executable).parent / "uv")
    requirements: list[Requirement] = []
    for name in ("contracts", "client"):
        source = shutil.copytree(
            ROOT / "libs" / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
        )
        build = "import sys, setuptools.build_meta as b; b.build_wheel(sys.argv[1])"
        run(sys.executable, "-c", build, str(folder), cwd=source)
        [wheel] = folder.glob(f"tocsin_{name}-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            inside = archive.namelist()
            metadata = next(archive.read(one).decode() for one in inside if one.endswith(".dist-info/METADATA"))
        assert any(one.endswith("licenses/LICENSE") for one in inside)
        assert f"{'tocsin' if name == 'contracts' else 'tocsin_client'}/py.typed" in inside
        requirements += [Requirement(line) for line in re.findall(r"^Requires-Dist: (.+)$", metadata, re.MULTILINE)]
    run(program, "venv", "--quiet", "--python", sys.executable, str(folder / "venv"))
    python = folder / "venv" / "bin" / "python"
    wheels = [str(wheel) for wheel in folder.glob("*.whl")]
    run(program, "pip", "install", "--quiet", "--no-index", "--no-deps", "--python", str(python), *wheels)
    link_closure(requirements, next((folder / "venv").glob("lib/python*/site-packages")))
    return python


def link_closure(requirements: list[Requirement], target: Path) -> None:
    """Link what is required, and what that requires, from this environment: the lock's versions, without an index."""
    done = {"tocsin-contracts"}
    while requirements:
        requirement = requirements.pop()
        if requirement.name in done or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        done.add(requirement.name)
        distribution = importlib.metadata.distribution(requirement.name)
        assert requirement.specifier.contains(distribution.version), requirement
        requirements += [Requirement(each) for each in distribution.requires or ()]
        for file in distribution.files or ():
            if file.suffix != ".pyc" and ".." not in file.parts and not (place := target / file).exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(str(file.locate()))


def run(*command: str, cwd: Path = ROOT) -> None:
    result = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert result.returncode == 0, result.stdout

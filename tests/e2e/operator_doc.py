"""The operator's pages as a program: their `sh` blocks, run in one bash as if pasted, and the answers beside them."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tocsin_testkit.busy import within

ROOT: Final = Path(__file__).parents[2]
README: Final = ROOT / "README.md"
_REFERENCE: Final = ROOT / "docs" / "reference"
# In the order in which they are pasted: later pages speak of what earlier ones make.
REFERENCE: Final = tuple(
    _REFERENCE / f"{page}.md"
    for page in (
        *("README", "people", "messages", "policies", "schedules", "alerts", "incidents", "queues", "access"),
        *("senders", "errors"),
    )
)
ERRORS: Final = _REFERENCE / "errors.md"
RUNBOOK: Final = ROOT / "docs" / "runbook.md"
METRICS: Final = ROOT / "docs" / "metrics.md"
PAGES: Final = (*REFERENCE, RUNBOOK)

# What differs from run to run; everything else in an answer must be as the page shows it.
_VARYING: Final = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<uuid>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)"), "<time>"),
    (re.compile(r'("(?:key|secret|key_id|next_page_token|cursor)": )"[^"]+"'), r'\1"<made>"'),
    (re.compile(r"t[aic]k_[\w-]+"), "<key>"),
    (
        re.compile(
            r'("(?:lateness|oldest_age|waiting|active|delayed|overdue|failed|completed|dead|compared)": )"[\d.]+s?"'
        ),
        r'\1"<n>"',
    ),
    # What became of a page is known a moment after the page.
    (re.compile(r'("reached": "REACHED_)(?:UNKNOWN|SOMEBODY)"'), r'\1<known>"'),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"), "<time>"),
    (re.compile(r"^(tocsin_\w+(?<!_available)(?<!_missing) )[\d.e+-]+$", re.MULTILINE), r"\1<n>"),
    (re.compile(r"timelineEntries/\d+"), "timelineEntries/<n>"),
    (re.compile(r"auditEntries/\d+"), "auditEntries/<n>"),
    (re.compile(r"^\d+ unreadable$", re.MULTILINE), "<n> unreadable"),
)


@dataclass(frozen=True, slots=True)
class Block:
    """Something to paste, what the page says comes back, and where it stands."""

    line: int
    heading: str
    script: str
    answer: str | None
    fails: bool
    """The paragraph before it says that it **fails**."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back: standard output and error together, and the first exit code that was not 0."""

    output: str
    code: int


def blocks(page: str) -> list[Block]:
    """Every `sh` block in order. A fence of another kind right after one is its answer; `yaml` ones are only shown."""
    found: list[Block] = []
    heading = paragraph = ""
    lines = iter(enumerate(page.splitlines(), 1))
    for number, line in lines:
        if line.startswith("#"):
            heading, paragraph = line.lstrip("# "), ""
        elif line.startswith("```"):
            inside = []
            for _, text in lines:
                if text == "```":
                    break
                inside.append(text)
            body = "\n".join(inside)
            if line == "```sh":
                found.append(Block(number, heading, body, None, "**fails**" in paragraph))
            elif line != "```yaml" and not paragraph and found and found[-1].answer is None:
                last = found[-1]
                found[-1] = Block(last.line, last.heading, last.script, body, last.fails)
            paragraph = ""
        elif line.strip():
            paragraph += line + "\n"
    return found


def matches(answer: str, output: str) -> bool:
    """Whether the output is what the page shows: the same but for what varies; `…` stands for anything."""
    parts = [re.escape(part.strip()) for part in _steady(answer).split("…")]
    return re.fullmatch(r"\s*" + r".*?".join(parts) + r"\s*", _steady(output), re.DOTALL) is not None


def _steady(text: str) -> str:
    for pattern, instead in _VARYING:
        text = pattern.sub(instead, text)
    return "\n".join(line.rstrip() for line in text.splitlines())


class Terminal:
    """One bash in the repository's root. Like the terminal of a reader who pastes, but stricter: pipes fail with any of their
    parts."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)

    async def __aenter__(self) -> Self:
        self._bash = await asyncio.create_subprocess_exec(
            *("bash", "--norc", "--noprofile"),
            cwd=ROOT,
            env=self._environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=1 << 22,
        )
        self._write("set -E -o pipefail\n")
        return self

    async def __aexit__(self, *error: object) -> None:
        self._bash.kill()
        await self._bash.wait()

    async def paste(self, script: str, patience: float = 30.0) -> Outcome:
        """Run it to its end. Raises TimeoutError, with what has been said so far, after `patience` seconds."""
        # Sourced from a here-document: not in a subshell, so that variables stay, and not from bash's own input, which
        # a command might read.
        self._write(
            f"code=0; trap 'status=$?; [ $code != 0 ] || code=$status' ERR\n"
            f". /dev/fd/3 3<<'THE_END_OF_THE_BLOCK' </dev/null\n{script}\nTHE_END_OF_THE_BLOCK\n"
            "trap - ERR; printf '\\nTHE_END_OF_THE_BLOCK %d\\n' $code\n"
        )
        assert self._bash.stdout is not None
        said: list[str] = []
        try:
            async with asyncio.timeout(within(patience)):
                while True:
                    line = (await self._bash.stdout.readline()).decode()
                    if not line:
                        raise AssertionError(f"bash has ended: {''.join(said)}")
                    if line.startswith("THE_END_OF_THE_BLOCK "):
                        return Outcome("".join(said).removesuffix("\n"), int(line.split()[1]))
                    said.append(line)
        except TimeoutError:
            raise TimeoutError(f"no end after {patience:g} s: {''.join(said)}") from None

    def _write(self, text: str) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(text.encode())

"""Log lines: one JSON object each, from wherever they come, and never a local variable."""

import contextlib
import errno
import io
import json
import logging as stdlib
import os
import sys
from collections.abc import Iterator

import pytest
import structlog
from tocsin_kit import logging
from tocsin_kit.errors import TocsinError
from tocsin_kit.metrics import Metrics
from tocsin_kit.rpc.validation import validate


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = stdlib.getLogger()
    handlers, level, told, output = root.handlers[:], root.level, logging._told, logging._output
    ours = structlog.get_config()  # of tests/conftest.py: structlog's own renders the local variables of every error
    yield
    logging._told, logging._output = told, output
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**ours)


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("stream", ["full", "unread", "closed"])
def test_a_line_that_cannot_be_written_is_counted_and_raises_nothing(
    capfd: pytest.CaptureFixture[str], form: str, stream: str
) -> None:
    if stream == "full":
        file = os.fdopen(os.open("/dev/full", os.O_WRONLY), "w")
    else:
        reader, writer = os.pipe()
        file = os.fdopen(writer, "w")
        os.close(reader)
    # Not by monkeypatch: it is undone after capfd, and would put the closed stream of capfd back.
    with contextlib.redirect_stdout(file):
        logging.configure(level="INFO", form=form)
    if stream == "closed":
        file.close()
    logging.get_logger("widgets").info("made")
    try:
        fail()
    except ZeroDivisionError:
        logging.get_logger("widgets").exception("failed")
    stdlib.getLogger("library").error("from outside")
    assert logging.lines_lost() == 3
    assert Metrics().registry.get_sample_value("tocsin_log_lines_lost") == 3
    assert capfd.readouterr().err == ""
    with contextlib.suppress(OSError):
        file.close()


def test_lines_that_were_lost_are_told_once_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    class Disk(io.StringIO):
        full = True

        def flush(self) -> None:
            if self.full:
                self.truncate(0)
                self.seek(0)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sys, "stdout", disk := Disk())
    logging.configure()
    for _ in range(3):
        logging.get_logger("widgets").info("made")
    disk.full = False
    for _ in range(2):
        logging.get_logger("widgets").info("made")
    told = [json.loads(line) for line in disk.getvalue().splitlines()]
    assert [(line["event"], line.get("lines")) for line in told] == [
        ("log_lines_lost", 3),
        ("made", None),
        ("made", None),
    ]


def test_a_reader_that_stands_still_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Written with a plain `write`, this would never return."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as file, os.fdopen(reader, "rb", buffering=0) as unread:
        monkeypatch.setattr(sys, "stdout", file)
        logging.configure()
        number = 0
        while not logging.lines_lost():
            logging.get_logger("widgets").info("made", number=number, text="x" * 5000)
            number += 1
        written = unread.read(1 << 20)
        logging.get_logger("widgets").info("again")
        written += unread.read(1 << 20)
    told = [parsed for line in written.decode().splitlines() if (parsed := parse(line)) is not None]
    assert [line.get("number") for line in told[:-2]] == list(range(number - 1))
    assert [(line["event"], line.get("lines")) for line in told[-2:]] == [("log_lines_lost", 1), ("again", None)]


def parse(line: str) -> dict[str, object] | None:
    """None: its end was lost."""
    try:
        parsed: dict[str, object] = json.loads(line)
    except ValueError:
        return None
    return parsed


def fail() -> None:
    password = "hunter2"
    raise ZeroDivisionError(len(password))


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_every_line_is_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    logging.configure(level="INFO", form="json")
    logging.get_logger("widgets").info("made", widget="w1")
    logging.get_logger("widgets").debug("not shown")
    stdlib.getLogger("library").warning("from %s", "outside")
    stdlib.getLogger("library").info("chatter")
    made, outside = lines(capsys)
    assert (made["event"], made["widget"], made["module"], made["level"]) == ("made", "w1", "widgets", "info")
    assert (outside["event"], outside["logger"], outside["level"]) == ("from outside", "library", "warning")
    assert {"timestamp"} <= made.keys() & outside.keys()


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "ERROR"])
def test_who_asks_before_a_line_of_each_call_learns_whether_it_is_told(
    capsys: pytest.CaptureFixture[str], level: str
) -> None:
    assert logging.tells_debug(), "until it is configured"
    logging.configure(level=level, form="json")
    logging.get_logger().debug("a call")
    assert logging.tells_debug() == bool(lines(capsys))


def test_a_call_is_in_every_line_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    logging.configure(level="INFO", form="json")
    token = logging.call_fields.set(lambda: {"org_id": "acme", "method": "s/M"})
    try:
        logging.get_logger().info("inside", method="its own")
        stdlib.getLogger("library").error("inside too")
    finally:
        logging.call_fields.reset(token)
    own, library = lines(capsys)
    assert (own["org_id"], own["method"]) == ("acme", "its own")
    assert (library["org_id"], library["method"]) == ("acme", "s/M")


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_shows_no_variables(capsys: pytest.CaptureFixture[str], form: str) -> None:
    logging.configure(level="INFO", form=form)
    try:
        fail()
    except ZeroDivisionError:
        logging.get_logger().exception("failed")
    shown = capsys.readouterr().out
    assert "ZeroDivisionError" in shown
    assert "in fail" in shown
    assert shown.count("hunter2") == shown.count('password = "hunter2"'), "source lines, not values"


def test_a_batch_item_is_reported_with_its_place(echo: object) -> None:
    item = echo.Request(items=[{"name": ""}])  # type: ignore[attr-defined]
    with pytest.raises(TocsinError) as caught:
        validate(item, "things[3]")
    assert [violation.field for violation in caught.value.fields] == ["things[3].items[0].name"]


@pytest.mark.parametrize(
    "odd", ["\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "a\rb", "a\nforged=line", "\u202eb", "\x7f", "\0"]
)
def test_nothing_that_a_terminal_obeys_reaches_a_console_log(odd: str, capsys: pytest.CaptureFixture[str]) -> None:
    logging.configure(level="INFO", form="console")
    log = logging.get_logger("widgets")
    log.info("made", title=odd, inside=[odd], table={odd: odd})
    log.info(odd)
    stdlib.getLogger("library").warning("from %s", odd)
    try:
        raise ValueError(odd)
    except ValueError:
        log.exception("failed")
    out = capsys.readouterr().out
    assert odd not in out.replace("\n  ", " ")
    assert "ValueError" in out
    assert not any(line.startswith("forged") for line in out.splitlines())

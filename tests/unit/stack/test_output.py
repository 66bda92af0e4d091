"""Where a child's lines go."""

import io
import os
from pathlib import Path

import pytest
from tocsin_stack import output
from tocsin_stack.output import Output, Terminal


def pumped(data: bytes, target: Output) -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "wb") as pipe:
        pipe.write(data)
    target.pump(os.fdopen(read_end, "rb"))


def test_the_terminal_gets_whole_lines_behind_their_writers_name(tmp_path: Path) -> None:
    stream = io.StringIO()
    pumped(b"one\r\ntwo \xff\n", Output("ingest", tmp_path, Terminal(stream, width=8)))
    assert stream.getvalue() == "ingest   | one\ningest   | two \ufffd\n"


def test_logs_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_MAX_LOG_BYTES", 1000)
    target = Output("ingest", tmp_path)
    pumped(b"".join(b"line %05d\n" % number for number in range(1000)), target)
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) <= {"ingest.log", "ingest.log.1"}
    assert sum(sizes.values()) <= 2100
    assert "line 00999" in target.tail()


def test_an_endless_line_is_broken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_MAX_LINE_BYTES", 10_000)
    pumped(b"x" * 60_000, Output("ingest", tmp_path))
    lines = (tmp_path / "ingest.log").read_bytes().splitlines()
    assert [len(line) for line in lines] == [10_000] * 6


def test_a_closed_terminal_does_not_stop_the_pump(tmp_path: Path) -> None:
    stream = io.StringIO()
    target = Output("ingest", tmp_path, Terminal(stream))
    stream.close()
    pumped(b"one\ntwo\n", target)
    assert (tmp_path / "ingest.log").read_text() == "one\ntwo\n"


def test_a_full_disk_does_not_stop_the_pump(tmp_path: Path) -> None:
    """Its child would stand still at the next line that the pipe has no room for."""
    target = Output("ingest", tmp_path)
    target.path.symlink_to("/dev/full")
    pumped(b"one\ntwo\n", target)
    assert target.tail() == "  | one\n  | two"
    target.path.unlink()
    pumped(b"three\nfour\n", target)
    assert target.path.read_text() == "[2 lines before this one could not be written]\nthree\nfour\n"


def test_logs_are_for_the_account_that_runs_the_stack_alone(tmp_path: Path) -> None:
    target = Output("ingest", tmp_path / "logs")
    target.say("started")
    assert target.path.stat().st_mode & 0o777 == 0o600
    assert target.path.parent.stat().st_mode & 0o777 == 0o700

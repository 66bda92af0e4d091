"""tools/containers.py: what it finds, what it cannot look at, and the secrets it makes."""

import re
import shutil
import stat
import sys
from pathlib import Path

import pytest
from tocsin_kit.auth import SigningKeys
from tocsin_stack.service import SERVICES

from tests.contract.containers.support import ROOT, containers

PROJECT = (".env.example", "docker-compose.yml", "docker", *(f"services/{spec.name}" for spec in SERVICES))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what the tool looks at, to break."""
    for name in PROJECT:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "tocsin_*"))
        else:
            (tmp_path / name).write_text((ROOT / name).read_text())
    return tmp_path


def test_the_real_tools_are_content(capsys: pytest.CaptureFixture[str]) -> None:
    assert containers.check() == 0, capsys.readouterr().err
    assert "NOT CHECKED" in (said := capsys.readouterr().out) or said.count(" ok\n") == 2


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        ("docker/Dockerfile", "USER 10001:10001", "RUN sudo true", "DL3004"),
        ("docker/Dockerfile", 'CMD ["serve"]', "CMD serve", "DL3025"),
        ("docker-compose.yml", "migrate-notify: {condition:", "migrate-notfy: {condition:", "migrate-notfy"),
        ("docker-compose.yml", "service_healthy", "service_heathly", ".condition value must be"),
        ("docker-compose.yml", "NOTIFY_SECRET_KEY:?", "NOTIFY_SECRET_KEY:-", "starts without NOTIFY_SECRET_KEY"),
        ("docker-compose.yml", "LOG_FORMAT: json", "LOG_FORMAT: ${LOG_FROMAT}", "LOG_FROMAT"),
        ("docker-compose.yml", "read_only: true", "readonly: true", "readonly"),
        (".env.example", "VALKEY_PASSWORD=\n", "", "VALKEY_PASSWORD"),
    ],
)
def test_what_is_wrong_is_named(
    project: Path, capsys: pytest.CaptureFixture[str], file: str, old: str, new: str, complaint: str
) -> None:
    text = (project / file).read_text()
    assert old in text
    (project / file).write_text(text.replace(old, new))
    code = containers.check(project)
    said = capsys.readouterr()
    if "NOT CHECKED" in said.out:
        pytest.skip(said.out)
    assert code == 1
    assert complaint in said.err


def test_a_service_without_an_image_is_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = project / "docker/Dockerfile"
    path.write_text(path.read_text().replace("FROM service AS ingest", "FROM service AS ingst"))
    containers.check(project)
    said = capsys.readouterr()
    if "docker/Dockerfile NOT CHECKED" in said.out:
        pytest.skip(said.out)
    assert "docker/Dockerfile has no target ingest" in said.err


@pytest.mark.parametrize("broken", ["absent", "of another machine"])
def test_a_missing_tool_is_said_and_fails_nothing(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if broken == "of another machine":
        for name in ("hadolint", "docker-compose"):
            (tmp_path / name).write_bytes(b"\xfe\xed\xfa\xcf")
            (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert containers.check() == 0
    said = capsys.readouterr().out
    assert "docker/Dockerfile NOT CHECKED" in said
    assert "docker-compose.yml NOT CHECKED" in said


def test_secrets_are_fresh_private_and_never_replaced(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert containers.make_secrets(project) == 0
    made = project / ".env"
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    values = dict(line.split("=", 1) for line in made.read_text().splitlines() if re.match("[A-Z]", line))
    assert len(set(values.values())) == len(values) == 7
    assert all(len(value) >= 43 for value in values.values())
    SigningKeys.parse(values["AUTH_SIGNING_KEYS"])
    assert containers.make_secrets(project) == 1
    assert "exists already" in capsys.readouterr().err
    assert values["VALKEY_PASSWORD"] in made.read_text()


def test_images_are_pinned_by_digest_and_all_else_stays(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry's part is played by a program that knows the digest of any image."""
    docker = project / "docker-here"
    docker.write_text('#!/bin/sh\n[ "$1" = pull ] || echo "${5%:*}@sha256:0123"\n')
    docker.chmod(0o755)
    monkeypatch.setattr(containers, "tool", lambda name: str(docker))
    assert containers.make_secrets(project) == 0
    before = (project / ".env").read_text().splitlines()
    assert containers.pin(project) == 0
    after = (project / ".env").read_text().splitlines()
    assert [new for old, new in zip(before, after, strict=True) if old != new] == [
        "BASE_IMAGE=python@sha256:0123",
        "POSTGRES_IMAGE=postgres@sha256:0123",
        "VALKEY_IMAGE=valkey/valkey@sha256:0123",
    ]
    assert containers.pin(project) == 0, "what is pinned stays so"
    assert (project / ".env").read_text().splitlines() == after


def test_an_image_that_cannot_be_pulled_changes_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "tool", lambda name: "false")
    assert containers.make_secrets(project) == 0
    before = (project / ".env").read_text()
    assert containers.pin(project) == 1
    assert (project / ".env").read_text() == before

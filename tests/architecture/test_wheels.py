"""What a member's wheel holds: everything that its packages read, and the migrations of a service within it."""

import tomllib
from pathlib import Path

import pytest
from tocsin_kit.db.migrations import folder_of, head_of

from tests.contract.tools import ROOT, load

WHEELS = load("wheels")
MEMBERS = [
    path.parent for path in sorted([*ROOT.glob("libs/*/pyproject.toml"), *ROOT.glob("services/*/pyproject.toml")])
]


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
def test_a_wheel_holds_every_file_of_its_packages(member: Path, tmp_path: Path) -> None:
    copy = WHEELS.stage(member, tmp_path)
    declared = tomllib.loads((copy / "pyproject.toml").read_text())["tool"]["setuptools"].get("package-data", {})
    packages = [path for path in copy.iterdir() if path.is_dir() and path.name.startswith(("tocsin", "buf"))]
    held = {
        file
        for name, patterns in declared.items()
        for package in ([copy / name] if name != "*" else [path for path in copy.rglob("*") if path.is_dir()])
        for pattern in patterns
        for file in package.glob(pattern)
    }
    assert {file for package in packages for file in package.rglob("*.*") if file.suffix != ".py"} - held == set()


def test_the_wheels_are_those_of_all_members() -> None:
    [line] = [line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("PATHS := ")]
    assert {ROOT / path for path in line.removeprefix("PATHS := ").split()} == set(MEMBERS)


def test_migrations_are_within_the_package_in_a_wheel_and_beside_it_in_a_checkout(tmp_path: Path) -> None:
    member = ROOT / "services" / "notify"
    package = WHEELS.stage(member, tmp_path) / "tocsin_notify"
    assert folder_of(str(package / "__main__.py")) == package / "migrations"
    assert folder_of(str(member / "tocsin_notify" / "__main__.py")) == member / "migrations"
    assert head_of(package / "migrations") == head_of(member / "migrations")

"""Checks on the table of pages are added without reading it under an exclusive lock, and validated in a later transaction."""

import importlib.util
import re
from pathlib import Path
from typing import Any

VERSIONS = Path(__file__).parents[3] / "services" / "notify" / "migrations" / "versions"


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, VERSIONS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_checks_of_pages_are_validated_after_the_migration_that_adds_them() -> None:
    added = re.findall(r"ADD CONSTRAINT (\w+) CHECK[^;]*?(NOT VALID)?(?=[;,]\s*DROP|;|$)", load("0012_messages").CHECKS)
    assert {name for name, _ in added} == {"pages_type", "pages_incident"}
    assert all(is_deferred for _, is_deferred in added), "the table is read under ACCESS EXCLUSIVE"
    validated = re.findall(r"VALIDATE CONSTRAINT (\w+)", load("0015_validate_pages").SCRIPT)
    assert sorted(validated) == sorted(name for name, _ in added)

"""The two lock files: hashes of everything, no host, and nothing in an image that only tests need."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DEVELOPMENT_ONLY = {"pytest", "ruff", "mypy", "hypothesis", "taskiq-redis"}


def locked(name: str) -> dict[str, str]:
    """What is locked, by name, with the text of its entry."""
    entries = re.split(r"^(?=[a-z0-9])", (ROOT / name).read_text(), flags=re.MULTILINE)
    return {re.split(r"[=\[ ]", entry, maxsplit=1)[0]: entry for entry in entries if entry}


@pytest.mark.parametrize("name", ["requirements.lock", "requirements.runtime.lock"])
def test_a_lock_has_a_hash_for_every_package_and_names_no_host(name: str) -> None:
    assert "://" not in (ROOT / name).read_text()
    assert {package for package, entry in locked(name).items() if "--hash=sha256:" not in entry} == set()


def test_what_only_tests_need_is_locked_and_enters_no_image() -> None:
    everything, runtime = locked("requirements.lock"), locked("requirements.runtime.lock")
    assert everything.keys() >= DEVELOPMENT_ONLY
    assert DEVELOPMENT_ONLY & runtime.keys() == set()
    assert {package for package, entry in runtime.items() if everything.get(package) != entry} == set()

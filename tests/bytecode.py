"""Compiled modules are kept between runs, and the workers of a first run share the work of compiling.

pytest rewrites each `assert` of a test's module and compiles the result: half of the collection's processor time. Where
Python is told to write no compiled modules, as in many containers, every worker would do that anew at every run.

A plugin (`-p` in pyproject.toml), so that it is loaded before the first module that is rewritten.
"""

import contextlib
import importlib
import os
import sys
from pathlib import Path

import pytest

sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # for the workers, the services and everything else that is started


def import_in_turn(config: pytest.Config) -> None:
    """Import the tests that a worker of pytest-xdist is about to collect, each worker from another place on.

    All workers collect everything, and at the same time. In one order all would compile the same module at the same moment.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    folders = [path for path in (config.invocation_params.dir / each for each in config.args) if path.is_dir()]
    files = sorted(file for folder in folders for file in folder.rglob("test_*.py"))
    if not worker.isdecimal() or not files:
        return
    first = len(files) * int(worker) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    for file in (*files[first:], *files[:first]):
        # A module that cannot be imported, or that skips itself, is the collection's to report.
        with contextlib.suppress(Exception, pytest.skip.Exception):
            importlib.import_module(_name(file.relative_to(config.rootpath)))


def _name(file: Path) -> str:
    return ".".join(file.with_suffix("").parts)

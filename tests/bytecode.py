"""Compiled modules are kept between runs, and the workers of a first run share the work of compiling.

pytest rewrites each `assert` of a test's module and compiles the result: half of the collection's processor time. Where
Python is told to write no compiled modules, as in many containers, every worker would do that anew at every run.

A plugin (`-p` in pyproject.toml), so that it is loaded before the first module that is rewritten.
"""

import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from _pytest.assertion.rewrite import PYC_TAIL

sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # for the workers, the services and everything else that is started
gc.disable()  # until the tests are collected (tests/conftest.py): modules are no garbage, and there are many


def import_tests(config: pytest.Config) -> None:
    """Import the tests that the workers of pytest-xdist are about to collect.

    Two processes share the work of compiling what was not compiled before.
    """
    paths = [config.invocation_params.dir / each.partition("::")[0] for each in config.args]
    files = [file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
    tests = [file for file in files if file.name.startswith("test_") or file.name == "conftest.py"]
    if tests and not _is_compiled(tests[-1]) and os.fork() == 0:
        _import(config, tests[: len(tests) // 2 : -1])
        os._exit(0)
    _import(config, tests)


def _import(config: pytest.Config, files: Sequence[Path]) -> None:
    for file in files:
        # A module that cannot be imported, or that skips itself, is the collection's to report.
        with contextlib.suppress(Exception, pytest.skip.Exception):
            importlib.import_module(".".join(file.relative_to(config.rootpath).with_suffix("").parts))


def _is_compiled(file: Path) -> bool:
    return (file.parent / "__pycache__" / f"{file.stem}{PYC_TAIL}").exists()

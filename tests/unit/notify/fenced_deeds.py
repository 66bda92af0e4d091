"""Builds the fence of Apprise's process in this one, tries deeds, and says which of them were done."""

import asyncio
import ctypes
import json
import mmap
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import syslog
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tocsin_notify.channels.apprise_fence import Fence

HERE: Final = Path(__file__)


def _socket_to(family: int, address: Any) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.settimeout(0.1)
        one.connect(address)


def _datagram_to(address: Any, way: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"x", address) if way == "sendto" else one.sendmsg([b"x"], [], 0, address)


def _thread() -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()


FORBIDDEN: Final[dict[str, Callable[[], object]]] = {
    "run a program": lambda: subprocess.run(["/bin/true"], check=False),
    "run a shell": lambda: os.system("true"),
    "become a program": lambda: os.execv("/bin/true", ["true"]),
    "spawn a program": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "fork": os.fork,
    "end a process": lambda: os.kill(os.getppid(), signal.SIGCONT),
    "write a file": lambda: HERE.with_name("written").write_text("x"),
    "append to a file of its own": lambda: HERE.open("ab"),
    "make a file by the system": lambda: os.open("/tmp/written", os.O_WRONLY | os.O_CREAT),
    "make a temporary file": tempfile.mkstemp,
    "make a folder": lambda: os.mkdir("/tmp/made-by-a-plugin"),
    "remove a file": lambda: os.remove("/tmp/nothing"),
    "rename a file": lambda: os.rename("/tmp/nothing", "/tmp/nothing2"),
    "copy a file": lambda: shutil.copyfile(__file__, "/tmp/copied"),
    "read a file of the system": lambda: Path("/etc/passwd").read_text(),
    "read another's environment": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
    "read beside its code": lambda: (Path(os.__file__).parent / "../../../../../../../etc/passwd").read_text(),
    "read a pipe by its number": lambda: os.fdopen(0, closefd=False),
    "change its environment": lambda: os.putenv("HTTP_PROXY", "http://proxy"),
    "load a library": lambda: ctypes.CDLL("libc.so.6"),
    "find a symbol": lambda: ctypes.pythonapi.Py_DecRef,
    "open a database": lambda: sqlite3.connect(":memory:"),
    "map memory": lambda: mmap.mmap(-1, 16),
    "write to the system's log": lambda: syslog.syslog("x"),
    "connect to D-Bus": lambda: _socket_to(socket.AF_UNIX, "/run/dbus/system_bus_socket"),
    "connect to a private address": lambda: _socket_to(socket.AF_INET, ("127.0.0.1", 9)),
    "connect to a private address of IPv6": lambda: _socket_to(socket.AF_INET6, ("::1", 9, 0, 0)),
    "connect to one that hides another": lambda: _socket_to(socket.AF_INET6, ("::ffff:10.0.0.1", 9)),
    "connect to a name": lambda: _socket_to(socket.AF_INET, ("localhost", 9)),
    "connect to a number of another form": lambda: _socket_to(socket.AF_INET, ("127.1", 9)),
    "connect to this host": lambda: _socket_to(socket.AF_INET, ("", 9)),
    "send a datagram inside": lambda: _datagram_to(("10.0.0.1", 9), "sendto"),
    "send a message inside": lambda: _datagram_to(("10.0.0.1", 9), "sendmsg"),
    "listen": lambda: socket.create_server(("127.0.0.1", 0)),
    "see the packets": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW),
    "ask the kernel": lambda: socket.socket(16, socket.SOCK_DGRAM),
    "forget the fence": lambda: sys.addaudithook(lambda *_: None),
}
ALLOWED: Final[dict[str, Callable[[], object]]] = {
    "read its code": HERE.read_text,
    "load a module": lambda: __import__("wave"),
    "look for a name": lambda: socket.getaddrinfo("localhost", 80),
    "run an event loop": lambda: asyncio.run(asyncio.sleep(0)),
    "start a thread": _thread,
    "make a socket": lambda: socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close(),
}


def main() -> None:
    told: list[str] = []
    asked: list[bool] = []

    def ask() -> bool:
        asked.append(True)
        return False

    Fence(allow_private=False, ask=ask, tell=told.append).build()
    done: dict[str, list[str]] = {"forbidden": [], "allowed": []}
    for kind, deeds in (("forbidden", FORBIDDEN), ("allowed", ALLOWED)):
        for name, deed in deeds.items():
            before = len(told)
            try:
                deed()
            except Exception:
                pass
            if len(told) == before:
                done[kind].append(name)
    told.clear()
    try:
        _socket_to(socket.AF_INET, ("192.0.43.8", 80))  # public, but the page is not wanted any more
    except PermissionError:
        pass
    else:
        done["forbidden"].append("connect although nobody wants the page")
    json.dump(done | {"asked": len(asked)}, sys.stdout)


if __name__ == "__main__":
    main()

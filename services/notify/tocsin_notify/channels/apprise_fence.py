"""Limits the process that runs Apprise: it may read its own code, resolve names, and connect to allowed addresses.

Apprise has some 150 plugins, and a URL of it chooses among what they can do: call any host, follow redirects, read key
files and templates, talk to D-Bus. So its process has an audit hook (PEP 578), which Python cannot take away again. It
refuses everything that is not on a list of harmless events, including events that a later version of Apprise begins to
raise.

An audit hook restricts code that is not hostile, such as Apprise; it does not contain hostile machine code.
"""

import os
import socket
import sys
from collections.abc import Callable
from typing import Any, Final

from tocsin_kit.public_addresses import is_public, literal

_HARMLESS: Final = frozenset(
    {
        "_thread.start_joinable_thread",
        "_thread.start_new_thread",
        "array.__new__",
        "builtins.id",
        "code.__new__",
        "compile",
        "exec",  # of modules: no URL contains code that is compiled
        "function.__new__",
        "glob.glob",
        "glob.glob/2",
        "http.client.connect",
        "http.client.send",
        "import",
        "marshal.dumps",
        "marshal.load",
        "marshal.loads",
        "object.__delattr__",
        "object.__getattr__",
        "object.__setattr__",
        "os.listdir",
        "os.scandir",
        "pathlib.Path.glob",
        "pathlib.Path.rglob",
        "setopts",
        "smtplib.connect",
        "smtplib.send",
        "socket.getaddrinfo",
        "socket.gethostbyaddr",
        "socket.gethostbyname",
        "socket.gethostname",
        "socket.getnameinfo",
        "sys._current_frames",
        "sys._getframe",
        "sys._getframemodulename",
        "sys.excepthook",
        "sys.set_asyncgen_hook_finalizer",
        "sys.set_asyncgen_hook_firstiter",
        "sys.set_asyncgen_hooks_finalizer",
        "sys.set_asyncgen_hooks_firstiter",
        "sys.unraisablehook",
        "time.sleep",
        "urllib.Request",
    }
)
"""Of docs.python.org/3/library/audit_events.html. What these lead to, such as a connection, raises an event of its own."""
_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FAMILIES: Final = frozenset({socket.AF_INET, socket.AF_INET6, socket.AF_UNIX})
"""A Unix socket only as one of a pair, which event loops need: an address of one is refused."""
_TYPES: Final = frozenset({socket.SOCK_STREAM, socket.SOCK_DGRAM})
_TYPE_BITS: Final = 0xF
_PROBE: Final = ("::1", 0)
"""urllib3 finds out by binding to it whether there is IPv6 at all."""


class Fenced(PermissionError):
    """The event was refused."""


class Fence:
    """The restrictions of this process, from `build` on until it ends."""

    def __init__(self, *, allow_private: bool, ask: Callable[[], bool], tell: Callable[[str], None]) -> None:
        """`ask`: whether the page may still go out, each time before something is sent to an address. `tell`: what was refused."""
        self._allow_private = allow_private
        self._ask = ask
        self._tell = tell
        self._roots = tuple(os.path.realpath(path) + os.sep for path in sys.path if path)

    def build(self) -> None:
        """It cannot be undone."""
        sys.addaudithook(self._hook)

    def leads_astray(self, host: str) -> bool:
        """Whether it is literally an address that may not be called."""
        address = literal(host)
        return address is not None and not (self._allow_private or is_public(address))

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if event in _HARMLESS or self._may(event, args):
            return
        self._tell(event)
        raise Fenced(f"{event} is not allowed to plugins")

    def _may(self, event: str, args: tuple[Any, ...]) -> bool:
        match event:
            case "open":
                return self._may_open(*args)
            case "socket.__new__":
                return args[1] in _FAMILIES and args[2] & _TYPE_BITS in _TYPES
            case "socket.bind":
                return bool(args[1] == _PROBE)
            case "socket.connect" | "socket.sendto":
                return self._may_call(args[1])
            case "socket.sendmsg":
                return args[1] is None or self._may_call(args[1])
        return False

    def _may_open(self, path: object, mode: object, flags: int) -> bool:
        """Only for reading, and only where code is stored: no key file or template that a URL names."""
        if flags & _WRITES or not isinstance(path, str | bytes):
            return False
        return os.path.realpath(os.fsdecode(path)).startswith(self._roots)

    def _may_call(self, address: object) -> bool:
        """Names are refused: the library would resolve them again, perhaps to another address than the one that was
        checked."""
        if not isinstance(address, tuple) or not address or not isinstance(address[0], str):
            return False
        found = literal(address[0])
        return found is not None and (self._allow_private or is_public(found)) and self._ask()

"""The process in which Apprise runs. It has no connection, no environment and no file of the service's.

One JSON object a line. It reads `{"do": "check", "url"}`, `{"do": "send", "url", "title", "body", "type"}`, and answers
`{"done"}` with one of `Done`. Before it connects anywhere it says `{"ask": true}` and reads `{"go"}`. Its answers
contain no text of Apprise, which may hold addresses and secrets.
"""

import ctypes
import json
import logging
import mimetypes
import os
import queue
import resource
import sys
import threading
from importlib import import_module
from typing import Any, BinaryIO, Final

from tocsin_notify.channels.apprise_fence import Fence
from tocsin_notify.channels.apprise_words import Done

_MEMORY_BYTES: Final = 1 << 30
_FILES: Final = 64
_FENCED: Final = 16
"""Refused events that are reported for one message. A plugin in a loop would only repeat them."""


class Worker:
    """Serves one message after the other until its pipe ends."""

    def __init__(self, said: BinaryIO, *, schemes: list[str], allow_private: bool) -> None:
        """`said`: where it answers."""
        self._said = said
        self._schemes = schemes
        self._read: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._refused = False
        self._events: list[str] = []
        self._fence = Fence(allow_private=allow_private, ask=self._ask, tell=self._fenced)
        self._writing = threading.Lock()

    def run(self, given: BinaryIO) -> None:
        """Returns never: the end of the pipe ends the process, also while a plugin hangs."""
        threading.Thread(target=self._listen, args=(given,), daemon=True).start()
        _load_first()
        _confine()
        self._fence.build()
        plugins = _Plugins(self._schemes)
        self._say({"ready": True, "unknown": plugins.unknown})
        while True:
            wanted = self._read.get()
            self._refused, self._events = False, []
            done = self._check(plugins, wanted) if wanted["do"] == "check" else self._send(plugins, wanted)
            self._say({"done": done, "fenced": self._events})

    def _check(self, plugins: "_Plugins", wanted: dict[str, Any]) -> Done:
        plugin = plugins.read(wanted["url"])
        if plugin is None:
            return Done.UNREADABLE
        return Done.PRIVATE if self._fence.leads_astray(str(getattr(plugin, "host", None) or "")) else Done.YES

    def _send(self, plugins: "_Plugins", wanted: dict[str, Any]) -> Done:
        plugin = plugins.read(wanted["url"])
        if plugin is None:
            return Done.UNREADABLE
        try:
            sent = plugin.notify(
                body=wanted["body"], title=wanted["title"], notify_type=wanted["type"], body_format="text"
            )
        except Exception:
            sent = False
        return Done.YES if sent and not self._refused else Done.NO

    def _ask(self) -> bool:
        """The service is asked each time, because the page may have been stopped meanwhile."""
        if not self._refused:
            self._say({"ask": True})
            self._refused = not self._read.get()["go"]
        return not self._refused

    def _fenced(self, event: str) -> None:
        if len(self._events) < _FENCED and not self._refused:
            self._events.append(event)

    def _say(self, words: dict[str, Any]) -> None:
        with self._writing:
            self._said.write(json.dumps(words).encode() + b"\n")
            self._said.flush()

    def _listen(self, given: BinaryIO) -> None:
        for line in given:
            self._read.put(json.loads(line))
        os._exit(0)


class _Plugins:
    """Apprise, with the allowed schemes and no other."""

    def __init__(self, schemes: list[str]) -> None:
        # None of it is loaded before the fence is in place.
        apprise: Any = import_module("apprise")
        manager: Any = import_module("apprise.manager_plugins").NotificationManager()
        logging.disable(logging.CRITICAL)  # its log lines contain addresses
        self._read = apprise.Apprise.instantiate
        self._asset = apprise.AppriseAsset(
            app_id="Tocsin",
            app_desc="Tocsin",
            app_url="",
            async_mode=False,
            http_redirects=False,
            pem_autogen=False,
            pgp_autogen=False,
        )
        self.unknown = sorted(set(schemes) - set(manager.schemas()))
        manager.enable_only(*(scheme for scheme in schemes if scheme not in self.unknown))

    def read(self, url: str) -> Any:
        """The plugin for a URL; None: Apprise cannot read it."""
        try:
            return self._read(url, asset=self._asset)
        except Exception:
            return None


def _load_first() -> None:
    """Parts of the standard library that Apprise uses and the fence would refuse: they open this program, and files of
    the system."""
    assert ctypes
    mimetypes.init()


def _confine() -> None:
    """Restrictions that also hold for code that raises no audit events."""
    for kind, most in ((resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, _FILES)):
        resource.setrlimit(kind, (most, most))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


def main() -> None:
    """`apprise_worker SCHEME,… 0|1`: the allowed schemes, and whether private addresses may be called."""
    schemes, allow_private = sys.argv[1].split(","), sys.argv[2] == "1"
    said = os.fdopen(os.dup(1), "wb")
    given = os.fdopen(os.dup(0), "rb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # output of a plugin must not be read as an answer
        os.dup2(nowhere, stream)
    Worker(said, schemes=schemes, allow_private=allow_private).run(given)


if __name__ == "__main__":
    main()

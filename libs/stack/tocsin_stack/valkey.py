"""A real Valkey server as a child of this process."""

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path

from tocsin_stack import binaries, secret
from tocsin_stack.lock import FolderLock
from tocsin_stack.output import Output, Terminal
from tocsin_stack.ports import HOST, free_port
from tocsin_stack.process import Child


class Valkey:
    """One server on the loopback interface, with a password, data under `data_dir`.

    `port` None takes a free one and keeps it over restarts of this object. Without `appendonly` nothing is kept over a
    restart. `extra` are further command-line settings, e.g. `("--maxmemory", "64mb")`. `program` None is the embedded
    server; any Valkey or Redis server of 6.2 or newer may stand for it.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        *,
        appendonly: bool = True,
        extra: Sequence[str] = (),
        program: Path | None = None,
        log_dir: Path | None = None,
        terminal: Terminal | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port or free_port()
        self.password = ""
        self._appendonly = appendonly
        self._extra = tuple(extra)
        self._lock = FolderLock(self.data_dir, "launcher")
        self._output = Output("valkey", log_dir or self.data_dir, terminal)
        self.process = Child([str(program or binaries.valkey()), *self._arguments()], self._output)

    @property
    def url(self) -> str:
        """`redis://…/0`, password included."""
        return f"redis://:{self.password}@{HOST}:{self.port}/0"

    async def start(self) -> None:
        """Return when PING answers.

        Raises:
            StackError: the folder is in use, or the server ended; with its last lines.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.password = secret.kept(self.data_dir / "password")
        await self._lock.acquire()
        try:
            # By standard input: a password on the command line is for every local user to read.
            self.process.start(stdin=f"requirepass {self.password}\n".encode(), pass_fds=(self._lock.fd,))
            self._lock.note_server(self.process.pid)
            await self.process.ready(self._pings, limit=30)
        except BaseException:
            self.kill()
            raise

    async def stop(self) -> None:
        """End it in good order; what it acknowledged is on disk (with `appendonly`)."""
        await self.process.stop()
        self._lock.release()

    def kill(self) -> None:
        """SIGKILL; up to a second of acknowledged writes may be lost (appendfsync everysec)."""
        self.process.kill()
        self._lock.release()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def _arguments(self) -> list[str]:
        settings = {
            "port": str(self.port),
            "bind": HOST,
            "dir": str(self.data_dir),
            "appendonly": "yes" if self._appendonly else "no",
            "appendfsync": "everysec",
            "save": "",
            "loglevel": "warning",
        }
        return [word for key, value in settings.items() for word in (f"--{key}", value)] + [*self._extra, "-"]

    async def _pings(self) -> bool:
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(HOST, self.port), 1)
        except OSError:
            return False
        try:
            writer.write(f"AUTH {self.password}\r\nPING\r\n".encode())
            answers = [await asyncio.wait_for(reader.readline(), 1) for _ in range(2)]
        except OSError:
            return False
        finally:
            writer.close()
        return answers == [b"+OK\r\n", b"+PONG\r\n"]

"""The parameters of one of several processes, from its parent."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChildProcess:
    """`admin`: the descriptor of a listening socket, where the parent asks for health and metrics. `lifeline`: that of a pipe that
    ends with the parent."""

    number: int
    admin: int
    lifeline: int

    @classmethod
    def parse(cls, text: str) -> "ChildProcess":
        """What `__str__` wrote."""
        return cls(*map(int, text.split(",")))

    def __str__(self) -> str:
        return f"{self.number},{self.admin},{self.lifeline}"

    def admin_socket(self) -> socket.socket:
        """The listening socket, which is the caller's from now on."""
        return socket.socket(fileno=self.admin)

    def when_orphaned(self, call: Callable[[], object]) -> None:
        """Calls `call` when the parent has ended, also after a crash."""
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(self.lifeline)
            call()

        loop.add_reader(self.lifeline, ended)

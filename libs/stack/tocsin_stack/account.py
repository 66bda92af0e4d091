"""Which account PostgreSQL runs as: its programs refuse to run as root.

Ways, in the order they are tried: as we are (not root); as `postgres` or `nobody`; inside a user namespace in which
root looks like `nobody` (no change of owner, so it also works below folders only root may enter). The way is chosen
once per data folder and kept in a file beside the data, because another way would not own the files.
"""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tocsin_stack.errors import StackError

_NAMESPACE: Final = ("unshare", "--user", "--map-user=65534", "--map-group=65534", "--")


@dataclass(frozen=True, slots=True)
class Account:
    """A way to run a program: `uid` None means without changing the user."""

    name: str
    uid: int | None = None
    gid: int | None = None
    prefix: tuple[str, ...] = ()

    @classmethod
    def own(cls) -> Self:
        """As we are."""
        return cls("self")

    @classmethod
    def of(cls, user: str) -> Self | None:
        """As the named user, if there is one."""
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            return None
        return cls(f"user {user}", entry.pw_uid, entry.pw_gid)

    @classmethod
    def namespace(cls) -> Self:
        """As ourselves outside, as nobody inside a user namespace."""
        return cls("namespace", prefix=_NAMESPACE)

    @property
    def working_directory(self) -> str | None:
        """Not ours: if the account may not enter it, PostgreSQL complains at every start."""
        return None if self.uid is None else "/"

    def give(self, path: Path) -> None:
        """Make the account the owner of a file or folder."""
        if self.uid is not None:
            os.chown(path, self.uid, self.gid or -1)

    def pipe_with(self, data: bytes) -> int:
        """The read end of a pipe that holds `data` and which the account may open again as /dev/stdin."""
        read_end, write_end = os.pipe()
        with os.fdopen(write_end, "wb") as pipe:
            pipe.write(data)
        if self.uid is not None:
            os.fchown(read_end, self.uid, self.gid or -1)
        return read_end


def choose(memory: Path, probe: Path, folder: Path) -> Account:
    """The account for `folder`, which is given to it; the choice is remembered in the file `memory`.

    `probe` is a program that must run under it when called with --version.

    Raises:
        StackError: no way works, or the remembered one does not any more.
    """
    if memory.exists():
        name = memory.read_text().strip()
        account = next((account for account in _ways() if account.name == name), None)
        if account is None:
            raise StackError(
                f"{folder} was made by another account (way: {name}); start as that account again, or remove the folder"
            )
        if (reason := _refusal(account, probe, folder)) is not None:
            raise StackError(f"PostgreSQL cannot run as before (way: {name}): {reason}")
        return account
    reasons = []
    for account in _ways():
        if (reason := _refusal(account, probe, folder)) is None:
            memory.write_text(account.name + "\n")
            return account
        reasons.append(f"  {account.name}: {reason}")
    raise StackError("PostgreSQL refuses to run as root, and no other way works:\n" + "\n".join(reasons))


def _ways() -> list[Account]:
    if os.geteuid() != 0:
        return [Account.own()]
    users = (Account.of("postgres"), Account.of("nobody"))
    return [*(user for user in users if user), *([Account.namespace()] if shutil.which("unshare") else [])]


def _refusal(account: Account, probe: Path, folder: Path) -> str | None:
    """Why the account cannot run the program and write to the folder, or None."""
    account.give(folder)
    script = 'test -w "$1" && "$2" --version >/dev/null || { echo "cannot run $2 or cannot write to $1"; exit 1; }'
    try:
        done = subprocess.run(
            [*account.prefix, "/bin/sh", "-c", script, "sh", str(folder), str(probe)],
            user=account.uid,
            group=account.gid,
            extra_groups=None if account.uid is None else [],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    if account.uid is not None:
        os.chown(folder, os.geteuid(), os.getegid())
    return (done.stdout + done.stderr).strip() or f"exit code {done.returncode}"

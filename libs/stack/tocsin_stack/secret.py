"""Passwords and keys that are generated once and kept in files only their owner can read."""

import base64
import os
import secrets
from collections.abc import Callable
from pathlib import Path


def password() -> str:
    """32 random bytes in letters that need no quoting in a URL, a command or a statement."""
    return secrets.token_urlsafe(32)


def signing_key() -> str:
    """`k1:` and 32 random bytes in base64url: what the services take as AUTH_SIGNING_KEYS."""
    return "k1:" + base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def kept(path: Path, make: Callable[[], str] = password) -> str:
    """The secret in the file; at first use a new one, in a new file of mode 0600."""
    if path.exists():
        return path.read_text().strip()
    value = make()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Written aside and renamed: a crash in between must not leave an empty secret behind.
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(value + "\n")
    draft.replace(path)
    return value

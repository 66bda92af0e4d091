"""Passwords and keys that are generated once and kept in files only their owner can read."""

import os
import secrets
from pathlib import Path


def kept(path: Path) -> str:
    """The secret in the file; at first use 32 random bytes, base64url without padding, in a new file of mode 0600."""
    if path.exists():
        return path.read_text().strip()
    secret = secrets.token_urlsafe(32)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Written aside and renamed: a crash in between must not leave an empty password behind.
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret + "\n")
    draft.replace(path)
    return secret

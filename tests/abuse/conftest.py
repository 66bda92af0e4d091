"""The kit's small service of every kind of call, for attacks on it."""

from tests.unit.kit.conftest import echo, serve, settings, token

__all__ = ["echo", "serve", "settings", "token"]

"""Who did something, as stored rows and events name it."""

from typing import Final

INGEST: Final = "services/ingest"
"""This service, of its own accord: not a sender, and no person."""

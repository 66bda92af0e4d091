"""Messages, digests and templates."""

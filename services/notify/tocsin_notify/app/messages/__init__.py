"""Messages, digests and their templates."""

"""Text of others that is kept, or looked for, in PostgreSQL."""


def storable(text: str) -> str:
    """PostgreSQL takes no NUL and no half of a surrogate pair. JSON can contain both, and libraries pass invalid bytes
    on as halves of pairs."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode()

"""Service accounts, their keys, and what is refused."""

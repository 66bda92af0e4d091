"""Service accounts, their keys, and revocations."""

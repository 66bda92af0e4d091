"""Service accounts, their keys, and credentials that are refused."""

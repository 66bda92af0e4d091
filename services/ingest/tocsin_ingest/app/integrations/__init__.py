"""Integrations: their keys, rules and heartbeats."""

"""Alerts: accepted, routed, committed, decided again."""

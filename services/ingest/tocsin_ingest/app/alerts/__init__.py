"""Alerts: taken in, routed, committed, looked at again."""

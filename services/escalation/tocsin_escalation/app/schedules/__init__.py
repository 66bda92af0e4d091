"""Schedules: written, planned, swapped, imported and shown."""

"""Notices of shifts, and reminders."""

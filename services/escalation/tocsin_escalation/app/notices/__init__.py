"""Notices to users about their shifts, and reminders."""

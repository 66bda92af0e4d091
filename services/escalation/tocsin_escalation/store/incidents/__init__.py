"""Escalations, their timers, timeline and pages."""

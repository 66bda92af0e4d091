"""Incidents: what changes them, and what follows."""

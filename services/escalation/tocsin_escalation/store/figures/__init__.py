"""Figures of the past."""

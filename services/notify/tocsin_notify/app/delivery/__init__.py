"""Delivery: what is due is claimed, called, concluded, and goes on where it failed."""

"""Notifications: claimed, concluded, stopped, given up."""

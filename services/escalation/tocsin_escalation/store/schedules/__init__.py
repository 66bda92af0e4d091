"""Schedules and what is planned beside them."""

"""Incident events for the subscriptions of organisations."""

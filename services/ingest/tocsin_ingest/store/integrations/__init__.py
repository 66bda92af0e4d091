"""Integrations, their heartbeats and mails."""

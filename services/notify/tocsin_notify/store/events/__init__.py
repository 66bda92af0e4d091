"""Subscriptions and their deliveries."""

"""Schedules of other tools: their JSON exports as requests of Tocsin. `python -m tocsin_client.imports` is the command."""

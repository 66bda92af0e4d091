"""Pure: what an alert does to incidents. Imports the standard library and siblings only."""

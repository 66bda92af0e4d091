"""Pure: the effect of an alert on incidents. Imports the standard library and siblings only."""

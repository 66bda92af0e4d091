"""HTTP routes for calendar programs."""

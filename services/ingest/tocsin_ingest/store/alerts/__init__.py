"""Alerts and the incidents they open: what is read to decide, and what is written."""

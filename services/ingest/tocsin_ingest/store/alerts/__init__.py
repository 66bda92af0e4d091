"""Alerts and the incidents they open: the data for decisions, and the writes."""

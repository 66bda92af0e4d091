"""Pages: accepted, planned, bundled, stopped."""

"""Pages: taken in, planned, held together, stopped."""

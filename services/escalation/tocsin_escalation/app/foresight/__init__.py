"""Questions about why, what next, and what if."""

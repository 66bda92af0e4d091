"""What answers refer to."""

"""What an app of a chat does beside messages."""

"""What a chat app does beside delivering messages."""

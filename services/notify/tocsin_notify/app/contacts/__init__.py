"""Contact methods, notification rules and notification settings of users."""

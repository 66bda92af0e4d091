"""Contact methods, rules and settings of users."""

"""Users, teams and policies."""

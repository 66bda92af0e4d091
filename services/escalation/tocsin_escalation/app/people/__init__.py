"""Users, teams and policies, and whether they can be reached."""

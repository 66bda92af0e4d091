"""How people are reached, and how much they want to get."""

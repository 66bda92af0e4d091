"""Answers of people to their pages, through every channel."""

"""Pages, what planning must know of their users, and what is sent together."""

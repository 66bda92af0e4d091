"""Links, replies and the pages that they refer to."""

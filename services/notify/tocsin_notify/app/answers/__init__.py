"""Answers of people, from wherever a page reached them."""

"""Decode, call one use case, encode."""

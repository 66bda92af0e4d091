"""Which fence stops which notification, and which page in a bundle."""


def stops(fence: str, row: str) -> str:
    """The SQL condition that a row of `cancel_fences` stops a row of the same incident that has `generation` and `outlasts`.

    A process of the version before leaves `final_generation` NULL: its fences stop all.
    """
    final = f"coalesce({fence}.final_generation, {fence}.generation)"
    return f"CASE WHEN {row}.outlasts THEN {final} ELSE {fence}.generation END >= {row}.generation"


def answered_of(row: str) -> str:
    """The SQL expression for how many pages are stopped in the message of a row of `notifications`; 0 for a page that
    is sent alone."""
    return f"""CASE WHEN {row}.incident = {row}.page_id THEN (
      SELECT count(*)::int FROM bundle_pages b JOIN cancel_fences s ON {stops_in_bundle("s", "b")}
      WHERE b.org_id = {row}.org_id AND b.bundle = {row}.page_id) ELSE 0 END"""


def stops_in_bundle(fence: str, row: str) -> str:
    """The SQL condition that a row of `cancel_fences` is of the incident of a row of `bundle_pages`, and stops it."""
    same = f"{row}.org_id = {fence}.org_id AND {row}.incident = {fence}.incident"
    return f"{same} AND {fence}.generation >= {row}.generation"

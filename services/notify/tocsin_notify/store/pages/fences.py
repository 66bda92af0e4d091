"""Which fence stops which notification, and which page in a bundle."""


def stops(fence: str, row: str) -> str:
    """The SQL condition that a row of `cancel_fences` stops a row of the same incident that has `generation` and `outlasts`.

    A process of the version before leaves `final_generation` NULL: its fences stop all.
    """
    final = f"coalesce({fence}.final_generation, {fence}.generation)"
    return f"CASE WHEN {row}.outlasts THEN {final} ELSE {fence}.generation END >= {row}.generation"


def stops_in_bundle(fence: str, row: str) -> str:
    """The SQL condition that a row of `cancel_fences` is of the incident of a row of `bundle_pages`, and stops it."""
    same = f"{row}.org_id = {fence}.org_id AND {row}.incident = {fence}.incident"
    return f"{same} AND {fence}.generation >= {row}.generation"

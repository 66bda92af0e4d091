"""Which fence stops which notification, and which page in a bundle.

A fence stops the pages of an incident for all users up to one generation, and those of single users, who have passed the incident
on, up to others: `own` maps `users/{user}` to a generation and a reason.
"""


def stops_all(fence: str, row: str) -> str:
    """The SQL condition that a row of `cancel_fences` stops a row of the same incident that has `generation` and `outlasts`,
    whoever its user is.

    A process of the version before leaves `final_generation` NULL: its fences stop all.
    """
    final = f"coalesce({fence}.final_generation, {fence}.generation)"
    return f"CASE WHEN {row}.outlasts THEN {final} ELSE {fence}.generation END >= {row}.generation"


def stops(fence: str, row: str) -> str:
    """As `stops_all`, or because its user has passed the incident on; for a row that also has `user_id`."""
    return f"({stops_all(fence, row)} OR NOT {row}.outlasts AND {_own_generation(fence, row)} >= {row}.generation)"


def reason_of(fence: str, row: str) -> str:
    """The SQL expression for why a fence that `stops` a row does so; NULL without a fence."""
    own = f"coalesce({fence}.own->{row}.user_id->>'reason', {fence}.reason)"
    return f"CASE WHEN {stops_all(fence, row)} THEN {fence}.reason ELSE {own} END"


def stopped_up_to(fence: str, row: str) -> str:
    """The SQL expression for the generation up to which a fence stops the pages of this row's user; NULL without a fence."""
    return f"greatest({fence}.generation, {_own_generation(fence, row)})"


def answered_of(row: str) -> str:
    """The SQL expression for how many pages are stopped in the message of a row of `notifications`; 0 for a page that
    is sent alone."""
    return f"""CASE WHEN {row}.incident = {row}.page_id THEN (
      SELECT count(*)::int FROM bundle_pages b JOIN cancel_fences s ON {stops_in_bundle("s", "b")}
      WHERE b.org_id = {row}.org_id AND b.bundle = {row}.page_id) ELSE 0 END"""


def stops_in_bundle(fence: str, row: str) -> str:
    """The SQL condition that a row of `cancel_fences` is of the incident of a row of `bundle_pages`, and stops it."""
    same = f"{row}.org_id = {fence}.org_id AND {row}.incident = {fence}.incident"
    user = f"(SELECT o.user_id FROM pages o WHERE o.org_id = {row}.org_id AND o.id = {row}.page_id)"
    own = f"CASE WHEN {fence}.own <> '{{}}' THEN ({fence}.own->{user}->>'generation')::int >= {row}.generation END"
    return f"{same} AND ({fence}.generation >= {row}.generation OR {own})"


def _own_generation(fence: str, row: str) -> str:
    return f"({fence}.own->{row}.user_id->>'generation')::int"

"""Which fence stops which notification."""


def stops(fence: str, row: str) -> str:
    """The SQL condition that a row of `cancel_fences` stops a row of the same incident that has `generation` and `outlasts`.

    A process of the version before leaves `final_generation` NULL: its fences stop all.
    """
    final = f"coalesce({fence}.final_generation, {fence}.generation)"
    return f"CASE WHEN {row}.outlasts THEN {final} ELSE {fence}.generation END >= {row}.generation"

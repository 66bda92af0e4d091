"""What the demo prints: one line per thing that happens, with the seconds since it began."""

import sys
import time

BOLD, DIM, RED, GREEN, YELLOW, BLUE, END = (f"\033[{code}m" for code in ("1", "2", "31", "32", "33", "34", "0"))


class Teller:
    """Prints lines; colours only where a terminal shows them."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._colours = sys.stdout.isatty()

    def began(self) -> float:
        """`time.monotonic()` of the first line."""
        return self._began

    def chapter(self, title: str) -> None:
        """A new part of the story."""
        print(f"\n{self._paint(BOLD, title)}", flush=True)

    def happens(self, text: str, colour: str = "") -> None:
        """Something happens now."""
        stamp = self._paint(DIM, f"{time.monotonic() - self._began:7.2f} s")
        print(f"{stamp}  {self._paint(colour, text) if colour else text}", flush=True)

    def checked(self, holds: bool, text: str) -> None:
        """Something was looked at, and held or not."""
        print(f"  {self._paint(GREEN, 'ok  ') if holds else self._paint(RED, 'FAIL')} {text}", flush=True)

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{END}" if self._colours else text

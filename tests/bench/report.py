"""One line of JSON per figure."""

import json
import sys


def report(bench: str, value: float, unit: str, floor: float, ratio: float) -> None:
    """Print one figure.

    `floor`: the same work without us (raw commands on the same server, a no-op server), measured in the same run and
    in the same unit. `ratio`: value / floor; what is good depends on the unit: of a rate, near 1 or above; of a time
    or a size, near 1 or below.
    """
    line = {"bench": bench, "value": _short(value), "unit": unit, "floor": _short(floor), "ratio": _short(ratio)}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _short(number: float) -> float:
    return float(f"{number:.4g}")

"""How long something may take on a machine that other work shares."""

import os


def within(seconds: float) -> float:
    """What `seconds` of an idle machine become on this one now: multiplied by the load of each core (getloadavg(3)).

    A bound in plain seconds fails on a busy machine where nothing is wrong. Of the last minute's load and that of the
    last five minutes the higher one counts, since the first forgets a busy moment soon.
    """
    minute, five_minutes, _ = os.getloadavg()
    return seconds * max(1.0, max(minute, five_minutes) / len(os.sched_getaffinity(0)))

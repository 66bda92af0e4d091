"""What belongs to which line of the table."""

from tests.chaos.history import Alert, Call, Fault, History
from tests.chaos.table import CALM, rows


def test_everything_belongs_to_the_fault_before_it() -> None:
    history = History(faults=[Fault("killed", 100.0, 105.0, refused=3), Fault("hung", 130.0, 131.0)])
    rang = {"calm": (50.0, 50.5), "held up": (102.0, 106.5), "after": (110.0, 110.25), "long after": (120.0, 120.5)}
    for incident, (accepted, began) in rang.items():
        history.alerts.append(Alert(incident, accepted, ("ana",), timeout=1.0))
        history.calls.append(Call("ana", incident, 1, incident, began, began))
    history.alerts.append(Alert("lost", 130.5, ("ana",), timeout=1.0))

    table = rows(history)

    assert table[CALM].during == [0.5, 0.5]
    killed = table["killed"]
    assert (killed.times, killed.pages, killed.refused) == (1, 2, 3)
    assert (killed.during, killed.after) == ([4.5], [1.5, 0.25])
    assert table["hung"].broken == {"lost": 1}

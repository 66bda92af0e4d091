"""Alerts of every sender and RPC, as odd as their formats allow."""

import string
from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.struct_pb2 import Struct, Value
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tocsin.ingest.v1.alert_pb2 import AlertInput

T = TypeVar("T")

ODD = [
    "\0",
    "a\0b",
    "\x1b[31mred",
    "\r\nBcc: x@example.com",
    "\ufffe",
    "\u2028",
    "=?utf-8?q?=41?=",
    "\N{GRINNING FACE}",
    "<b>&",
]
HALF_PAIR = "\ud800"
"""JSON can hold it, protobuf cannot."""


def texts(limit: int) -> st.SearchStrategy[str]:
    """Text of any characters, some of it as long as the contract allows or longer."""
    long = st.builds(
        lambda unit, share: unit * (limit * share // 4), st.sampled_from(["a", "\N{SNOWMAN}", "\0"]), st.integers(1, 5)
    )
    return st.text(max_size=min(limit, 40)) | st.sampled_from(ODD) | st.sampled_from(ODD).map(str.upper) | long


json_texts = texts(400) | st.just(f"half {HALF_PAIR} pair")
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | json_texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(json_texts, inner, max_size=4),
    max_leaves=12,
)


def _value(given_value: Any) -> Value:
    match given_value:
        case bool():
            return Value(bool_value=given_value)
        case int() | float():
            return Value(number_value=float(given_value) if abs(given_value) < 1e300 else float("inf"))
        case str():
            return Value(string_value=given_value.replace(HALF_PAIR, ""))
        case list():
            value = Value()
            value.list_value.values.extend(map(_value, given_value))
            return value
        case dict():
            return Value(struct_value=_struct(given_value))
    return Value()


def _struct(given_value: dict[str, Any]) -> Struct:
    return Struct(fields={name.replace(HALF_PAIR, ""): _value(each) for name, each in given_value.items()})


@st.composite
def inputs(draw: st.DrawFn) -> AlertInput:
    """What a caller of an RPC may send. Some of it is refused."""
    alert = AlertInput(
        summary=draw(texts(1024)),
        source=draw(texts(255)),
        client=draw(texts(255)),
        dedup_key=draw(st.just("") | texts(250)),
        labels=draw(st.dictionaries(texts(128), texts(1024), max_size=draw(st.sampled_from([2, 2, 70])))),
        details=_struct(draw(st.dictionaries(json_texts, json_values, max_size=4))),
    )
    alert.severity = draw(st.integers(0, 5))  # type: ignore[assignment]
    for _ in range(draw(st.integers(0, 3))):
        alert.links.add(href="https://" + draw(texts(2040)), text=draw(texts(255)))
    if draw(st.booleans()):
        alert.client_time.seconds = draw(st.integers(-(2**62), 2**62) | st.integers(-2, 2))
        alert.client_time.nanos = draw(st.integers(-(2**31), 2**31 - 1))
    return alert


@st.composite
def pagerduty(draw: st.DrawFn) -> dict[str, Any]:
    """An event of the PagerDuty Events API."""
    payload = {
        "summary": draw(texts(1024).filter(str.strip)),
        "source": draw(texts(255).filter(str.strip)),
        "severity": draw(st.sampled_from(["critical", "error", "warning", "info"])),
        "timestamp": draw(st.sampled_from(["2026-01-01T00:00:00Z", "9999-12-31T23:59:59-10:00", "soon", "0001-01-01"])),
        "custom_details": draw(json_values),
    }
    payload |= {name: draw(json_texts) for name in ("component", "group", "class") if draw(st.booleans())}
    event: dict[str, Any] = {"event_action": "trigger", "payload": payload, "client": draw(json_texts)}
    event["links"] = [{"href": "https://" + draw(json_texts), "text": draw(json_texts)}]
    event["dedup_key"] = draw(texts(200))
    return event


@st.composite
def alertmanager(draw: st.DrawFn) -> dict[str, Any]:
    """A group of Alertmanager's."""
    word = st.text(string.ascii_letters, min_size=1, max_size=8)
    alerts = [
        {
            "status": "firing",
            "fingerprint": draw(texts(200)),
            "labels": {"alertname": draw(word)} | draw(st.dictionaries(json_texts, json_texts, max_size=4)),
            "annotations": draw(st.dictionaries(json_texts | st.just("summary"), json_texts, max_size=3)),
            "startsAt": draw(st.sampled_from(["2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "x"])),
            "generatorURL": "http://" + draw(json_texts),
        }
        for _ in range(draw(st.integers(1, 3)))
    ]
    return {"version": "4", "groupKey": draw(json_texts), "receiver": draw(json_texts), "alerts": alerts}


def some(strategy: st.SearchStrategy[T], count: int) -> list[T]:
    """So many of them, others in every run."""
    found: list[T] = []

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(each: T) -> None:
        found.append(each)

    run: Callable[[], None] = collect
    run()
    return found

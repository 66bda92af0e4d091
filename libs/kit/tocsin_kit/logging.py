"""Structured logs: one line per event that matters, constant event names, ids and not objects.

All lines logged within a call have its trace id, method and tenant (`tocsin_kit.rpc.call`) without further binding. Records of
the standard library run through the same processors. Lines are written to stdout, as far as it accepts them.
"""

import io
import logging
import re
import sys
from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from typing import Any, Final, TextIO, cast

import structlog

from tocsin_kit.log_output import LogOutput

_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Characters that a terminal executes and does not show: C0 except the tab, C1, line ends and changes of direction."""

Fields = Callable[[], MutableMapping[str, Any] | None]

call_fields: ContextVar[Fields | None] = ContextVar("call_fields", default=None)
"""Set by the RPC pipeline. A function, so that a call which logs nothing builds nothing."""


_told = logging.DEBUG
"""The lowest level that is written. All levels are, until `configure` is called."""


_output: LogOutput | None = None


def lines_lost() -> int:
    """Lines of this process that could not be written."""
    return 0 if _output is None else _output.lost


def tells_debug() -> bool:
    """Whether DEBUG lines are written. Ask before a line that each call would log: making one and dropping it costs 3 µs."""
    return _told <= logging.DEBUG


def get_logger(name: str = "") -> structlog.stdlib.BoundLogger:
    """A logger; `logger.info("thing_done", thing=id)`."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(module=name) if name else structlog.get_logger()
    return logger


def configure(*, level: str = "INFO", form: str = "json") -> None:
    """Send structlog and the standard library to stdout, as JSON or for reading (`console`)."""
    global _told, _output
    _output = output = LogOutput(sys.stdout)
    _told = number = logging.getLevelNamesMapping()[level]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_call,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        structlog.processors.StackInfoRenderer(),
    ]
    ending: list[structlog.typing.Processor]
    if form == "json":
        ending = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        # The rich formatter prints local variables, and those hold tokens and messages.
        ending = [
            _without_controls,
            structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), exception_formatter=_traceback),
        ]
    structlog.configure(
        processors=[*shared, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, output)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries log at WARNING when something is wrong; their INFO lines are of no use to an operator.
    root.setLevel(max(number, logging.WARNING) if number > logging.DEBUG else logging.INFO)


def _add_call(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    fields = call_fields.get()
    if fields is not None:
        for key, value in (fields() or {}).items():
            event.setdefault(key, value)
    return event


def _without_controls(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Text of a request must not move the cursor, rename the window or hide lines in the terminal of the reader."""
    return {key: _visible(value) if isinstance(value, str) else value for key, value in event.items()}


def _traceback(out: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    # Indented: an error's message with a line end in it must not look like a line of the log.
    out.write("\n".join(f"  {_visible(line)}" for line in text.getvalue().split("\n")))


def _visible(text: str) -> str:
    return _CONTROL.sub(lambda found: repr(found.group())[1:-1], text)

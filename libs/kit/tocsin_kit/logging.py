"""Structured logs: one line per thing that matters, static event names, ids and not objects.

Whatever happens inside a call carries its trace id, method and tenant (`tocsin_kit.rpc.call`); nobody has to bind it.
Records of the standard library run through the same processors. Lines go to stdout.
"""

import logging
import sys
from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from typing import Any

import structlog

Fields = Callable[[], MutableMapping[str, Any] | None]

call_fields: ContextVar[Fields | None] = ContextVar("call_fields", default=None)
"""Set by the RPC pipeline. A function, so that a call which logs nothing builds nothing."""


def get_logger(name: str = "") -> structlog.stdlib.BoundLogger:
    """A logger; `logger.info("thing_done", thing=id)`."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(module=name) if name else structlog.get_logger()
    return logger


def configure(*, level: str = "INFO", form: str = "json") -> None:
    """Send structlog and the standard library to stdout, as JSON or for reading (`console`)."""
    number = logging.getLevelNamesMapping()[level]
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
            structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    structlog.configure(
        processors=[*shared, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries speak when something is wrong; their chatter at INFO belongs to nobody's night.
    root.setLevel(max(number, logging.WARNING) if number > logging.DEBUG else logging.INFO)


def _add_call(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    fields = call_fields.get()
    if fields is not None:
        for key, value in (fields() or {}).items():
            event.setdefault(key, value)
    return event

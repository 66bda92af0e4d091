"""Durable, precise, cancellable delayed tasks for Taskiq on Redis. See README.md."""

from tocsin_timers.broker import TimerBroker
from tocsin_timers.circuit import RedisUnresponsive
from tocsin_timers.encoded import Encoded
from tocsin_timers.encoder import Encoder
from tocsin_timers.errors import MessageUnreadable, MigrationIncomplete, QueueFull, ScheduleUnsupported, TimersError
from tocsin_timers.figures import DeadLetter, QueueFigures
from tocsin_timers.formatter import ProtobufFormatter
from tocsin_timers.metrics import TimerMetrics
from tocsin_timers.migration import Migration
from tocsin_timers.mirror import Chunk, Record, TimerMirror
from tocsin_timers.retry import BackoffMiddleware
from tocsin_timers.source import Timer, TimerSource
from tocsin_timers.worker import Worker

__all__ = [
    "BackoffMiddleware",
    "Chunk",
    "DeadLetter",
    "Encoded",
    "Encoder",
    "MessageUnreadable",
    "Migration",
    "MigrationIncomplete",
    "ProtobufFormatter",
    "QueueFigures",
    "QueueFull",
    "Record",
    "RedisUnresponsive",
    "ScheduleUnsupported",
    "Timer",
    "TimerBroker",
    "TimerMetrics",
    "TimerMirror",
    "TimerSource",
    "TimersError",
    "Worker",
]

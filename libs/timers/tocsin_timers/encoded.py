"""A message that is ready to be sent or armed."""

from typing import Any, NamedTuple


class Encoded(NamedTuple):
    """What arming and sending need of a BrokerMessage, without the price of making one."""

    message: bytes
    labels: dict[str, Any]
    task_id: str = ""

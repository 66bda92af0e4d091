"""redis-py's Cluster client, changed so that it keeps this library's promises. Each part can be removed when redis-py does the
same."""

from typing import Any

from redis._parsers import AsyncCommandsParser
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ClusterError, ConnectionError, RedisClusterException, RedisError, TryAgainError

from tocsin_timers.packing import PackedConnection


class NotConnected(ConnectionError):
    """No node could be reached: the command has not arrived."""


class ClusterConnection(PackedConnection):
    """A connection that reports when a command cannot have arrived, and sends nothing where the server has closed the
    connection."""

    async def connect_check_health(self, *args: Any, **options: Any) -> None:
        """Raises NotConnected, and what the server answers to the greeting."""
        try:
            await super().connect_check_health(*args, **options)
        except ConnectionError as error:
            if type(error) is not ConnectionError:
                raise
            raise NotConnected(*error.args) from error

    def should_reconnect(self) -> bool:
        """Whether it can no longer be used. The pools of the other clients check before they lend one; a Cluster's only ask this,
        and the first command after a restart of the server would fail."""
        hung_up = self._reader is not None and self._reader.at_eof()
        return hung_up or bool(super().should_reconnect())  # type: ignore[no-untyped-call]


class ClusterClient(RedisCluster):
    """Raises RedisErrors only, repeats nothing that may have arrived, and asks no node but the one of the key."""

    # redis-py repeats ten times what was sent and had no answer: messages would be doubled, and a sender wait for long.
    ERRORS_ALLOW_RETRY = (NotConnected,)  # type: ignore[assignment]

    def __init__(self, **options: Any) -> None:
        # After every fifth moved slot redis-py would close all connections, those in use by others too. The MOVED reply
        # itself says where the slot went, and a lost node makes it read the topology anew in any case.
        super().__init__(**{**options, "retry": Retry(NoBackoff(), 1), "reinitialize_steps": 0})
        self.get_connection_kwargs()["connection_class"] = ClusterConnection
        self.commands_parser = _Keys()
        self._silent_node: str | None = None

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Raises RedisError."""
        try:
            return await super().execute_command(*args, **options)
        except RedisClusterException as error:
            # No node can be reached, or no node has the slot. In redis-py that is no RedisError.
            raise ConnectionError(str(error)) from error
        except RedisError as error:
            self._silent_node = getattr(error, "last_failed_node_name", self._silent_node)
            if type(error) is ClusterError:
                # "TTL exhausted", says redis-py.
                raise TryAgainError("sent from node to node: the slot of this key is being moved") from error
            raise

    async def initialize(
        self, additional_startup_nodes_info: Any = None, last_failed_node_name: str | None = None
    ) -> "ClusterClient":
        """Read the topology. The node that gave no answer lately is asked last: all commands wait for this."""
        await super().initialize(additional_startup_nodes_info, last_failed_node_name or self._silent_node)
        return self

    def get_node(
        self, host: str | None = None, port: int | None = None, node_name: str | None = None
    ) -> ClusterNode | None:
        """A node; also one that has no slots yet. A slot on its way to it redirects there, where redis-py finds None."""
        node = super().get_node(host, port, node_name)
        if node is None and node_name is not None:
            options: dict[str, Any] = self.get_connection_kwargs()
            address, _, number = node_name.rpartition(":")
            node = ClusterNode(address, int(number), "primary", **options)
            self.nodes_manager.set_nodes(self.nodes_manager.nodes_cache, {node.name: node})
        return node


class _Keys(AsyncCommandsParser):
    """Knows the keys of the commands used here. redis-py asks a node of its choice for those of each blocking read, which
    costs a round trip; and when that node is dead, no read reaches any other node, and no new topology is looked for."""

    async def initialize(self, node: ClusterNode | None = None) -> None:
        """There is nothing to ask the server."""

    async def get_keys(self, *command: Any) -> tuple[Any, ...]:
        """The first key: all keys of a command here are of one shard."""
        return (command[command.index(b"STREAMS") + 1] if b"STREAMS" in command else command[1],)

"""A Flower Grid inside this process: the same apps, without SuperLink, SuperNode or ports.

`LocalGrid` numbers its nodes, keeps a Context for each, and hands messages to an executor: `run_inline` calls the
ClientApp one node after the other; `RayExecutor` spreads the calls over Ray's workers, here or on a cluster.
"""

import contextlib
import logging
import os
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from shared_model.errors import BadInputError

Call = tuple[Message, Context]
Executor = Callable[[Sequence[Call]], list[Message]]
_CLIENT_RAISED = 2


class LocalGrid(Grid):
    """Delivers messages to `nodes` simulated nodes through an executor."""

    def __init__(self, execute: Executor, nodes: int, run_config: dict[str, Any]) -> None:
        self._execute = execute
        self._run = Run.create_empty(run_id=1)
        self._contexts = {
            node + 1: Context(
                run_id=1,
                node_id=node + 1,
                node_config={"partition-id": node, "num-partitions": nodes},
                state=RecordDict(),
                run_config=dict(run_config),
            )
            for node in range(nodes)
        }
        self._replies: dict[str, Message] = {}

    def set_run(self, run: Run) -> None:
        """Keep the run that the server app belongs to."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run that the server app belongs to."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a new message for a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of all nodes."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Run the messages' clients and keep their replies; return the messages' ids."""
        calls = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = message.object_id
            calls.append((_copy(message), self._contexts[message.metadata.dst_node_id]))
        for (message, _), reply in zip(calls, self._execute(calls), strict=True):
            self._replies[message.metadata.message_id] = reply
        return [message.metadata.message_id for message, _ in calls]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are there, each once."""
        return [self._replies.pop(i) for i in message_ids if i in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push, and pull what came back. In one process nothing is late, so `timeout` plays no part."""
        return self.pull_messages(self.push_messages(messages))


def run_inline(client_app: ClientApp) -> Executor:
    """Return an executor that calls the client app for one node after the other."""

    def execute(calls: Sequence[Call]) -> list[Message]:
        return [_call(client_app, message, context) for message, context in calls]

    return execute


@contextlib.contextmanager
def ray_executor(client_app: ClientApp, address: str | None) -> Iterator[Executor]:
    """Yield an executor that runs each node's call as a Ray task, one CPU each; Ray stops afterwards."""
    import ray

    if address is not None:
        _require_listener(address)
    # Ray puts the working directory first on the workers' path: start where no other `clients` package lies.
    with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
        try:
            ray.init(
                address=address,
                include_dashboard=False if address is None else None,
                log_to_driver=True,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}},
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise BadInputError(
                f"[federation] ray_address = {address!r}: Ray cannot be reached or started: {error}."
            ) from None
        remote = ray.remote(num_cpus=1, max_retries=0)(_call)

        def execute(calls: Sequence[Call]) -> list[Message]:
            pending = [remote.remote(client_app, message, context) for message, context in calls]
            return [
                _result(ray, reference, message)
                for reference, (message, _) in zip(pending, calls, strict=True)
            ]

        try:
            yield execute
        finally:
            ray.shutdown()


def _require_listener(address: str) -> None:
    """Refuse an address at which nobody listens: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise BadInputError(
            f"[federation] ray_address = {address!r}: nobody can be reached there ({error}). Start a Ray cluster "
            "first (ray start --head), or leave ray_address out to start Ray on this machine."
        ) from None


def _result(ray: Any, reference: Any, message: Message) -> Message:
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        return Message(
            Error(_CLIENT_RAISED, f"node-{message.metadata.dst_node_id}:{type(error).__name__}"),
            reply_to=message,
        )


def _call(client_app: ClientApp, message: Message, context: Context) -> Message:
    try:
        return client_app(message, context)
    except Exception as error:
        reason = f"node-{context.node_id}:{type(error).__name__}"
        return Message(Error(_CLIENT_RAISED, reason), reply_to=message)


def _copy(message: Message) -> Message:
    """Return a message with records of its own, as after a journey over the wire."""
    content = RecordDict()
    for key, record in message.content.items():
        if isinstance(record, ArrayRecord):
            arrays = {
                n: Array(dtype=a.dtype, shape=tuple(a.shape), stype=a.stype, data=a.data)
                for n, a in record.items()
            }
            content[key] = ArrayRecord(arrays)
        elif isinstance(record, MetricRecord):
            content[key] = MetricRecord(dict(record))
        else:
            content[key] = ConfigRecord(dict(record))
    copy = Message(
        content,
        dst_node_id=message.metadata.dst_node_id,
        message_type=message.metadata.message_type,
        ttl=message.metadata.ttl,
        group_id=message.metadata.group_id,
    )
    copy.metadata.__dict__["_message_id"] = message.metadata.message_id
    return copy


def run_server(server_app: ServerApp, execute: Executor, nodes: int, run_config: dict[str, Any]) -> None:
    """Run a server app against `nodes` simulated clients until it returns or raises."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    context = Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config=dict(run_config))
    server_app(LocalGrid(execute, nodes, run_config), context)

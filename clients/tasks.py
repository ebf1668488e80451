"""Tasks over SuperNode's Runtime API: acquire one, read it, answer it, say that it is done.

Reading and writing messages is Flower's own code (`flwr.supernode.runtime.run_clientapp`); what is not used of it
is the part that installs and imports the bundle.
"""

from collections.abc import Mapping
from concurrent.futures import Future
from threading import Event, Thread
from typing import TypedDict

import httpx
import structlog
from flwr.app import Context, Message
from flwr.common.constant import SubStatus
from flwr.proto.runtime_pb2 import AcquireTaskRequest, SendTaskHeartbeatRequest
from flwr.proto.task_pb2 import Task as FlowerTask
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.protobuf.client import ProtobufClientInterceptor
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output
from structlog.contextvars import bound_contextvars

from clients.errors import SiteError
from clients.folder import ClientFolder
from clients.gate import Task, answer, instructions_of
from clients.platform import HashableSite, prepare_platform, read_events
from clients.products import site_vocabulary
from federation.bundle import digest
from federation.errors import KeyFileError
from federation.files import read_private
from federation.telemetry import span
from federation.validity import now
from shared_model.errors import BadInputError, FedcartError

POLL_SECONDS = 1.0
READ_SECONDS = 30.0
"""Seconds for the content of a task, and one more for each `SLOWEST` bytes of the model."""
SLOWEST = 50_000
_ACQUIRE = "/flwr.proto.Runtime/AcquireTask"
_log = structlog.get_logger("fedcart.worker")


def serve(folder: ClientFolder, installed: Mapping[str, bytes], stop: Event) -> None:
    """Answer tasks one after the other until `stop` is set; a SuperNode that is away is waited for.

    Raises KeyFileError if the SuperNode does not accept this folder's secret.
    """
    address = f"127.0.0.1:{folder.site().node.port}"
    client = _client(address, _authentication(folder))
    # Tasks of every kind are taken, for one that nobody takes would hold the SuperNode up.
    request = AcquireTaskRequest(supported_task_types=list(TaskType))
    tries, data = 0, HashableSite(folder.site())
    _log.info("waiting", platform=folder.site().name)
    try:
        while not stop.is_set():
            data = _forgotten(folder, data)
            try:
                acquired = client.AcquireTask(request)
                tries = 0
            except httpx.HTTPStatusError as error:
                if error.response.status_code in (401, 403):
                    raise KeyFileError(
                        f"{folder.secret}: the SuperNode at {address} does not accept this secret. Start both from "
                        "the same folder."
                    ) from None
                tries += 1
            except httpx.TransportError:
                tries += 1
            else:
                if acquired.HasField("task") and acquired.token:
                    _serve_one(folder, installed, address, acquired.task, acquired.token)
                    continue
            if tries in (1, 10) or (tries and tries % 300 == 0):
                _log.warning("supernode-away", tries=tries)
            stop.wait(POLL_SECONDS)
    finally:
        client.close()


def _forgotten(folder: ClientFolder, before: HashableSite) -> HashableSite:
    """Let go of data in memory that has changed since: a shopper may have been erased. Return what it is now."""
    try:
        data = HashableSite(folder.site())
    except SiteError:  # somebody is writing client.toml; a task will say it
        return before
    if data != before:
        prepare_platform.cache_clear()
        read_events.cache_clear()
    return data


def _authentication(folder: ClientFolder) -> ProtobufClientInterceptor:
    secret = read_private(folder.secret)
    return SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=frozenset({_ACQUIRE}))


def _client(address: str, authentication: ProtobufClientInterceptor) -> RuntimeHttpClient:
    """A client of the Runtime API on this machine."""
    version = RuntimeVersionHttpInterceptor(component_name="SuperExec")
    return RuntimeHttpClient.from_server_address(
        address, insecure=True, root_certificates=None, interceptors=[version, authentication]
    )


class Asked(TypedDict, total=False):
    """The run and round that a message is about."""

    run: str
    round: int


class Known(Asked):
    """What is known of a task while it is answered: Flower's numbers, and what its message is about."""

    task: int
    flower_run: int


def _serve_one(
    folder: ClientFolder, installed: Mapping[str, bytes], address: str, flower_task: FlowerTask, token: str
) -> None:
    """Answer one task; whatever goes wrong with Flower's messages is logged, and the next task is taken."""
    client = _client(address, RuntimeTokenHttpInterceptor(token))
    heartbeat = HeartbeatSender(lambda: _beat(client))
    status, known = SubStatus.FAILED, Known(task=flower_task.task_id, flower_run=flower_task.run_id)
    try:
        heartbeat.start()
        message, context, fab = _read(client, _seconds(folder))
        task, asked = Task(flower_task.type, message, context, fab.content), _asked(message)
        known |= asked
        _log.info("task", bundle=digest(task.bundle), **known)
        with bound_contextvars(**known), span("message", **asked) as recorded:
            reply = answer(folder, installed, task, now())
            if reply.has_error():
                recorded.code((reply.error.reason or "").rpartition(":")[2])
        push_message(client, reply, context)
        status = SubStatus.FAILED if reply.has_error() else SubStatus.COMPLETED
        _log.info("answered", **known)
    except Exception:
        _log.exception("task-lost", **known)
    finally:
        push_task_output(client, None, status, "")
        if heartbeat.is_running:
            heartbeat.stop()
        client.close()


def _asked(message: Message) -> Asked:
    """Return what a message is about, for log and traces; nothing if it asks for nothing that can be done."""
    try:
        ask = instructions_of(message)
    except BadInputError:
        return {}
    return {"run": ask.run_id, "round": ask.round}


def _seconds(folder: ClientFolder) -> float:
    """How long the content of a message may take to come through the SuperNode from the server."""
    try:
        products = len(site_vocabulary(folder.site()))
    except FedcartError:  # the gate refuses the task, with a code: it must not be lost
        products = 0
    return READ_SECONDS + 4 * products / SLOWEST


def _read(client: RuntimeHttpClient, seconds: float) -> tuple[Message, Context, Fab]:
    """Return a task's message, context and bundle; raise TimeoutError if its content does not come.

    A SuperNode makes the task before it has the content, and leaves it there if the run ends in between (the server was
    killed, say). Flower would wait for two hours, and no other task would be served.
    """
    found: Future[tuple[Message, Context, Fab]] = Future()

    def read() -> None:
        try:
            message, context, _, fab = pull_task_input(client)
            found.set_result((message, context, fab))
        except BaseException as error:
            found.set_exception(error)

    Thread(target=read, daemon=True).start()  # ends when its client is closed
    return found.result(seconds)


def _beat(client: RuntimeHttpClient) -> bool:
    """Tell the SuperNode that this task is worked on. Its answer is not used: what was begun is stored and charged."""
    try:
        client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
    except httpx.HTTPError:
        return False
    return True

"""The gate: every task that Flower's SuperNode holds passes here, and only installed code runs behind it.

Flower hands each platform the bundle of a run and would install and execute it. Here a bundle is only looked at:
its digest must be approved and its client side must be the installed code, which is what runs
(docs/decisions/0302-gate.md). So code that the federation's operator sends can never see the data.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import structlog
from flwr.app import Context, Error, Message, MessageType
from flwr.supercore.constant import TaskType

from clients.app import REFUSED, app
from clients.errors import PolicyError
from clients.folder import ClientFolder
from clients.participate import open_ledger
from clients.policy import require_bundle, require_plan
from privacy.errors import PrivacyError
from shared_model.errors import BadInputError, FedcartError
from shared_model.instructions import TrainInstructions

_log = structlog.get_logger("fedcart.gate")


@dataclass(frozen=True)
class Task:
    """What a SuperNode hands over: a message of a run, with its bundle."""

    kind: str
    message: Message
    context: Context
    bundle: bytes


def answer(folder: ClientFolder, installed: Mapping[str, bytes], task: Task, time: datetime) -> Message:
    """Return the reply to a task: the installed app's, or a refusal whose reason is `<platform>:<code>`.

    `installed` is the code of this process, as it was read when the process started.
    """
    name = f"node-{task.context.node_id}"
    try:
        site = folder.site()
        name = site.name
        _require_training(name, task)
        require_bundle(site, folder.approvals, task.bundle, installed)
        ask = _instructions(task.message)
        exchange = folder.membership().kit.card.model.spec.exchange.fingerprint
        require_plan(site, ask, exchange, open_ledger(site).budget(), time)
        task.context.node_config = {"site": str(folder.site_file.absolute())}
        return app(task.message, task.context)
    except (FedcartError, PrivacyError) as error:
        _log.error("refused", platform=name, code=error.code, message=str(error))
        return Message(Error(REFUSED, f"{name}:{error.code}"), reply_to=task.message)
    except Exception:
        # A bug's text may hold a value from the data: it is logged here, if the policy says so, and never sent.
        _log.exception("failed", platform=name)
        return Message(Error(REFUSED, f"{name}:internal"), reply_to=task.message)


def _require_training(name: str, task: Task) -> None:
    kind = task.message.metadata.message_type
    if task.kind != TaskType.CLIENT_APP or kind != MessageType.TRAIN:
        raise PolicyError(f"{name}: a {task.kind} task with a {kind!r} message is not taken.", "task")


def _instructions(message: Message) -> TrainInstructions:
    config = message.content.config_records.get("config")
    if config is None:
        raise BadInputError("The request holds no instructions.")
    return TrainInstructions.from_mapping(dict(config))

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

from clients.app import REFUSED, take_part
from clients.errors import PolicyError
from clients.folder import ClientFolder
from clients.own_ledger import open_ledger
from clients.participate import plan_for
from clients.policy import require_bundle, require_plan
from clients.site import SiteSettings
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
        ask = instructions_of(task.message)
        require_plan(site, ask, folder.membership().kit.card.model, open_ledger(site).budget(), time)
        _say_cost(site, ask)
        reply = take_part(site, task.message)
        _say_budget(site, ask)
        return reply
    except (FedcartError, PrivacyError) as error:
        _log.error("refused", platform=name, code=error.code, message=str(error))
        return Message(Error(REFUSED, f"{name}:{error.code}"), reply_to=task.message)
    except Exception:
        # A bug's text may hold a value from the data: it is logged here, if the policy says so, and never sent.
        _log.exception("failed", platform=name)
        return Message(Error(REFUSED, f"{name}:internal"), reply_to=task.message)


def _say_cost(site: SiteSettings, ask: TrainInstructions) -> None:
    """Log what a private run will cost, before its first round: the same numbers as a simulation shows."""
    ledger = open_ledger(site)
    if ask.epsilon == 0 or any(spend.run == ask.run_id for spend in ledger.runs()):
        return
    preview = ledger.preview(plan_for(site, ask).event)
    _log.info(
        "run-costs",
        platform=site.name,
        run=ask.run_id,
        epsilon_before=round(preview.before, 3),
        epsilon_after=round(preview.after, 3),
        epsilon_cap=preview.cap,
    )


def _say_budget(site: SiteSettings, ask: TrainInstructions) -> None:
    """Log what the ledger holds after a round, whether it trained or was refused."""
    budget = open_ledger(site).budget()
    _log.info(
        "budget",
        platform=site.name,
        run=ask.run_id,
        round=ask.round,
        epsilon=round(budget.committed, 3),
        epsilon_left=round(budget.left, 3),
        epsilon_cap=budget.cap,
    )


def _require_training(name: str, task: Task) -> None:
    kind = task.message.metadata.message_type
    if task.kind != TaskType.CLIENT_APP or kind != MessageType.TRAIN:
        raise PolicyError(f"{name}: a {task.kind} task with a {kind!r} message is not taken.", "task")


def instructions_of(message: Message) -> TrainInstructions:
    """Return what a message asks for; raise BadInputError if it asks for nothing that can be done."""
    config = message.content.config_records.get("config")
    if config is None:
        raise BadInputError("The request holds no instructions.")
    return TrainInstructions.from_mapping(dict(config))

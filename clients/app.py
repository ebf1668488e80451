"""The Flower ClientApp: turns messages into rounds, and errors into codes that say nothing about the data.

Until data are read, every code follows from the request, the platform's settings, its ledger and its outbox: they
hold no data, and are the same with and without any shopper. After that, these codes can leave, and no other:

| code               | when                                            | why one shopper does not decide it             |
|--------------------|-------------------------------------------------|------------------------------------------------|
| `data`             | events, catalogue or features cannot be read or | rows are judged one by one and left out where  |
|                    | prepared at all; nothing is charged             | bad; without any shopper, noise is sent        |
| `budget.refused`   | the cap would be passed                         | the plan and the ledger's entries decide it    |
| `ledger.…`         | the ledger cannot be read, trusted or written   | it holds plans, times and digests of what was  |
|                    |                                                 | released                                       |
| `round.unfinished` | charged, then not stored, settled or signed     | the disk and the ledger decide it; what goes   |
|                    |                                                 | wrong in training is answered with its start   |
| `internal`         | a bug in reserving or in making the reply       | both handle public things only                 |

So a failure in training has no code: not a NaN, not memory that is short, not a time limit. What is left: a row that
makes its whole file unreadable (a quote that never ends, a fraction in a column of ids) or that spells an id as another
row may spell it (`clients.data.spellings`) gives `data` until a person of the platform has repaired the export; and a
crash, as timing, is not noised.
"""

from dataclasses import asdict
from pathlib import Path

import structlog
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from clients.errors import SiteError
from clients.participate import Contribution, participate
from clients.site import SiteSettings, load_site
from privacy.errors import PrivacyError
from shared_model.errors import FedcartError
from shared_model.instructions import TrainInstructions

REFUSED = 100
"""Error code of a reply in which the client refuses or fails; the reason is `<platform>:<code>`."""

app = ClientApp()
_log = structlog.get_logger("fedcart.client")


@app.train()
def train(message: Message, context: Context) -> Message:
    """Take part in one round. The reply holds shared tensors, the declared weight and a receipt."""
    name = f"node-{context.node_id}"
    try:
        site = find_site(context)
        name = site.name
        ask = TrainInstructions.from_mapping(dict(message.content.config_records["config"]))
        arrays = {key: array.numpy() for key, array in message.content.array_records["arrays"].items()}
        return Message(_reply(participate(site, ask, arrays)), reply_to=message)
    except (FedcartError, PrivacyError) as error:
        _log.error("refused", platform=name, code=error.code, message=str(error))
        return Message(Error(REFUSED, f"{name}:{error.code}"), reply_to=message)
    except Exception:
        # A bug's text may hold a value from the data: it is logged here and never sent.
        _log.exception("failed", platform=name)
        return Message(Error(REFUSED, f"{name}:internal"), reply_to=message)


def find_site(context: Context) -> SiteSettings:
    """Return this node's settings: the file named by `--node-config site=…`, or the run's n-th simulated site."""
    site = context.node_config.get("site")
    if isinstance(site, str) and site:
        return load_site(Path(site))
    folder, partition = context.run_config.get("run-dir"), context.node_config.get("partition-id")
    if isinstance(folder, str) and folder and partition is not None:
        files = sorted((Path(folder) / "sites").glob("*.toml"))
        if int(partition) < len(files):
            return load_site(files[int(partition)])
        raise SiteError(f"{folder}/sites holds {len(files)} sites, and this is node {partition}.")
    raise SiteError("This node has no site: start it with --node-config 'site=\"/path/to/client.toml\"'.")


def _reply(contribution: Contribution) -> RecordDict:
    """Return what leaves. A receipt of plain training is not signed: no ledger stands behind it."""
    signed = contribution.receipt
    receipt = asdict(contribution.statement) if signed is None else signed.to_mapping()
    return RecordDict(
        {
            "arrays": ArrayRecord({name: Array(array) for name, array in contribution.arrays.items()}),
            "metrics": MetricRecord({"weight": contribution.weight}),
            "receipt": ConfigRecord(dict(receipt)),
        }
    )

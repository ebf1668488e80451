"""One round on one platform: check the request, charge the ledger, train, store, settle, and only then answer.

Order matters: the reservation is durable before the first gradient, and the update is durable before it leaves.

| what happens                               | what was charged, what leaves                                |
|--------------------------------------------|--------------------------------------------------------------|
| the plan would pass the cap, now or later  | nothing, refused before the first gradient                   |
| killed before the update is stored         | the reservation stays; the next attempt takes it up again    |
| killed after the update is stored          | the next attempt settles and sends the stored update         |
| asked again for a finished round           | nothing; the stored update is sent again                     |
| any ledger or outbox trouble               | refused; nothing leaves                                      |
"""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clients.errors import PolicyError
from clients.fresh import added_so_far, mark_trained
from clients.outbox import Outbox
from clients.platform import HashableSite, read_events
from clients.policy import require_vocabulary
from clients.products import Products
from clients.site import SiteSettings
from clients.training import ShopperEvents, exact_sum, private_sum
from federation.telemetry import span
from privacy.errors import BudgetRefusedError
from privacy.ledger import Ledger, Receipt, Statement, Status
from privacy.ledger.keys import load_key_file
from privacy.noise import NoiseSource, ReproducibleNoise, SecureNoise
from privacy.release import ReleasePlan
from shared_model.exchange import fingerprint
from shared_model.instructions import TrainInstructions
from shared_model.version import VERSION


@dataclass(frozen=True)
class Contribution:
    """What leaves the platform: one noised sum, and a signed receipt with its ledger's head.

    `receipt` is None for plain training. ε and δ follow from the public plan alone, and no entry of the ledger depends
    on the data, so they reveal nothing.
    """

    arrays: dict[str, NDArray]
    statement: Statement
    receipt: Receipt | None = None


def plan_for(site: SiteSettings, ask: TrainInstructions) -> ReleasePlan:
    """Return the platform's plan of the whole run; raise PlanError if the numbers cannot be used."""
    return ReleasePlan.calibrated(epsilon=ask.epsilon, delta=site.delta, shares=ask.shares)


def participate(site: SiteSettings, ask: TrainInstructions, arrays: dict[str, NDArray]) -> Contribution:
    """Make one round's sum and return what may leave.

    Raises FedcartError or PrivacyError; their `code` is all that may be told to the server.
    """
    ask.shape.question(ask.stage).validate(arrays, f"round {ask.round}, from the server")
    vocabulary = require_vocabulary(site, ask)
    added = added_so_far(site)  # before the data is read: what comes in meanwhile stays new
    data = read_events(HashableSite(site))
    products = Products.of(vocabulary, data.catalogue, ask.encoder_names)

    def total() -> NDArray:
        events = ShopperEvents.of(data.split, products.of_item)
        return exact_sum(ask.stage, events, vocabulary.edges, arrays, ask.products)

    incoming = fingerprint(arrays)
    if ask.epsilon == 0:
        if not site.allow_plain_training:
            raise PolicyError(
                f"{site.name}: the server asks for training without privacy, which this site does not allow. "
                "Only for public data: set allow_plain_training = true."
            )
        contribution = Contribution(
            {ask.stage.value: total().astype(np.float32)}, _statement(site, ask, incoming, "none")
        )
        mark_trained(site, ask.run_id, added)
        return contribution
    if ask.delta != site.delta:
        raise PolicyError(
            f"{site.name}: the server asks for delta {ask.delta:g}, the site declares {site.delta:g}."
        )
    if any(report.tainted for report in data.reports) and not site.reproducible_noise:
        raise PolicyError(
            f"{site.name}: research_k_core looks at all shoppers together, so no privacy can be promised. "
            "Remove it from the site's task."
        )
    plan = plan_for(site, ask)
    request = sha256(f"{ask.model_dump_json()}|{incoming}".encode()).hexdigest()
    key = f"{ask.run_id}/round-{ask.round}/{request[:32]}"
    outbox = Outbox(site.work / "outbox")
    ledger = open_ledger(site)
    _require_delta(site, ledger)
    held = ledger.reservation(key)
    stored = outbox.get(key) if held is not None else None
    noise: NoiseSource = SecureNoise()
    if site.reproducible_noise:
        noise = ReproducibleNoise(ask.seed, site.name, ask.round)
    if held is None or held.status is Status.OPEN:
        _require_room(ledger, plan, ask)
        reservation = ledger.reserve(
            plan.event_of(ask.stage.number),
            run=ask.run_id,
            purpose=f"{ask.stage.value}, round {ask.round} of {ask.rounds}",
            key=key,
            model_fingerprint=incoming,
            code_version=VERSION,
        )
        if stored is None:
            with span("training", run=ask.run_id, round=ask.round):
                released = private_sum(total(), plan, ask.stage, noise)
            stored = outbox.put(key, {ask.stage.value: released})
            mark_trained(site, ask.run_id, added)
        ledger.settle(reservation)
    if stored is None:
        raise PolicyError(
            f"{site.name}: {key} was settled but its update is not in the outbox; it is not made again."
        )
    ask.shape.answer(ask.stage).validate(stored, "from the outbox")
    statement = _statement(site, ask, incoming, noise.name)
    return Contribution(stored, statement, ledger.receipt(statement))


def _statement(site: SiteSettings, ask: TrainInstructions, base: str, noise: str) -> Statement:
    """Say what an update is made for; `base` is the fingerprint of the tensors that training began with."""
    return Statement(site.name, ask.run_id, ask.round, ask.fingerprint, base, noise)


def _require_delta(site: SiteSettings, ledger: Ledger) -> None:
    """Refuse a ledger whose ε, and so whose cap, is at another δ than the one that is promised."""
    held = ledger.budget().delta
    if held != site.delta:
        raise PolicyError(
            f"{site.name}: the ledger's delta is {held:g}, the site declares {site.delta:g}. A ledger's delta never "
            f"changes: declare delta = {held:g}."
        )


def _require_room(ledger: Ledger, plan: ReleasePlan, ask: TrainInstructions) -> None:
    """Refuse a run whose *whole* cost would pass the cap, before its first round spends anything."""
    if any(spend.run == ask.run_id for spend in ledger.runs()):
        return
    preview = ledger.preview(plan.event)
    if not preview.allowed:
        message = (
            f"run {ask.run_id} would take population {ledger.population!r} from epsilon {preview.before:.3f} to "
            f"{preview.after:.3f}, past its cap of {preview.cap:.3f} (delta {plan.delta:g}). Nothing was trained. "
            "Ask for a smaller epsilon, or let the platform's privacy officer raise the cap."
        )
        ledger.note(f"refused: {message}")
        raise BudgetRefusedError(message)


def open_ledger(site: SiteSettings) -> Ledger:
    """Open the population's ledger with its key; raise LedgerError."""
    location = site.ledger if "://" in site.ledger else Path(site.ledger)
    key = None if site.ledger_key is None else load_key_file(site.ledger_key)
    return Ledger.open(location, population=site.population, key=key)

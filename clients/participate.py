"""One round on one platform: check the request, charge the ledger, make the sum, store, settle, and only then answer.

Guarantee: a reservation has one draw of noise, ever, and one outcome; the server learns the outcome, or that there is
none, and whatever it learns otherwise follows from public things (`clients.app` lists every code).

| what happens                                   | what was charged, what leaves                               |
|------------------------------------------------|-------------------------------------------------------------|
| a number out of its range, a wrong tensor      | nothing; refused before data are read                       |
| the data cannot be read                        | nothing; `data`                                             |
| no shopper is there                            | the round; noise around a sum of zero, as of any population |
| the plan would pass the cap, now or later      | nothing, refused before the first gradient                  |
| making the sum raises, whatever it is, or its  | the round; zeros, which the sum begins with, stored and     |
| result is not finite                           | sent like any other result                                  |
| killed, or the disk full, before the update is | the round; the next request ends it with "nothing":         |
| stored                                         | `round.nothing`, for ever                                   |
| killed after the update is stored              | the round; the next request settles and sends what is stored |
| asked again for a finished round               | nothing more; the stored update, byte for byte              |
| another process is at a round here             | nothing; `round.busy`                                       |
| the folder is a copy, on the same ledger       | nothing more; only the one that stored it sends it          |
| two folders with outboxes of their own         | each its own reservation                                    |
| any ledger or outbox trouble                   | refused; nothing leaves                                     |

Reproducible noise, which is for simulations and protects nobody, is drawn again after a kill: it is the same draw.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import structlog
from numpy.typing import NDArray

from clients.errors import DataError, OutboxError, PolicyError, RoundError
from clients.fresh import added_so_far, mark_trained
from clients.outbox import Outbox
from clients.own_ledger import open_ledger
from clients.platform import HashableSite, read_events
from clients.policy import require_vocabulary
from clients.products import Products
from clients.site import SiteSettings
from clients.training import ShopperEvents, exact_sum, release_stage
from federation.telemetry import span
from privacy.ledger import NOTHING, Ledger, Receipt, Reservation, Statement, Status
from privacy.noise import NoiseSource, ReproducibleNoise, SecureNoise
from privacy.release import ReleasePlan
from shared_model.errors import ExchangeError, FedcartError
from shared_model.exchange import fingerprint
from shared_model.instructions import MOST_TEMPER, TrainInstructions
from shared_model.stages import Stage
from shared_model.version import VERSION

Arrays = dict[str, NDArray]
_log = structlog.get_logger("fedcart.client")


@dataclass(frozen=True)
class Contribution:
    """What leaves the platform: one noised sum, and a signed receipt with its ledger's head.

    `receipt` is None without privacy. ε and δ follow from the public plan alone, and an entry of the ledger depends
    on plans, times, and what was released: so they reveal nothing beyond the sum.
    """

    arrays: Arrays
    statement: Statement
    receipt: Receipt | None = None


@dataclass(frozen=True)
class Round:
    """A private round under way: what is asked of which platform, under which key of its ledger."""

    site: SiteSettings
    ask: TrainInstructions
    arrays: Arrays
    plan: ReleasePlan
    ledger: Ledger
    outbox: Outbox
    key: str


@dataclass(frozen=True, eq=False)
class Data:
    """What a platform adds up: its shoppers' events, as products of the vocabulary."""

    events: ShopperEvents
    products: Products


def plan_for(site: SiteSettings, ask: TrainInstructions) -> ReleasePlan:
    """Return the platform's plan of the whole run; raise PlanError if the numbers cannot be used."""
    return ReleasePlan.calibrated(epsilon=ask.epsilon, delta=site.delta, shares=ask.shares)


def participate(site: SiteSettings, ask: TrainInstructions, arrays: Arrays) -> Contribution:
    """Make one round's sum and return what may leave.

    Raises FedcartError or PrivacyError; their `code` is all that may be told to the server.
    """
    _check(site, ask, arrays)
    if ask.epsilon == 0:
        return _plain(site, ask, arrays)
    plan, outbox = plan_for(site, ask), Outbox(site.work / "outbox")
    with outbox.held():
        ledger = open_ledger(site)
        _require_delta(site, ledger)
        outbox.require_known({held.key for held in ledger.reservations()})
        request = sha256(f"{ask.model_dump_json()}|{fingerprint(arrays)}".encode()).hexdigest()
        key = f"{ask.run_id}/round-{ask.round}/{request}/{site.name}/{outbox.id()}"
        this = Round(site, ask, arrays, plan, ledger, outbox, key)
        held = ledger.reservation(key)
        if held is None or _same_draw_again(this, held):
            return _first(this, held)
        return _send(this, held)


def _check(site: SiteSettings, ask: TrainInstructions, arrays: Arrays) -> None:
    """Refuse what can be refused before any data are read."""
    where = f"round {ask.round}, from the server"
    ask.shape.question(ask.stage).validate(arrays, where)
    for name, array in arrays.items():
        if array.size and not 1 <= array.min() <= array.max() <= MOST_TEMPER:
            raise ExchangeError(f"{where}: tensor {name!r} holds a number outside 1 to {MOST_TEMPER:g}.")
    require_vocabulary(site, ask)
    if ask.epsilon == 0:
        if not site.allow_plain_training:
            raise PolicyError(
                f"{site.name}: the server asks for training without privacy, which this site does not allow. "
                "Only for public data: set allow_plain_training = true."
            )
        return
    if ask.delta != site.delta:
        raise PolicyError(
            f"{site.name}: the server asks for delta {ask.delta:g}, the site declares {site.delta:g}."
        )
    if site.task.research_k_core is not None and not site.reproducible_noise:
        raise PolicyError(
            f"{site.name}: research_k_core looks at all shoppers together, so no privacy can be promised. "
            "Remove it from the site's task."
        )


def _require_delta(site: SiteSettings, ledger: Ledger) -> None:
    """Refuse a ledger whose ε, and so whose cap, is at another δ than the one that is promised."""
    held = ledger.budget().delta
    if held != site.delta:
        raise PolicyError(
            f"{site.name}: the ledger's delta is {held:g}, the site declares {site.delta:g}. A ledger's delta never "
            f"changes: declare delta = {held:g}."
        )


def _same_draw_again(this: Round, held: Reservation) -> bool:
    """Whether a simulation was killed in this round: its noise follows from the seed, so its update is made again."""
    return this.site.reproducible_noise and held.status is Status.OPEN and this.outbox.get(this.key) is None


def _first(this: Round, held: Reservation | None) -> Contribution:
    """Read the data, reserve, make the sum, store and send: at most once for a key."""
    site, ask = this.site, this.ask
    added = _added_so_far(site)  # before the data are read: what comes in meanwhile stays new
    data = _read(site, ask)
    if held is None:
        held = this.ledger.reserve(
            this.plan.event_of(ask.stage.number),
            run=ask.run_id,
            purpose=f"{ask.stage.value}, round {ask.round} of {ask.rounds}",
            key=this.key,
            model_fingerprint=fingerprint(this.arrays),
            code_version=VERSION,
            whole=this.plan.event,
        )
    with _unfinished(this):
        this.outbox.put(this.key, _released(this, data))
        mark_trained(site, ask.run_id, added)
        return _send(this, held)


def _send(this: Round, held: Reservation) -> Contribution:
    """Settle a reservation with what is stored for it, or with nothing, and return exactly what the ledger then names."""
    ask, stored = this.ask, this.outbox.get(this.key)
    if stored is not None:
        ask.shape.answer(ask.stage).validate(stored, "from the outbox")
    if held.status is Status.OPEN:
        held = this.ledger.settle(held, NOTHING if stored is None else fingerprint(stored))
    who = f"{this.site.name}: round {ask.round} of {ask.run_id}"
    if held.output == NOTHING:
        raise RoundError(
            f"{who} was charged and ended by a crash before its update was stored. It is not made again; the next "
            "round is.",
            "nothing",
        )
    if stored is None:
        raise RoundError(
            f"{who} was charged, and its update is not in this outbox: it is not made again. Send it from the folder "
            "that stored it, or restore work/outbox from a backup.",
            "lost",
        )
    update = fingerprint(stored)
    if update != held.output:
        raise OutboxError(f"{who}: the stored update is {update}, the ledger names {held.output}.")
    statement = _statement(this.site, ask, this.arrays, stored, _noise(this).name)
    return Contribution(stored, statement, this.ledger.receipt(statement))


@contextmanager
def _unfinished(this: Round) -> Iterator[None]:
    """Turn whatever goes wrong after the reservation into one code; why stays in this platform's log."""
    try:
        yield
    except Exception as error:
        _log.exception("round-unfinished", platform=this.site.name, code=getattr(error, "code", "internal"))
        raise RoundError(
            f"{this.site.name}: round {this.ask.round} of {this.ask.run_id} was charged and could not be finished: "
            f"{error}",
            "unfinished",
        ) from error


def _released(this: Round, data: Data) -> Arrays:
    """Return the noised sum of one round, or, whatever goes wrong in making it, the zeros that it begins with."""
    ask = this.ask
    try:
        with span("training", run=ask.run_id, round=ask.round):
            asked = _asked(ask, data, this.arrays)
            released = {ask.stage.value: release_stage(*asked, this.plan, _noise(this))}
        ask.shape.answer(ask.stage).validate(released, "after training")
        return released
    except Exception as error:
        _log.exception("training-failed", platform=this.site.name, code=getattr(error, "code", "internal"))
        return {t.name: np.zeros(t.shape, np.float32) for t in ask.shape.answer(ask.stage).tensors}


def _asked(
    ask: TrainInstructions, data: Data, arrays: Arrays
) -> tuple[Stage, ShopperEvents, NDArray[np.int32], Arrays, int]:
    """Return what one round's sum is made of, as `exact_sum` takes it."""
    return ask.stage, data.events, data.products.vocabulary.edges, arrays, ask.products


def _noise(this: Round) -> NoiseSource:
    """Return a new source of noise; nothing is drawn from it yet."""
    if this.site.reproducible_noise:
        return ReproducibleNoise(this.ask.seed, this.site.name, this.ask.round)
    return SecureNoise()


def _added_so_far(site: SiteSettings) -> int | None:
    with _reading(site):
        return added_so_far(site)


def _read(site: SiteSettings, ask: TrainInstructions) -> Data:
    """Return what the platform adds up; raise DataError, and nothing else, if that cannot be."""
    with _reading(site):
        read = read_events(HashableSite(site))
        if read.nobody is not None:
            _log.warning("no-shopper", platform=site.name, message=str(read.nobody))
        products = Products.of(require_vocabulary(site, ask), read.catalogue, ask.encoder_names, site.cache)
        return Data(ShopperEvents.of(read.split, products.of_item), products)


@contextmanager
def _reading(site: SiteSettings) -> Iterator[None]:
    """Turn whatever goes wrong while data are read and prepared into one code."""
    try:
        yield
    except FedcartError as error:
        raise DataError(str(error)) from error
    except Exception as error:
        _log.exception("data-failed", platform=site.name)
        raise DataError(
            f"{site.name}: the data cannot be prepared ({type(error).__name__}: {error}). Look with: fedcart client "
            "doctor."
        ) from error


def _plain(site: SiteSettings, ask: TrainInstructions, arrays: Arrays) -> Contribution:
    added = _added_so_far(site)
    update = {ask.stage.value: exact_sum(*_asked(ask, _read(site, ask), arrays)).astype(np.float32)}
    mark_trained(site, ask.run_id, added)
    return Contribution(update, _statement(site, ask, arrays, update, "none"))


def _statement(
    site: SiteSettings, ask: TrainInstructions, start: Arrays, update: Arrays, noise: str
) -> Statement:
    """Say what an update is made for, and of what."""
    return Statement(
        platform=site.name,
        run=ask.run_id,
        round=ask.round,
        plan=ask.fingerprint,
        base=fingerprint(start),
        update=fingerprint(update),
        noise=noise,
    )

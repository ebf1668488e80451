"""The members' ledgers in a simulation: made or opened, their caps put in force, and shown before and after."""

from dataclasses import dataclass
from pathlib import Path

from clients.own_ledger import open_ledger
from clients.participate import plan_for
from clients.site import SiteSettings
from privacy.errors import BudgetRefusedError, LedgerUnreadableError, PlanError, PrivacyError
from privacy.ledger import Budget, Kind, Ledger, Preview
from privacy.ledger.keys import key_path
from privacy.release import ReleasePlan
from shared_model.instructions import TrainInstructions


def ensure_ledger(site: SiteSettings, *, cap_is_declared: bool) -> Ledger:
    """Open the site's ledger, or make the first one of its population.

    An existing ledger is never replaced. If the scenario declares another cap than the ledger holds, the ledger
    records the change; a cap below what is spent is recorded too, and everything is refused from then on.
    """
    if "://" not in site.ledger and not Path(site.ledger).exists():
        if key_path(Path(site.ledger)).exists():
            raise LedgerUnreadableError(
                f"{site.ledger}: the ledger is gone, but its key is there, so there was one. What it held is "
                "unknown, and a new one would forget it: restore it from a backup."
            )
        Path(site.ledger).parent.mkdir(parents=True, exist_ok=True)
        return Ledger.create(
            Path(site.ledger), population=site.population, epsilon_cap=site.epsilon_cap, delta=site.delta
        )
    ledger = open_ledger(site)
    budget = ledger.budget()
    if budget.delta != site.delta:
        raise PlanError(
            f"{site.ledger}: the ledger's delta is {budget.delta:g}, the scenario's {site.delta:g}. A ledger's "
            "delta never changes: set [privacy] delta to it."
        )
    if cap_is_declared and budget.cap != site.epsilon_cap:
        ledger.change_cap(site.epsilon_cap, "epsilon_cap of the scenario")
    return ledger


@dataclass(frozen=True)
class Spend:
    """What a run has done to a ledger: ε before its first reservation, and what the ledger holds now.

    A lasting ledger may hold more than this run by then.
    """

    before: float
    budget: Budget


def preview_run(sites: list[SiteSettings], ask: TrainInstructions) -> dict[str, Preview]:
    """Return what the run would cost each member; raise BudgetRefusedError naming all that cannot afford it.

    A member whose ledger already holds part of this run (it is being resumed) is shown what is left of it, and is
    not judged again: its client reserves round by round.
    """
    previews, refused = {}, []
    for site in sites:
        ledger, plan = open_ledger(site), plan_for(site, ask)
        done = sum(spend.reservations for spend in ledger.runs() if spend.run == ask.run_id)
        if done:
            previews[site.name] = _rest(ledger, plan, done)
            continue
        preview = ledger.preview(plan.event)
        previews[site.name] = preview
        if not preview.allowed:
            refused.append(
                f"{site.name}: from {preview.before:.3f} to {preview.after:.3f} of {preview.cap:.3f}"
            )
    if refused:
        raise BudgetRefusedError(
            f"ε = {ask.epsilon:g} is more than these ledgers allow ({'; '.join(refused)}). Nothing was trained. "
            "Lower [privacy] epsilon, or raise epsilon_cap if the privacy officer agrees."
        )
    return previews


def _rest(ledger: Ledger, plan: ReleasePlan, done: int) -> Preview:
    """Return what is left of a run of which `done` sums are in the ledger: the last one, or nothing."""
    if done < len(plan.shares):
        return ledger.preview(plan.event_of(done))
    held = ledger.budget()
    return Preview(held.committed, held.committed, held.cap)


def budgets(sites: list[SiteSettings]) -> dict[str, Budget]:
    """Return what each ledger holds now."""
    return {site.name: open_ledger(site).budget() for site in sites}


def spend_of(site: SiteSettings, run: str) -> Spend:
    """Return what a run has done to the site's ledger; nothing if the ledger holds no part of it."""
    ledger = open_ledger(site)
    budget = ledger.budget()
    reserved = (e for e in ledger.history() if e.kind is Kind.RESERVE and e.body["run"] == run)
    first = next(reserved, None)
    return Spend(budget.committed if first is None else float(first.body["epsilon_before"]), budget)


def lines_before(previews: dict[str, Preview]) -> list[str]:
    """Return a line per member: from where to where of which cap the run will take it."""
    return [f"{name} goes from {_from_to(p.before, p.after, p.cap)}" for name, p in previews.items()]


def lines_after(sites: list[SiteSettings], run: str) -> list[str]:
    """Return a line per member: from where to where of which cap the run took it, and what is left."""
    lines = []
    for site in sites:
        try:
            spend = spend_of(site, run)
        except PrivacyError as error:
            lines.append(f"{site.name} cannot be read ({error.code}): fedcart audit verify {site.ledger}")
            continue
        held = spend.budget
        open_part = f" ({held.reserved:.2f} of it reserved)" if held.reserved else ""
        spent = _from_to(spend.before, held.committed, held.cap)
        lines.append(f"{site.name} went from {spent}, {held.left:.2f} left{open_part}")
    return lines


def _from_to(before: float, after: float, cap: float) -> str:
    return f"ε {before:.2f} to {after:.2f} of {cap:.2f}"

"""The members' ledgers in a simulation: made or opened, their caps put in force, and shown before and after."""

from pathlib import Path

from clients.participate import open_ledger, plan_for
from clients.site import SiteSettings
from privacy.errors import BudgetRefusedError, LedgerUnreadableError, PlanError
from privacy.ledger import Budget, Ledger, Preview
from privacy.ledger.keys import key_path
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


def preview_run(sites: list[SiteSettings], ask: TrainInstructions) -> dict[str, Preview]:
    """Return what the run would cost each member; raise BudgetRefusedError naming all that cannot afford it.

    A member whose ledger already holds part of this run (it is being resumed) is not judged again: its client
    reserves round by round.
    """
    previews, refused = {}, []
    for site in sites:
        ledger = open_ledger(site)
        if any(spend.run == ask.run_id for spend in ledger.runs()):
            continue
        preview = ledger.preview(plan_for(site, ask).event)
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


def budgets(sites: list[SiteSettings]) -> dict[str, Budget]:
    """Return what each ledger holds now."""
    return {site.name: open_ledger(site).budget() for site in sites}

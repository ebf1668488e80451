"""`fedcart client status`: what runs here, what was done last, and what is left of the budget."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from clients.folder import ClientFolder
from clients.fresh import Fresh, fresh_events
from clients.own_ledger import open_ledger
from clients.verdict import Verdict, kept_verdict
from federation.lock import is_held
from federation.supervise import process_lines, read_processes
from privacy.ledger.entry import Kind


def client_status(folder: ClientFolder) -> dict[str, Any]:
    """Return the platform's state; raise SiteError, LedgerError or StoreError if something of it cannot be read.

    `fresh` is what was ingested since a run trained here, None without sources. `last_round` is the last one that was
    charged, `last_success` when one was last trained and settled, `refused` how many refusals the ledger records.
    """
    site, ledger = folder.site(), None
    record = folder.current()
    ledger = open_ledger(site)
    last_round, last_success, refused = None, None, 0
    for entry in ledger.history():
        if entry.kind is Kind.RESERVE:
            last_round = {"run": entry.body["run"], "purpose": entry.body["purpose"], "time": entry.time}
        elif entry.kind is Kind.SETTLE:
            last_success = entry.time
        elif entry.kind is Kind.REFUSE:
            refused += 1
    running = record is not None and is_held(folder.keys(record.keys).lock)
    return {
        "platform": site.name,
        "federation": site.federation,
        "address": folder.membership().kit.card.address if record else None,
        "running": running,
        "processes": read_processes(folder.node_record, running),
        "last_round": last_round,
        "last_success": last_success,
        "budget": asdict(ledger.budget()),
        "refused": refused,
        "fresh": asdict(fresh_events(site)) if site.sources else None,
        "verdict": verdict.model_dump() if (verdict := kept_verdict(site)) else None,
    }


def client_status_lines(status: dict[str, Any]) -> Sequence[str]:
    """The same for people."""
    budget, last = status["budget"], status["last_round"]
    return [
        f"{status['platform']}, of federation {status['federation']} at {status['address'] or '(no kit installed)'}",
        *process_lines(status, "fedcart client start"),
        f"  last round    {last['purpose']} of {last['run']}, {last['time']}"
        if last
        else "  last round    none yet",
        f"  last success  {status['last_success'] or 'none yet'}",
        f"  budget        ε {budget['committed']:.3f} of {budget['cap']:g} is spent or reserved, {budget['left']:.3f} "
        f"left, at δ {budget['delta']:g}; {status['refused']} requests refused",
        *([f"  data          {Fresh(**status['fresh']).line()}"] if status["fresh"] else []),
        f"  joining       {Verdict(**status['verdict']).line() if status['verdict'] else 'no model was adopted yet'}",
    ]

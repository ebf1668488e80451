"""The ledger that a platform's settings name."""

from pathlib import Path

from clients.site import SiteSettings
from privacy.ledger import Ledger
from privacy.ledger.keys import load_key_file


def open_ledger(site: SiteSettings) -> Ledger:
    """Open the population's ledger with its key; raise LedgerError."""
    location = site.ledger if "://" in site.ledger else Path(site.ledger)
    key = None if site.ledger_key is None else load_key_file(site.ledger_key)
    return Ledger.open(location, population=site.population, key=key)

"""`fedcart audit`: see, plan, verify and explain what was spent; needs no private key and writes no ledger."""

from privacy.cli.app import audit

__all__ = ["audit"]

"""The versions that must agree between a platform and its federation."""

from importlib.metadata import version

from shared_model.version import VERSION

FLOWER = "1.41.0"
"""The version of Flower that fedcart is written for; its interfaces move with every minor release."""


def flower_version() -> str:
    """The version of Flower that is installed."""
    return version("flwr")


__all__ = ["FLOWER", "VERSION", "flower_version"]

"""Network addresses as `host:port`."""

import ipaddress
import re

from shared_model.errors import BadInputError

_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,62})?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,62})?)*")


def split_address(address: str) -> tuple[str, int]:
    """Return host (IPv6 without brackets) and port; raise BadInputError.

    >>> split_address("fed.example.org:9443"), split_address("[::1]:80")
    (('fed.example.org', 9443), ('::1', 80))
    """
    host, _, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        good = is_ip(host) and ":" in host
    else:
        good = _HOST.fullmatch(host) is not None
    if not good or re.fullmatch(r"[0-9]{1,5}", port) is None or not 1 <= int(port) <= 65535:
        raise BadInputError(
            f"The address {address!r} cannot be used: write host:port, such as fed.example.org:9443."
        )
    return host, int(port)


def checked_address(value: str) -> str:
    """Return an address for a settings file; raise ValueError, as pydantic wants it, if it is none."""
    try:
        split_address(value)
    except BadInputError as error:
        raise ValueError(str(error)) from None
    return value


def join_address(host: str, port: int) -> str:
    """Return host:port, with brackets around IPv6.

    >>> join_address("::1", 80)
    '[::1]:80'
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_ip(host: str) -> bool:
    """Whether a host is an IP address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

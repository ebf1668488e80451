"""Look at a server over TLS, as a node will: does it answer, is it who it should be, and what time does it have?"""

import http.client
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

from federation.address import split_address
from federation.certificates import CertificateFacts, read_certificates
from federation.checkup import ProblemError

_SECONDS = 10.0


@dataclass(frozen=True)
class Sight:
    """What was seen: the server's certificate, and how far this clock is ahead of the server's, if it tells."""

    certificate: CertificateFacts
    ahead: timedelta | None


def look(address: str, authorities: Path) -> Sight:
    """Connect, verify certificate and name, and ask for the time; raise ProblemError saying which of them failed."""
    host, port = split_address(address)
    context = ssl.create_default_context(cafile=str(authorities))
    connection = http.client.HTTPSConnection(host, port, context=context, timeout=_SECONDS)
    try:
        connection.connect()
        der = connection.sock.getpeercert(True)
        before = datetime.now(UTC)
        connection.request("GET", "/health")
        told = connection.getresponse().getheader("Date")
        after = datetime.now(UTC)
    except socket.gaierror:
        raise ProblemError(
            f"{host} is no name that this machine can resolve", "Check the address, and this machine's DNS."
        ) from None
    except ssl.SSLCertVerificationError as error:
        raise ProblemError(
            f"{address}: its certificate is refused: {error.verify_message}",
            "If the operator has exchanged certificates or the address, install a new kit; else somebody else answers "
            "there: tell the operator.",
        ) from None
    except ssl.SSLError as error:
        raise ProblemError(
            f"{address} does not speak TLS ({error.reason})",
            "Check the port; never send keys or models without TLS.",
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise ProblemError(
            f"{address} does not answer ({type(error).__name__}: {error})",
            "Ask the operator whether the server runs, and this site's network whether it lets you out to it.",
        ) from None
    finally:
        connection.close()
    certificate = read_certificates(ssl.DER_cert_to_PEM_cert(der or b"").encode())[0]
    return Sight(certificate, None if told is None else _ahead(told, before, after))


def _ahead(told: str, before: datetime, after: datetime) -> timedelta:
    """How far this clock is ahead, with the benefit of the doubt: the header is cut off to whole seconds."""
    try:
        earliest = parsedate_to_datetime(told)
    except ValueError:
        raise ProblemError(
            f"the server says that it is {told!r}, which is no time", "Tell the operator."
        ) from None
    latest = earliest + timedelta(seconds=1)
    if before > latest:
        return before - latest
    return min(after - earliest, timedelta(0))


def check_clock(ahead: timedelta) -> str:
    """This clock agrees with the server's well enough: Flower refuses what is 5 s early or 305 s late."""
    seconds = ahead.total_seconds()
    if seconds > 3 or seconds < -60:
        direction = "ahead of" if seconds > 0 else "behind"
        raise ProblemError(
            f"this clock is {abs(seconds):.0f} s {direction} the server's; Flower refuses nodes that are 5 s ahead or "
            "305 s behind",
            "Synchronise this machine's clock (chrony, systemd-timesyncd).",
        )
    return f"within {max(1, round(abs(seconds)))} s of the server's"

"""Who may call: the bearer of the platform's token.

`fedcart client init` makes the token, and every call is asked for it, also on loopback: other accounts of a machine reach
its ports. Health and reflection say nothing of a shopper and are open.
"""

import hmac

import grpc
from grpc.aio import ServicerContext
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from clients.errors import SiteError
from clients.site import ServingSettings
from federation.errors import KeyFileError
from federation.files import read_private

BEARER = "bearer"
"""How the caller is called who showed the token: there is one token, so all who have it are one caller."""
_OPEN = tuple(f"/{name}/" for name in (health.SERVICE_NAME, reflection.SERVICE_NAME))
_LEAST = 16
"""Characters that a token has at least."""
_HERE = frozenset({"127.0.0.1", "::1", "localhost"})


class Door:
    """Lets in who shows the token; everybody where the settings say `without_token`."""

    def __init__(self, token: str | None) -> None:
        self._expected = None if token is None else f"Bearer {token}".encode()

    @classmethod
    def of(cls, settings: ServingSettings) -> "Door":
        """Check who would get in, and read the token; raise SiteError, KeyFileError."""
        require_safe(settings)
        return cls(None if settings.without_token else read_token(settings))

    async def admit(self, method: str, context: ServicerContext) -> str:
        """Return who calls; end the call unless it may go on. Comparing takes the same time whatever was shown."""
        if method.startswith(_OPEN):
            return ""
        if self._expected is None:
            return BEARER
        shown = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
        given = shown[0] if len(shown) == 1 else ""
        given = given if isinstance(given, bytes) else given.encode()
        if not hmac.compare_digest(given, self._expected):
            await context.abort(
                grpc.StatusCode.UNAUTHENTICATED,
                'the token is missing or wrong: send the metadata "authorization: Bearer TOKEN" once',
            )
        return BEARER


def read_token(settings: ServingSettings) -> str:
    """Return the token of a service; raise KeyFileError if its file cannot be read or holds none."""
    file = settings.token
    fix = f"Or make a new token: (umask 077; openssl rand -hex 32 > {file})"
    try:
        token = read_private(file).decode("ascii", errors="replace").strip()
    except KeyFileError as error:
        raise KeyFileError(f"{error} {fix}") from None
    if len(token) < _LEAST or not token.isprintable() or not token.isascii() or " " in token:
        raise KeyFileError(f"{file}: must hold one line of at least {_LEAST} characters of ASCII. {fix}")
    return token


def bearer(token: str) -> tuple[tuple[str, str]]:
    """Return the metadata by which a caller shows a token."""
    return (("authorization", f"Bearer {token}"),)


def require_safe(settings: ServingSettings) -> None:
    """Raise SiteError unless other machines need TLS, and a token or certificate, to read shoppers' lists."""
    if settings.host in _HERE:
        return
    if settings.certificate is None or (settings.without_token and settings.client_ca is None):
        raise SiteError(
            f"[serving] host = {settings.host!r}: other machines reach this address, so certificate and key must be "
            'set, and without_token only beside client_ca. Or set host = "127.0.0.1".'
        )

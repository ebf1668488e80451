"""Who may call: the bearer of the platform's token."""

import hmac

import grpc
from grpc.aio import ServicerContext

from clients.errors import SiteError
from clients.site import ServingSettings
from federation.files import read_private

_LEAST = 16
"""Characters that a token has at least."""


class Door:
    """Lets in who shows the token; without a token everybody, for which `serve` asks for an address of this machine."""

    def __init__(self, token: str | None) -> None:
        self._expected = None if token is None else f"Bearer {token}".encode()

    @classmethod
    def of(cls, settings: ServingSettings) -> "Door":
        """Read the token's file; raise SiteError, KeyFileError."""
        if settings.token is None:
            return cls(None)
        token = read_private(settings.token).decode("ascii", errors="replace").strip()
        if len(token) < _LEAST or not token.isprintable() or not token.isascii():
            raise SiteError(
                f"{settings.token}: must hold one line of at least {_LEAST} characters of ASCII. Make one: "
                "openssl rand -hex 32"
            )
        return cls(token)

    async def require(self, context: ServicerContext) -> None:
        """End the call unless it may go on. The comparison takes the same time whatever was shown."""
        if self._expected is None:
            return
        shown = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
        given = shown[0] if len(shown) == 1 else ""
        given = given if isinstance(given, bytes) else given.encode()
        if not hmac.compare_digest(given, self._expected):
            await context.abort(
                grpc.StatusCode.UNAUTHENTICATED,
                'the token is missing or wrong: send the metadata "authorization: Bearer TOKEN" once',
            )

"""Errors of the client's side. Messages stay on the platform; only `code` may leave it."""

from shared_model.errors import BadInputError, FedcartError


class DataError(BadInputError):
    """A platform's file, column or row that cannot be used as it is.

    The message names the file, the column and row where there is one, the value and the fix.
    """

    code = "data"


class NoShopperError(DataError):
    """Data without one shopper that can be used; everything else about it may be right."""


class SiteError(BadInputError):
    """A platform's own settings cannot be used."""

    code = "site"


class PolicyError(FedcartError):
    """A request of the server that the platform's own settings do not allow.

    `reason` says which setting, as `policy.<reason>`; it never depends on data.
    """

    exit_code = 5
    code = "policy"

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.code = f"policy.{reason}"


class RoundError(FedcartError):
    """A round for which nothing leaves, now or ever: one reservation has one draw of noise and one outcome.

    `reason` says why, as `round.<reason>`: "busy", "nothing", "unfinished" or "lost" (`clients.app`).
    """

    exit_code = 5
    code = "round"

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.code = f"round.{reason}"


class OutboxError(FedcartError):
    """The platform's outbox cannot be read or written, or does not fit its ledger, so nothing leaves."""

    exit_code = 4
    code = "outbox"


class FeedbackError(BadInputError):
    """A feedback event that cannot be stored as it is; nothing of its batch was taken."""

    code = "feedback"


class StoreError(FedcartError):
    """A database or folder of the platform that cannot be read or written; nothing was taken."""

    exit_code = 4
    code = "store"

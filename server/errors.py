"""Errors of the operator's side."""

from shared_model.errors import BadInputError, ExchangeError, FedcartError, RunFailedError


class FederationError(BadInputError):
    """The operator's settings or options cannot be used."""

    code = "federation"


class RegistryError(FedcartError):
    """The registry of members, or Flower's database, cannot be read or written."""

    exit_code = 4
    code = "registry"


class ServerAwayError(FedcartError):
    """SuperLink does not answer on this machine."""

    exit_code = 1
    code = "server-away"


class ReplyError(ExchangeError):
    """A member's reply that does not count, with what is wrong as `reply.<kind>`."""

    code = "reply"

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.code = f"reply.{kind}"


class AttemptLostError(RunFailedError):
    """SuperLink gave a run up, and the server app did not say why: it was killed, or never began."""

    def __init__(self, run: str, details: str, again: str) -> None:
        super().__init__(f"Run {run} ended without a model ({details}). {again}")
        self.details = details

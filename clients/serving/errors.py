"""Why a question has no answer. Messages go to the caller: they quote the caller's own words and nothing else."""

from shared_model.errors import BadInputError, FedcartError


class AskError(BadInputError):
    """A question that cannot be used as it is; the message names the field, the value and the fix."""

    code = "serving.ask"


class UnknownIdError(BadInputError):
    """An item or shopper that is not here."""

    code = "serving.unknown"


class StoppedError(FedcartError):
    """Nobody waits for the answer any more."""

    exit_code = 1
    code = "serving.stopped"


class ServingError(FedcartError):
    """The service cannot run: its port, or its connection to a server."""

    exit_code = 1
    code = "serving"

"""Why a published model is not taken: each reason has its own name.

    (TamperedError)        5  enrolment.tampered      in `federation.errors`: not byte for byte what was signed
    (ExpiredError)         5  enrolment.expired       in `federation.errors`: a certificate whose time is over
    WrongSignerError       5  model.wrong-signer      signed by another key than the one confirmed at enrolment
    WrongFederationError   5  model.wrong-federation  another federation's
    OlderModelError        5  model.older             older than a version that is installed
    HistoryError           5  model.history           the list of versions went back, or was written anew
    AccessRefusedError     5  registry.refused        the registry does not serve this platform
    UnknownVersionError    2  model.unknown           there is no such version
    UnreachableError       1  registry.unreachable    no answer
    TruncatedError         1  model.truncated         the transfer broke off
    (EncoderError)         2  encoder                 in `shared_model.errors`
    (ExchangeError)        1  exchange                in `shared_model.errors`

The numbers are exit codes.
"""

from federation.errors import WrongPartyError
from shared_model.errors import BadInputError, FedcartError


class WrongSignerError(WrongPartyError):
    """Whole, but signed by another key than the federation's."""

    code = "model.wrong-signer"


class WrongFederationError(WrongPartyError):
    """Whole, but another federation's."""

    code = "model.wrong-federation"


class OlderModelError(FedcartError):
    """An older version than one that is installed; nothing was changed."""

    exit_code = 5
    code = "model.older"


class HistoryError(FedcartError):
    """The list of versions contradicts what this platform has seen; nothing was changed."""

    exit_code = 5
    code = "model.history"


class AccessRefusedError(FedcartError):
    """The registry does not serve this platform."""

    exit_code = 5
    code = "registry.refused"


class UnknownVersionError(BadInputError):
    """There is no such version."""

    code = "model.unknown"


class UnreachableError(FedcartError):
    """The registry gave no answer."""

    exit_code = 1
    code = "registry.unreachable"


class TruncatedError(FedcartError):
    """A model's transfer broke off before its end; nothing was installed."""

    exit_code = 1
    code = "model.truncated"

"""Errors of the recommender's side, each with an exit code and a code that is safe to send.

    FedcartError            70  internal       a bug: please report it
    ├── BadInputError        2  bad-input      a file, option or scenario that cannot be used as it is
    │   ├── EncoderError     2  encoder        an encoder is missing, or differs from the federation's
    │   ├── DeviceError      2  device         a device that this machine does not have
    │   └── (DataError …)    2  data           in `clients.errors`
    ├── ExchangeError        1  exchange       a tensor that the exchange spec does not admit
    │   ├── NotFiniteError   1  exchange.not-finite  a tensor that holds NaN or inf
    │   └── ReachError       1  exchange.reach       a sum longer than the declared shoppers' rows
    ├── CheckpointError      4  checkpoint     a checkpoint or model file that cannot be read
    └── RunFailedError       1  run-failed     the run ended without a usable result

`exit_code` is the process's exit code. `code` may leave the platform: it never holds a value from the data.
The message is for the person on this side: what was wrong, where, the value, the fix.
"""


class FedcartError(Exception):
    """Base of every error that fedcart raises on purpose."""

    exit_code: int = 70
    code: str = "internal"


class BadInputError(FedcartError):
    """Input that cannot be used as it is; the message names the fix."""

    exit_code = 2
    code = "bad-input"


class EncoderError(BadInputError):
    """An encoder is missing here, or its identity differs from the one that was agreed."""

    code = "encoder"


class DeviceError(BadInputError):
    """A device was asked for that this machine does not have."""

    code = "device"


class ExchangeError(FedcartError):
    """A tensor record that the exchange spec does not admit (unknown, missing, misshaped, non-finite)."""

    exit_code = 1
    code = "exchange"


class NotFiniteError(ExchangeError):
    """A tensor that holds NaN or inf."""

    code = "exchange.not-finite"


class ReachError(ExchangeError):
    """A sum that is longer than the rows of its platform's declared shoppers can be."""

    code = "exchange.reach"


class CheckpointError(FedcartError):
    """A checkpoint or model file that is missing, truncated, altered or of an unknown version."""

    exit_code = 4
    code = "checkpoint"


class RunFailedError(FedcartError):
    """The run ended without a usable result."""

    exit_code = 1
    code = "run-failed"

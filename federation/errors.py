"""Why enrolment refuses: each kind of bad material has its own name.

    EnrolmentError            5  enrolment            material that is not accepted
    ├── TamperedError         5  enrolment.tampered   not byte for byte what was signed, or not signed by its key
    ├── ExpiredError          5  enrolment.expired    too old, or not valid yet
    ├── ReusedError           5  enrolment.reused     used before: a request, a number, a key
    └── WrongPartyError       5  enrolment.wrong      for another federation, platform or key, or another kind of file
    KeyFileError              4  enrolment.key        a key or certificate file that cannot be read, or is open to others
    FolderError               4  enrolment.folder     a folder that cannot be read or written
    BusyError             4  busy                 a lock that another process holds
    LogBrokenError        3  log.broken           an audit log that was changed

The numbers are exit codes, as in `shared_model.errors`.
"""

from shared_model.errors import FedcartError


class EnrolmentError(FedcartError):
    """Material of enrolment that is not accepted; nothing was changed. The message begins with the kind."""

    exit_code = 5
    code = "enrolment"

    def __str__(self) -> str:
        kind = self.code.partition(".")[2]
        return f"refused as {kind}: {super().__str__()}" if kind else super().__str__()


class TamperedError(EnrolmentError):
    """The bytes are not what was signed, or the signature is not of the key that must have made it."""

    code = "enrolment.tampered"


class ExpiredError(EnrolmentError):
    """Its time is over, or has not come."""

    code = "enrolment.expired"


class ReusedError(EnrolmentError):
    """It did its work before, and does not do it twice."""

    code = "enrolment.reused"


class WrongPartyError(EnrolmentError):
    """It is whole, but not meant for this federation, platform, key or command."""

    code = "enrolment.wrong"


class KeyFileError(FedcartError):
    """A key or certificate that is missing, unreadable, of another kind, or readable by others."""

    exit_code = 4
    code = "enrolment.key"


class FolderError(FedcartError):
    """A platform's or federation's folder that cannot be read or written."""

    exit_code = 4
    code = "enrolment.folder"


class BusyError(FedcartError):
    """Another process holds the lock; the message names both."""

    exit_code = 4
    code = "busy"


class LogBrokenError(FedcartError):
    """An audit log that is not what was written."""

    exit_code = 3
    code = "log.broken"

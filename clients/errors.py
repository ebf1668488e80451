"""Errors of the client's side. Messages stay on the platform; only `code` may leave it."""

from shared_model.errors import BadInputError


class DataError(BadInputError):
    """A platform's file, column or row that cannot be used as it is.

    The message names the file, the column and row where there is one, the value and the fix.
    """

    code = "data"

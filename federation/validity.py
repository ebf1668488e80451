"""From when until when: dates of requests and kits, as text in one form."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import Field

from federation.errors import ExpiredError

Moment = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
SKEW = timedelta(minutes=5)
"""Clocks may differ by so much."""


def now() -> datetime:
    """The time."""
    return datetime.now(UTC)


def moment(time: datetime) -> str:
    """A time as text, in UTC, to the second."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_moment(text: str) -> datetime:
    """Read what `moment` wrote; raise ValueError for a day that does not exist."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def require_valid(issued: str, expires: str, time: datetime, what: str, fix: str) -> None:
    """Raise ExpiredError unless `time` is between the two moments, clocks allowed for."""
    try:
        start, end = read_moment(issued), read_moment(expires)
    except ValueError:
        raise ExpiredError(f"{what}: its dates {issued!r} to {expires!r} do not exist. {fix}") from None
    if time > end:
        raise ExpiredError(f"{what}: expired on {expires}, and now it is {moment(time)}. {fix}")
    if time < start - SKEW:
        raise ExpiredError(
            f"{what}: is dated {issued}, and here it is {moment(time)}: one of the clocks is wrong. Set it, then "
            "try again."
        )

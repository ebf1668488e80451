"""What every log line goes through: words of other parties steer no terminal that shows the log, and have an end."""

from collections.abc import MutableMapping
from typing import Any

from privacy.plain import plain


def plain_values(_: Any, __: str, values: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor of structlog: texts made plain, a traceback aside, which is ours and has lines."""
    for key, value in values.items():
        if isinstance(value, str) and key != "exception":
            values[key] = plain(value)
    return values

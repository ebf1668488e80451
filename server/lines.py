"""What a person who watches a run reads of its events, and what a server's log holds of them."""

from collections.abc import Callable, Mapping
from typing import Any

import structlog

from federation.supervise import configure_log
from privacy.cli.output import say

Values = Mapping[str, Any]


_LOGGED = frozenset(
    {"round", "rounds", "platform", "platforms", "code", "attempt", "limit_s", "timeout_s", "seconds"}
)
"""What a line of the log holds of an event: no reasons, which are a client's or Flower's words."""


def say_lines(event: str, values: Values) -> None:
    """Write an event's line for people, if there is one, to standard error."""
    line = describe(event, values)
    if line:
        say(line)


def say_json(run: str) -> Callable[[str, Values], None]:
    """Return what writes a run's events as JSON lines to standard error."""
    configure_log()
    log = structlog.get_logger("fedcart.run").bind(run=run)

    def log_event(event: str, values: Values) -> None:
        write = {"failed": log.error, "client-failed": log.warning, "no-reply": log.warning}.get(
            event, log.info
        )
        write(event, **{key: value for key, value in values.items() if key in _LOGGED})

    return log_event


def describe(event: str, values: Values) -> str | None:
    """Return a line for an event, or None if nobody needs to see it."""
    line = _LINES.get(event)
    return line(values) if line else None


def _round(values: Values) -> str:
    spent = ", ".join(f"{name} ε {value:.2f}" for name, value in values["epsilon"].items())
    replies, moved = len(values["platforms"]), values["update_norm"]
    line = f"  round {values['round']:>3}/{values['rounds']}  {replies} replies  update {moved:.3f}  {spent}"
    return line.rstrip()


def _of_round(text: Callable[[Values], str]) -> Callable[[Values], str]:
    return lambda values: f"  round {values['round']:>3}  {text(values)}"


def _names(values: Values) -> str:
    return ", ".join(values["platforms"])


_LINES: Mapping[str, Callable[[Values], str]] = {
    "round": _round,
    "asked": _of_round(lambda v: f"{_names(v)} asked, waiting up to {v['limit_s']:.0f} s"),
    "waiting": _of_round(lambda v: f"waiting up to {v['limit_s']:.0f} s for {_names(v)}"),
    "absent": _of_round(lambda v: f"{_names(v)} did not come, left out"),
    "client-failed": _of_round(lambda v: f"{v['platform']} left out: {v['reason']}"),
    "no-reply": _of_round(lambda v: f"{_names(v)} gave no reply in {v['timeout_s']:.0f} s, left out"),
    "repeated": _of_round(
        lambda v: (
            f"{v['good']} good replies, {v['needed']} are needed: nothing is averaged; asked again "
            f"(attempt {v['attempt']} of {v['attempts']})"
        )
    ),
    "witness-mended": lambda v: (
        f"  {v['bytes']} bytes of a witness line that a crash left unfinished were removed"
    ),
    "resumed": lambda v: f"  resumed after round {v['after_round']} of {v['rounds']}",
}

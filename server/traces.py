"""A run's events as spans: the run, its rounds, who was left out of them and why."""

from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from federation.telemetry import Span, span


class RunTrace:
    """Records a run from entering to leaving; give it every event. Rounds begin with their first event."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._open, self._rounds = ExitStack(), ExitStack()
        self._round = Span()
        self._number: int | None = None

    def __enter__(self) -> Self:
        self._open.enter_context(span("run", run=self._run))
        self._open.enter_context(self._rounds)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, where)

    def observe(self, event: str, values: Mapping[str, Any]) -> None:
        """Note an event; its reason, a client's or Flower's words, is left out."""
        number = values.get("round")
        if number is None:
            return
        if number != self._number:
            self._rounds.close()
            self._round = self._rounds.enter_context(span("round", run=self._run, round=number))
            self._number = number
        match event:
            case "asked" | "repeated":
                self._round.tell(event)
            case "answered":
                self._round.tell(event, seconds=values["seconds"])
            case "client-failed":
                self._round.tell("left-out", platform=values["platform"], code=values["code"])
            case "no-reply" | "absent" as code:
                for platform in values["platforms"]:
                    self._round.tell("left-out", platform=platform, code=code)
            case "round":
                self._rounds.close()

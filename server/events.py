"""The run's event log: one JSON object a line, appended and flushed as things happen."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class EventLog:
    """Appends to `events.jsonl` in a run's folder. Values are public: names, rounds, codes, ε, never data."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "events.jsonl"

    def write(self, event: str, **values: Any) -> None:
        """Append one event with the current time (UTC, ISO 8601)."""
        line = {"time": datetime.now(UTC).isoformat(), "event": event, **values}
        with self._path.open("a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a crash cut the last line off: keep it apart
                    file.write(b"\n")
            file.write(json.dumps(line, sort_keys=False).encode() + b"\n")


class EventReader:
    """Reads a run's events as they are written; with `from_end`, only those that are new from now on."""

    def __init__(self, folder: Path, *, from_end: bool = False) -> None:
        self.folder = folder
        self._path = folder / "events.jsonl"
        self._offset = self._path.stat().st_size if from_end and self._path.exists() else 0

    def new(self) -> list[dict[str, Any]]:
        """Return the whole events since the last call."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return _parse(whole.decode("utf-8", "replace"))


def read_events(folder: Path) -> list[dict[str, Any]]:
    """Return the events so far, without a line that was cut off by a crash."""
    path = folder / "events.jsonl"
    if not path.exists():
        return []
    return _parse(path.read_text(encoding="utf-8", errors="replace"))


def _parse(text: str) -> list[dict[str, Any]]:
    events = []
    for line in text.splitlines():
        try:
            events.append(json.loads(line))
        except ValueError:
            continue
    return events

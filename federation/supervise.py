"""Processes kept running: started, watched, started again with back-off, stopped together.

| a child …                         | what happens                                                              |
|-----------------------------------|---------------------------------------------------------------------------|
| ends by itself, whatever its code | it is started again after a wait that doubles, from `first` to `most`     |
| ran for `STEADY` seconds before   | its next wait is `first` again                                            |
| cannot be started                 | as if it had ended                                                        |
| does not end within `GRACE`       | it is killed, with its own children                                       |
| loses its supervisor (kill -9)    | the system sends it SIGTERM (Linux)                                       |

Arguments are asked for at every start, so that new keys, kits and certificates are used from then on.
"""

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import structlog

from federation.files import replace
from federation.plain_log import plain_values
from federation.validity import moment, now
from privacy.errors import PrivacyError
from shared_model.errors import FedcartError

STEADY = 120.0
"""Seconds after which a child counts as well."""
GRACE = 30.0
"""Seconds that a child gets to end by itself."""
_POLL = 0.25
_TERMINATE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)
_ENVIRONMENT = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "PYTHONUNBUFFERED": "1"}

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

Pass = Callable[[str], bool]


@dataclass(frozen=True)
class Child:
    """What is kept running: `first` and `most` are seconds to wait before a new start; `passes` says which of its
    lines may be written to the log, JSON objects aside."""

    name: str
    arguments: Callable[[], Sequence[str]]
    first: float = 1.0
    most: float = 60.0
    passes: Pass = lambda _: True
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class ChildState:
    """A child as it is now; times are text (UTC). `exit` is the last code, minus the signal's number if killed."""

    state: str
    since: str
    pid: int | None = None
    starts: int = 0
    exit: int | None = None


class Supervisor:
    """Keeps `children` running until it is told to stop, and writes their states to `record` at every change; `known` is
    on every line of its log."""

    def __init__(self, children: Sequence[Child], record: Path, **known: str) -> None:
        self._watched = [_Watched(child) for child in children]
        self._record = record
        self._log = structlog.get_logger("fedcart.supervisor").bind(**known)
        self._written: dict[str, dict] | None = None

    def run(self, stop: threading.Event) -> None:
        """Supervise until `stop` is set; then stop the children, the last one first."""
        try:
            while not stop.is_set():
                for watched in self._watched:
                    watched.look(self._log)
                self._write()
                stop.wait(_POLL)
            self._log.info("stopping", grace_s=GRACE)
        finally:  # also if the log cannot be written any more
            for watched in reversed(self._watched):
                watched.stop(self._log)
            self._write()
            self._log.info("stopped")

    def _write(self) -> None:
        states = {w.child.name: asdict(w.state) for w in self._watched}
        if states == self._written:
            return
        document = {"pid": os.getpid(), "processes": states}
        try:
            replace(self._record, json.dumps(document, indent=2).encode() + b"\n")
            self._written = states
        except FedcartError as error:
            if self._written is not None:
                self._log.warning("record-not-written", reason=str(error))
            self._written = None


class _Watched:
    """One child's process, and when it is started next."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.state = ChildState("waiting", moment(now()))
        self._process: subprocess.Popen[str] | None = None
        self._wait = child.first
        self._started = 0.0
        self._due = 0.0

    def look(self, log: structlog.typing.FilteringBoundLogger) -> None:
        """Notice an end, and start what is due."""
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return
            self._ended(log, code)
        elif time.monotonic() >= self._due:
            self._start(log)

    def _ended(self, log: structlog.typing.FilteringBoundLogger, code: int | None) -> None:
        if self._process is not None:
            _signal_group(self._process.pid, signal.SIGKILL)  # what it may have left behind
        lasted = time.monotonic() - self._started
        if lasted >= STEADY:
            self._wait = self.child.first
        self._process, self._due = None, time.monotonic() + self._wait
        self.state = ChildState("waiting", moment(now()), None, self.state.starts, code)
        log.warning(
            "ended", process=self.child.name, exit=code, lasted_s=round(lasted, 1), again_in_s=self._wait
        )
        self._wait = min(2 * self._wait, self.child.most)

    def _start(self, log: structlog.typing.FilteringBoundLogger) -> None:
        self._started = time.monotonic()
        try:
            self._process = subprocess.Popen(
                self.child.arguments(),
                env=_environment(self.child),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # a terminal's Ctrl-C is for the supervisor, which stops in order
                preexec_fn=_end_with_parent,  # noqa: PLW1509  (two calls of the system, no lock)
            )
        except (FedcartError, PrivacyError, OSError) as error:
            log.error("cannot-start", process=self.child.name, reason=str(error))
            self._ended(log, None)
            return
        self.state = ChildState(
            "running", moment(now()), self._process.pid, self.state.starts + 1, self.state.exit
        )
        log.info("started", process=self.child.name, child=self._process.pid)
        assert self._process.stdout is not None  # noqa: S101
        reader = threading.Thread(
            target=_copy_lines, args=(self._process.stdout, self.child, log), daemon=True
        )
        reader.start()

    def stop(self, log: structlog.typing.FilteringBoundLogger) -> None:
        """End the child, by force if it takes longer than `GRACE`."""
        if self._process is None:
            return
        _signal_group(self._process.pid, signal.SIGTERM)
        try:
            code = self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            _signal_group(self._process.pid, signal.SIGKILL)
            code = self._process.wait()
            log.warning("killed", process=self.child.name, grace_s=GRACE)
        _signal_group(self._process.pid, signal.SIGKILL)
        self._process = None
        self.state = ChildState("stopped", moment(now()), None, self.state.starts, code)


def _environment(child: Child) -> dict[str, str]:
    """This process's environment, with the installed commands found first."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return os.environ | _ENVIRONMENT | {"PATH": path} | dict(child.environment)


def _copy_lines(source: IO[str], child: Child, log: structlog.typing.FilteringBoundLogger) -> None:
    """Write a child's lines to standard error: JSON objects in ASCII, others as an event."""
    with source:
        for raw in source:
            line = _COLOURS.sub("", raw).rstrip()
            written = _as_json(line)
            if written is not None:
                sys.stderr.write(written + "\n")
            elif line and child.passes(line):
                log.info("line", process=child.name, line=line)


def _as_json(line: str) -> str | None:
    """Return a line that is a JSON object with all that is not ASCII escaped; None for any other."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return json.dumps(found) if isinstance(found, dict) else None


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _end_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_TERMINATE_WITH_PARENT, signal.SIGTERM)


def configure_log() -> None:
    """Write JSON lines to standard error."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            plain_values,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )


def stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # In a thread: a handler interrupts the main thread, which may hold the lock inside `stop.wait()`.
        signal.signal(number, lambda *_: threading.Thread(target=stop.set).start())
    return stop


def read_record(path: Path) -> dict[str, dict]:
    """Return the processes' last states by name; empty before the first start, or if they cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["processes"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def read_processes(path: Path, running: bool) -> dict[str, dict]:
    """Return the processes' states; those of a supervisor that is gone are "stopped", whatever it wrote last."""
    states = read_record(path)
    return states if running else {name: state | {"state": "stopped"} for name, state in states.items()}


def all_run(status: Mapping[str, Any]) -> bool:
    """Whether a status says that the supervisor and all of its processes run."""
    states = [process["state"] for process in status["processes"].values()]
    return bool(status["running"] and states) and set(states) == {"running"}


def process_lines(status: Mapping[str, Any], command: str) -> list[str]:
    """A status's processes, for people."""
    if not status["running"]:
        return [f"  is not running; start it: {command}"]
    lines = []
    for name, state in status["processes"].items():
        ended = "" if state.get("exit") is None else f", last exit code {state['exit']}"
        lines.append(
            f"  {name}: {state['state']} since {state.get('since')}, {state.get('starts')} starts{ended}"
        )
    return lines

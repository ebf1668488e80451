"""The worker: takes tasks from this platform's SuperNode, one at a time, and answers them through the gate.

    python -m clients.worker FOLDER

It stands in for Flower's `flower-superexec`, which would start a process for each message, and in it the bundle's
code. Since nothing but installed code runs here, one process serves all rounds: imports, data and features stay
warm between them. If it dies, Flower tells the server after about a minute; whoever supervises it starts it again.
"""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Any

from clients.folder import ClientFolder
from clients.site import SiteSettings
from federation.bundle import CLIENT_PACKAGES, installed_code
from federation.plain_log import plain_values

_SAFE = frozenset(
    {"event", "level", "time", "platform", "code", "task", "flower_run", "run", "round", "bundle", "tries"}
) | {
    "epsilon",
    "epsilon_before",
    "epsilon_after",
    "epsilon_left",
    "epsilon_cap",
}
"""What a log of codes may hold; ε follows from public plans."""


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    installed = installed_code(CLIENT_PACKAGES)
    folder = ClientFolder(Path(sys.argv[1]))
    site = folder.site()
    if site.compute.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch is imported
    # Compiled gradients are code that will run: not in a folder that others of this machine may write to.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(site.cache / "compiled"))
    configure_log(site)
    from structlog.contextvars import bind_contextvars

    from clients.tasks import serve
    from federation.telemetry import exporting

    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    bind_contextvars(platform=site.name)  # on every line
    with exporting("fedcart-platform", platform=site.name):
        serve(folder, installed, stop)


def configure_log(site: SiteSettings) -> None:
    """Write JSON lines to standard error; of codes only, unless the policy allows messages."""
    import structlog

    def only_codes(_: Any, __: str, values: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in values.items() if key in _SAFE}

    messages = site.policy.log == "messages"
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info if messages else only_codes,
            plain_values,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    main()

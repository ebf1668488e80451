"""SuperLink with a door before its control interface.

    python -m server.superlink FOLDER [options of flower-superlink]

Flower has a hook for middleware, which its own extension package fills; here it is filled by `ControlDoor`. If a version
of Flower has no such hook, nothing is started; that Flower asks it is what `tests/e2e` holds.
"""

import sys
from pathlib import Path

from flwr.superlink import extensions
from flwr.superlink.cli.flower_superlink import flower_superlink
from starlette.middleware import Middleware

from federation.supervise import configure_log
from server.control_key import ControlDoor, read_control_key
from server.folder import ServerFolder


def main() -> None:
    """Run until SIGTERM."""
    configure_log()
    if not callable(getattr(extensions, "get_middleware", None)):
        raise SystemExit(
            "This version of Flower has no hook for the control interface's door: nothing is started."
        )
    key = read_control_key(ServerFolder(Path(sys.argv[1])))
    extensions.get_middleware = lambda: (Middleware(ControlDoor, key=key),)
    sys.argv = ["flower-superlink", *sys.argv[2:]]
    flower_superlink()


if __name__ == "__main__":
    main()

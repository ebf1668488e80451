"""Flower's executor of server apps, with what they write on its own output.

    python -m server.superexec [options of flower-superexec]

Flower sends the output of server apps to nowhere, and with it the lines that say what a run does. If a version of Flower
has no such setting any more, this one is without effect; `tests/e2e` holds that the lines come.
"""

from flwr.supercore.cli import flower_superexec
from flwr.supercore.constant import TaskType
from flwr.supercore.superexec.plugin import AutoExecPlugin


def main() -> None:
    """Run until SIGTERM."""
    AutoExecPlugin.visible_output_task_types = frozenset({TaskType.SERVER_APP})
    flower_superexec()


if __name__ == "__main__":
    main()

"""A served process, from start to end, and what it holds in memory."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.provenance import PROJECT


@dataclass(frozen=True)
class Hosted:
    """A running service."""

    address: str
    pid: int

    def megabytes(self) -> float:
        """Return its resident memory (Linux)."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise OSError("no VmRSS")


@contextlib.contextmanager
def hosted(
    items: int, shoppers: int, width: int, seed: int, folder: Path, *, faults: bool = False
) -> Iterator[Hosted]:
    """Run `benchmarks.serving.host` until the block ends; raise RuntimeError unless it ends with code 0."""
    numbers = map(str, (items, shoppers, width, seed))
    command = [sys.executable, "-m", "benchmarks.serving.host", *numbers, str(folder)]
    command += ["faults"] if faults else []
    # Its log goes to a file: a pipe that nobody reads fills up and would hold up the service.
    with (folder / "service.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None  # noqa: S101
        address = process.stdout.readline().strip()
        if not address:
            raise RuntimeError(f"the service ended with code {process.wait()}")
        yield Hosted(address, process.pid)
        process.terminate()
        code = process.wait(60)
        if code:
            raise RuntimeError(f"the service ended with code {code}")
    finally:
        process.kill()
        process.wait()

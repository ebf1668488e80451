"""Checks of the machine that both sides need: versions, disk, memory."""

import os
import resource
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from federation.checkup import ProblemError
from federation.versions import FLOWER, flower_version

GIGABYTE = 10**9


def check_flower() -> str:
    """Flower is the version that fedcart is written for."""
    installed = flower_version()
    if installed != FLOWER:
        raise ProblemError(
            f"flwr {installed} is installed; fedcart needs {FLOWER}, for Flower's interfaces move with every minor "
            "version",
            f"pip install 'flwr[simulation]=={FLOWER}'",
        )
    return f"flwr {installed}"


def check_disk(folders: Iterable[Path], needed: float = GIGABYTE) -> str:
    """Each folder, or the nearest one above it that exists, can be written and has `needed` bytes free."""
    smallest = float("inf")
    for folder in folders:
        place = folder.absolute()
        while not place.is_dir():
            place = place.parent
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"fedcart")
            file.flush()
            os.fsync(file.fileno())
        free = shutil.disk_usage(place).free
        if free < needed:
            raise ProblemError(
                f"{place} has {free / GIGABYTE:.2f} GB free, needed are {needed / GIGABYTE:.1f}",
                "Free some space, or move the folder.",
            )
        smallest = min(smallest, free)
    return f"{smallest / GIGABYTE:.1f} GB free, writable"


def check_memory(needed: float) -> str:
    """The machine, and the control group of this process, have `needed` bytes to give."""
    available = available_memory()
    if available < needed:
        raise ProblemError(
            f"{available / GIGABYTE:.2f} GB are available, about {needed / GIGABYTE:.2f} are needed",
            "Give the machine or container more memory, or stop what else runs on it.",
        )
    return f"{available / GIGABYTE:.1f} GB available, about {needed / GIGABYTE:.2f} needed"


def available_memory() -> float:
    """Bytes that could be given to this process, those it has included; inf where the system does not tell."""
    amounts = [float("inf")]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        amounts.append(float(fields["MemAvailable"].split()[0]) * 1024 + current_memory())
    except (OSError, KeyError, ValueError):
        pass
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            amounts.append(float(Path(limit).read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue
    return min(amounts)


def current_memory() -> float:
    """Bytes that this process has had at its peak."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0

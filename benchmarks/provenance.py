"""Where a number comes from: commit, versions, machine."""

import ast
import hashlib
import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch

from simulations.run import versions

PROJECT = Path(__file__).parents[1]


def commit() -> str:
    """Return the commit of the code, with `-dirty` where it was changed since, or "unknown" outside a checkout."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}-dirty" if changed else head


def provenance() -> dict[str, Any]:
    """Return commit, time, versions and machine, as every report of a benchmark holds them."""
    return {
        "commit": commit(),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "machine": {
            "system": platform.system(),
            "architecture": platform.machine(),
            "cores": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
        },
    }


@cache
def own_code() -> str:
    """Return a hash of what fedcart's modules do: comments, docstrings and layout do not count."""
    digest = hashlib.sha256()
    for package in ("shared_model", "privacy", "clients", "server", "simulations"):
        for file in sorted((PROJECT / package).rglob("*.py")):
            digest.update(str(file.relative_to(PROJECT)).encode())
            digest.update(_meaning(file.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:16]


def _meaning(source: str) -> str:
    """Return a module's syntax tree without docstrings.

    >>> _meaning("def f():\\n    'Says one.'\\n    return 1  # one") == _meaning("def f(): return 1")
    True
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
    return ast.dump(tree)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=True)
    return done.stdout.strip()

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
def code_of(module: str) -> str:
    """Return a hash of what a module and all that it imports of this project do; comments and layout do not count.

    >>> code_of("shared_model.metrics") == code_of("shared_model.model")
    False
    """
    digest = hashlib.sha256()
    for file in sorted(_needed(module)):
        digest.update(str(file.relative_to(PROJECT)).encode())
        digest.update(_meaning(file.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:16]


def _needed(module: str) -> set[Path]:
    """Return the project's files that importing a module can run, imports inside functions included."""
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        parent = name.rpartition(".")[0]
        path = PROJECT / name.replace(".", "/")
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file() and file not in found:
                found.add(file)
                waiting += [
                    *_imports(ast.parse(file.read_text(encoding="utf-8"))),
                    *([parent] if parent else []),
                ]
    return found


def _imports(tree: ast.Module) -> list[str]:
    """Return the names that may be modules; the project imports absolutely."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


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

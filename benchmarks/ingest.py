"""What ingest costs beside plain `pandas.read_csv` of the same file, and the memory that it needs.

    python -m benchmarks.ingest --rows 50000000 --folder /tmp/ingest

Each step is a process of its own, one after the other; peak memory is what the system says of that process.
Made-up rows: shoppers with 25 events in the mean, 200,000 items, seconds as times.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv

from clients.data import load_store
from clients.data.ingest import ingest
from clients.data.sources import FilesSource
from clients.data.store import open_store

ITEMS = 200_000
NOW = 1_800_000_000.0


def make(folder: Path, rows: int) -> None:
    """Write `events.csv` and `items.csv`."""
    rng = np.random.default_rng(0)
    schema = pa.schema([("user_id", pa.int64()), ("item_id", pa.int64()), ("timestamp", pa.int64())])
    with pa_csv.CSVWriter(folder / "events.csv", schema) as writer:
        for start in range(0, rows, 1_000_000):
            count = min(1_000_000, rows - start)
            columns = [
                rng.integers(0, max(rows // 25, 1), count),
                rng.integers(0, ITEMS, count),
                rng.integers(1_500_000_000, 1_700_000_000, count),
            ]
            writer.write_table(pa.table(columns, schema=schema))
    titles = [f"item number {i}" for i in range(ITEMS)]
    pd.DataFrame({"item_id": np.arange(ITEMS), "title": titles}).to_csv(folder / "items.csv", index=False)


def read_csv(folder: Path) -> int:
    """Read the whole file with pandas, as it is."""
    return len(pd.read_csv(folder / "events.csv"))


def ingest_csv(folder: Path) -> int:
    """Ingest the whole file into an empty store."""
    source = FilesSource(type="files", path=folder / "events.csv")
    return ingest(open_store(folder / "store"), {"events": source}, None, now=NOW).added


def ingest_again(folder: Path) -> int:
    """Read the whole file once more: nothing is added."""
    source = FilesSource(type="files", path=folder / "events.csv")
    return ingest(open_store(folder / "store"), {"events": source}, None, now=NOW, full=True).known


def sequences(folder: Path) -> int:
    """Make every shopper's sequence from the store."""
    return len(load_store(open_store(folder / "store"), folder / "items.csv", seed=0).sequences.items)


STEPS: dict[str, Callable[[Path], int]] = {
    "read_csv": read_csv,
    "ingest": ingest_csv,
    "sequences": sequences,
    "ingest_again": ingest_again,
}


def main() -> None:
    """Run all steps, or one of them in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--step", choices=STEPS)
    asked = parser.parse_args()
    if asked.step:
        begun, cpu = time.perf_counter(), time.process_time()
        done = STEPS[asked.step](asked.folder)
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        sys.stdout.write(json.dumps({"rows": done, "seconds": seconds, "cpu": cpu, "peak": peak}) + "\n")
        return
    with tempfile.TemporaryDirectory() as made:
        folder = asked.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        make(folder, asked.rows)
        rates: dict[str, float] = {}
        sys.stdout.write(
            "| step | rows | seconds | CPU seconds | rows a second | of read_csv (CPU) | peak memory |\n"
        )
        sys.stdout.write("|---|---|---|---|---|---|---|\n")
        for step in STEPS:
            command = [sys.executable, "-m", "benchmarks.ingest", "--folder", str(folder), "--step", step]
            told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found = json.loads(told)
            rates[step] = found["rows"] / found["cpu"]
            sys.stdout.write(
                f"| {step} | {found['rows']:,} | {found['seconds']:.0f} | {found['cpu']:.0f} | "
                f"{found['rows'] / found['seconds']:,.0f} | {rates[step] / rates['read_csv']:.3f} | "
                f"{found['peak'] / 1e9:.2f} GB |\n"
            )
            sys.stdout.flush()
        sys.stdout.write(f"\n{_made_with()}\n")


def _made_with() -> str:
    from benchmarks.provenance import commit  # imports torch, which the steps are not to be measured with

    libraries = ", ".join(f"{name} {version(name)}" for name in ("numpy", "pandas", "pyarrow"))
    return f"Commit {commit()}; Python {platform.python_version()}, {libraries}; {os.cpu_count()} cores."


if __name__ == "__main__":
    main()

"""RecTools' SASRec and UniSRec as methods: trained in an environment of their own, ranked here like all the others.

Parquet files go out (events, histories, text features) and vectors come back; a score is a dot product. So the
split, the filter, the ties and the validation shoppers are the very same for every method.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from benchmarks.provenance import PROJECT
from benchmarks.transfer.cells import chosen, key_of, read_json, write_json
from benchmarks.transfer.methods import Say, Serve, Served, UnavailableError
from benchmarks.transfer.platforms import Audience, Platforms, fingerprint
from benchmarks.transfer.study import RecToolsTuning
from clients.data.split import Part
from clients.evaluation import Scorer, evaluate
from clients.platform import Platform
from shared_model.errors import RunFailedError
from shared_model.metrics import ndcg_at

SCRIPT = PROJECT / "benchmarks" / "rectools" / "train.py"
PATIENCE, LEAST_PASSES = 2, 250_000
"""Looks without a gain that end a training, once it went through so many histories: small platforms start slowly."""
REQUIREMENTS = PROJECT / "benchmarks" / "rectools" / "requirements.txt"
TUNING_SHOPPERS = 5000
"""At most so many validation shoppers choose among a grid."""


def rectools_python() -> Path:
    """Return the interpreter of RecTools' environment: FEDCART_RECTOOLS_PYTHON, or what `make bench-env` makes."""
    return Path(os.environ.get("FEDCART_RECTOOLS_PYTHON") or PROJECT / ".venv-rectools" / "bin" / "python")


@dataclass(frozen=True, eq=False)
class Vectors:
    """Scores by dot product: per part (U, D) of users, and (I, D) of items; unknown items rank last."""

    users: dict[Part, torch.Tensor]
    items: torch.Tensor
    known: torch.Tensor

    def scores(self, which: Part, users: NDArray[np.int64]) -> torch.Tensor:
        """Return (B, I) scores."""
        return (self.users[which][torch.from_numpy(users)] @ self.items.T).masked_fill_(
            ~self.known, -torch.inf
        )


@dataclass(frozen=True)
class RecTools:
    """One of RecTools' models, trained by each platform alone without noise.

    The first seed to come tries every setting of the grid (of a large platform the first one) and looks at the model
    after the given epochs, until PATIENCE looks are no better than one before; validation NDCG@10 chooses setting and
    epoch. Later seeds train what it chose, on platforms that are not `large`.
    """

    platforms: Platforms
    name: str
    tuning: RecToolsTuning

    def inputs(self) -> dict[str, Any]:
        """The settings, the script and the features decide."""
        return {
            "tuning": self.tuning.model_dump(mode="json"),
            "script": key_of([SCRIPT.read_text(encoding="utf-8"), REQUIREMENTS.read_text(encoding="utf-8")]),
            "encoders": self.platforms.study.features.encoders,
        }

    def serves(self, audience: Audience) -> bool:
        """Whoever has shoppers to train on."""
        return audience.shots != 0

    def varies(self, audience: Audience) -> bool:
        """Training draws."""
        return True

    def large(self, audience: Audience) -> bool:
        """Say whether so many shoppers are learned from that one setting and one seed must do."""
        return (audience.shots or len(audience.platform)) > self.tuning.tuned_up_to

    def fit(self, seed: int, folder: Path, say: Say) -> Serve:
        """Each audience trains for itself. Raises UnavailableError where the environment is missing."""
        python = rectools_python()
        if not python.exists():
            raise UnavailableError(
                f"{python}: RecTools' environment is not there. Make it with `make bench-env`, or name its interpreter "
                "in FEDCART_RECTOOLS_PYTHON."
            )

        def serve(audience: Audience) -> Served:
            return self._serve(audience, seed, _place(folder, audience), say)

        return serve

    def keep_choice(self, audience: Audience, seed: int, folder: Path, notes: Mapping[str, Any]) -> None:
        """Keep the choice that a cell's notes tell of, for a folder that has none: made on another machine, say."""
        number = self.tuning.grid.index(notes["options"])
        choice = {"number": number, "epoch": notes["epoch"], "options": notes["options"], "seed": seed}
        chosen(_place(folder, audience) / "choice.json", self._key(audience), lambda: choice)

    def _key(self, audience: Audience) -> str:
        return key_of([self.inputs(), fingerprint(audience.platform), audience.shots])

    def _serve(self, audience: Audience, seed: int, folder: Path, say: Say) -> Served:
        own = audience.own(seed)

        def train(number: int, epochs: list[int], options: dict[str, Any]) -> Path:
            exchange = folder / f"seed{seed}-{number}"
            settings = {"model": self.name, "seed": seed, "epochs": epochs, "options": options}
            key = key_of([self.inputs(), settings, fingerprint(audience.platform), audience.shots])
            done = read_json(exchange / "done.json")
            if done is None or read_json(exchange / "settings.json") != settings | {"key": key}:
                shutil.rmtree(exchange, ignore_errors=True)
                exchange.mkdir(parents=True)
                write_json(exchange / "settings.json", settings | {"key": key})
                write_exchange(exchange, own, audience.platform)
                say(f"    {self.name} {audience.platform.name} {audience.label}: {options}")
                values: list[float] = []
                for epoch in _snapshots(exchange, say):
                    values.append(look(exchange, epoch))
                    say(f"      after epoch {epoch}: validation NDCG@10 {values[-1]:.4f}")
                    worn = len(values) > PATIENCE and max(values[-PATIENCE:]) <= max(values[:-PATIENCE])
                    if worn and epoch * len(own) >= LEAST_PASSES:
                        (exchange / "stop").touch()
            return exchange

        def look(exchange: Path, epoch: int) -> float:
            return validation_ndcg(own, read_vectors(exchange, epoch, own, audience.platform))

        def choose() -> dict[str, Any]:
            best: dict[str, Any] = {"validation": -1.0}
            grid = self.tuning.grid[: 1 if self.large(audience) else None]
            for number, options in enumerate(grid):
                exchange = train(number, self.tuning.epochs, options)
                for epoch in (e for e in self.tuning.epochs if snapshot(exchange, e).exists()):
                    value = look(exchange, epoch)
                    if value > best["validation"]:
                        best = {
                            "validation": value,
                            "number": number,
                            "epoch": epoch,
                            "options": options,
                            "seed": seed,
                        }
            return best

        choice = chosen(folder / "choice.json", self._key(audience), choose)
        epochs = self.tuning.epochs if choice["seed"] == seed else [choice["epoch"]]
        exchange = train(choice["number"], epochs, choice["options"])
        for other in folder.glob(f"seed{seed}-*"):
            if other != exchange:
                shutil.rmtree(other)
        vectors = read_vectors(exchange, choice["epoch"], own, audience.platform)
        done = read_json(exchange / "done.json")
        notes = {name: choice[name] for name in ("options", "epoch")} | {"training_seconds": done["seconds"]}
        return Served(vectors, notes | {"versions": done["versions"]})


def validation_ndcg(platform: Platform, scorer: Scorer) -> float:
    """Return the mean NDCG@10 of the platform's validation shoppers, TUNING_SHOPPERS of them drawn; 0 without any.

    Drawn, because shoppers whose ids are close can be of one kind: in one of the data sets they differ threefold.
    """
    users = np.sort(np.random.default_rng(0).permutation(platform.valid_users)[:TUNING_SHOPPERS])
    return float(ndcg_at(evaluate(platform, scorer, "valid", users).ranks, 10).mean()) if len(users) else 0.0


def _place(folder: Path, audience: Audience) -> Path:
    return folder / f"{audience.platform.name}-{audience.label}"


def write_exchange(folder: Path, own: Platform, everyone: Platform) -> None:
    """Write what `benchmarks/rectools/train.py` reads: training and validation of `own`, tests of `everyone`."""
    for part, platform in (("train", own), ("valid", own), ("test", everyone)):
        sequences = platform.split.sequences
        owner = sequences.event_users
        at = np.arange(len(sequences.items))
        inside = at < platform.split.ends(part)[owner]  # type: ignore[arg-type]
        frame = {
            "user": owner[inside],
            "item": sequences.items[inside],
            "position": (at - sequences.offsets[owner])[inside],
        }
        pd.DataFrame(frame).to_parquet(folder / f"{part}.parquet")
    values = everyone.features.cpu().contiguous().numpy()
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    pq.write_table(pa.table({"item": np.arange(len(values)), "vector": column}), folder / "features.parquet")


def snapshot(exchange: Path, epoch: int) -> Path:
    """Return the folder of what the script wrote after an epoch, if it did."""
    return exchange / f"epoch-{epoch:04}"


def read_vectors(exchange: Path, epoch: int, own: Platform, everyone: Platform) -> Vectors:
    """Read what the script wrote after an epoch."""
    folder = snapshot(exchange, epoch)
    items, known = _rows(folder / "items.parquet", "item", len(everyone.catalogue))
    valid, _ = _rows(folder / "valid.parquet", "user", len(own))
    test, _ = _rows(folder / "test.parquet", "user", len(everyone))
    return Vectors({"train": valid, "valid": valid, "test": test}, items, known)


def _rows(file: Path, key: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return vectors by id (count, D), zero where there is none, and (count,) whether there is one."""
    table = pq.read_table(file)
    ids = table.column(key).to_numpy()
    values = np.asarray(table.column("vector").combine_chunks().flatten(), dtype=np.float32)
    rows = torch.zeros(count, values.size // max(len(ids), 1))
    rows[torch.from_numpy(ids.copy())] = torch.from_numpy(values.reshape(len(ids), -1).copy())
    known = torch.zeros(count, dtype=torch.bool)
    known[torch.from_numpy(ids.copy())] = True
    return rows, known


def _snapshots(exchange: Path, say: Say) -> Iterator[int]:
    """Run the script, pass its progress on and yield each epoch whose vectors are there.

    Raises RunFailedError with the script's last lines.
    """
    # A clean environment: neither this process's modules nor its packages may reach the other interpreter.
    kept = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}}
    process = subprocess.Popen(
        [str(rectools_python()), "-W", "ignore", str(SCRIPT), str(exchange)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=kept | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    lines: list[str] = []
    try:
        for line in process.stderr or ():
            lines = [*lines[-30:], line.rstrip()]
            if line.startswith("epoch "):
                say(f"      {line.rstrip()}")
            if line.startswith("snapshot "):
                yield int(line.split()[1])
        code = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if code:
        raise RunFailedError(f"{SCRIPT.name} failed with code {code} in {exchange}:\n" + "\n".join(lines))

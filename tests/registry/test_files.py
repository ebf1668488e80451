"""Cards, lists and tokens: one form each, by one signer, and nothing that they cannot vouch for."""

import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import grpc_tools
import pytest
from grpc_tools import protoc
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import EnrolmentError, ExpiredError, TamperedError, WrongPartyError
from federation.keys import SigningKey, make_signing_key, signing_text
from federation.registry import card as cards
from federation.registry.errors import UnknownVersionError, WrongFederationError, WrongSignerError
from federation.registry.page import card_lines, markdown
from federation.registry.token import LIFETIME, make_token, read_token
from federation.registry.versions import find_version, make_list, read_list
from federation.signed import sign
from federation.validity import moment
from privacy.ledger import Head
from server import enrol
from server.folder import ServerFolder
from shared_model.errors import BadInputError, ExchangeError
from shared_model.exchange import fingerprint
from shared_model.stages import published

TIME = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def key(tmp_path_factory) -> SigningKey:
    return make_signing_key(tmp_path_factory.mktemp("keys") / "signing.key")


@pytest.fixture
def values(run_of) -> dict:
    """What a card is made from."""
    run = run_of()
    arrays = published(run.table)
    body = cards.model_file(arrays)
    return {
        "federation": "groceries",
        "number": 1,
        "parent": None,
        "published": moment(TIME),
        "run": run.facts.model_dump(),
        "model": run.terms.model_dump(),
        "vocabulary": run.vocabulary,
        "products": run.table.popularity.size,
        "edges": run.table.edges.size,
        "runs": ["run-0", *run.runs],
        "shoppers": run.shoppers,
        "noise": run.noise,
        "standing_out": run.standing_out,
        "tensors": fingerprint(arrays),
        "file": sha256(body).hexdigest(),
        "size": len(body),
        "members": [m.model_dump() for m in run.members],
        "taints": [],
        "evaluation": None,
    }


def test_a_card_says_what_was_written(values, key):
    data = cards.make_card(values, key)
    card = cards.read_card(data, "card")
    assert card.model_dump() == values | {"signing_key": signing_text(key)}
    assert card.private
    assert card.epsilon == 7.9
    assert cards.make_card(values, key) == data, "the same values give the same name"
    Head.from_json(card.members[0].head).check()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"number": 2}, "the first version, and no other, has no parent"),
        ({"parent": "ab" * 32}, "the first version, and no other, has no parent"),
        ({"vocabulary": "ab"}, "vocabulary"),
        ({"products": -1}, "products"),
        ({"runs": []}, "runs"),
        ({"standing_out": 1.5}, "standing_out"),
        ({"noise": {"temper": 1.0}}, "noise"),
        ({"size": 10**9}, "larger than such a model is"),
        ({"members": []}, "members"),
        ({"taints": ["a\nb"]}, "cannot be printed"),
        ({"surplus": 1}, "surplus"),
        ({"federation": "a b"}, "federation"),
    ],
)
def test_a_card_that_contradicts_itself_is_not_written(values, key, change, said):
    with pytest.raises(BadInputError, match=said):
        cards.make_card(values | change, key)


def test_without_privacy_a_card_must_say_so(values, key):
    plain = values | {"run": values["run"] | {"epsilon": 0.0}}
    with pytest.raises(BadInputError, match="without privacy must say so"):
        cards.make_card(plain, key)
    card = cards.read_card(
        cards.make_card(plain | {"taints": ["it was trained without differential privacy"]}, key), "c"
    )
    assert not card.private


def test_a_head_that_its_key_did_not_sign_is_on_no_card(values, key):
    member = values["members"][0]
    forged = member | {"head": member["head"] | {"seq": 7}}
    with pytest.raises(BadInputError, match="signature is not from its key"):
        cards.make_card(values | {"members": [forged]}, key)
    body = values | {"members": [forged], "signing_key": signing_text(key)}
    with pytest.raises(TamperedError, match="no model card"):  # whole and signed, but it says what it cannot
        cards.read_card(sign(cards.FORMAT, body, key), "card")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epsilon_ledger": 1.0}, "says another ε"),
        ({"receipt": None}, "needs the receipt"),
        ({"platform": "toys"}, "of another platform"),
    ],
)
def test_an_epsilon_of_a_ledger_is_what_a_signed_receipt_says(values, key, change, said):
    with pytest.raises(BadInputError, match=said):
        cards.make_card(values | {"members": [values["members"][0] | change]}, key)


def test_a_receipt_that_was_changed_is_on_no_card(values, key, helpers):
    member = values["members"][0]
    for receipt in (
        member["receipt"] | {"committed": 1.0},
        member["receipt"] | {"noise": "none"},
        helpers.receipt("books") | {"signature": "0" * 128},
    ):
        forged = member | {"receipt": receipt, "epsilon_ledger": receipt["committed"]}
        with pytest.raises(BadInputError, match="signature is not from the key"):
            cards.make_card(values | {"members": [forged]}, key)
    other = member | {"receipt": helpers.receipt("toys", platform="books")}
    with pytest.raises(BadInputError, match="another ledger"):
        cards.make_card(values | {"members": [other]}, key)


def test_nan_and_inf_are_on_no_card(values, key):
    for bad in (float("nan"), float("inf")):
        member = values["members"][0] | {"epsilon_run": bad}
        with pytest.raises(BadInputError, match="epsilon_run"):
            cards.make_card(values | {"members": [member]}, key)


@given(where=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255), kind=st.sampled_from("clt"))
@settings(max_examples=150, deadline=None)
def test_any_changed_byte_is_refused(made, where, change, kind):
    data, read = made[kind]
    changed = bytearray(data)
    changed[int(where * len(data))] ^= change
    with pytest.raises(EnrolmentError):
        read(bytes(changed))
    read(data)


@pytest.fixture(scope="module")
def made(pristine, key):
    """A card, a list and a token, with what reads them."""
    terms = enrol.card_of(ServerFolder(pristine / "fed")).model
    body = b"x" * 100
    values = {
        "federation": "groceries",
        "number": 2,
        "parent": "ab" * 32,
        "published": moment(TIME),
        "run": {
            "id": "r",
            "origin": "simulation",
            "rounds": 1,
            "share": 1.0,
            "epsilon": 0.0,
            "delta": 1e-6,
            "versions": {},
        },
        "model": terms.model_dump(),
        "vocabulary": "ab" * 32,
        "products": 30,
        "edges": 0,
        "runs": ["r"],
        "shoppers": 20,
        "noise": {},
        "standing_out": 0.0,
        "tensors": "cd" * 32,
        "file": sha256(body).hexdigest(),
        "size": len(body),
        "members": [
            {
                "platform": "books",
                "rounds": 1,
                "epsilon_run": None,
                "epsilon_ledger": None,
                "noise": "",
                "head": None,
                "receipt": None,
            }
        ],
        "taints": ["it was trained without differential privacy"],
        "evaluation": [{"platform": "books", "role": "member", "metrics": {"ndcg@10": 0.25}}],
    }
    versions = ["ab" * 32, "cd" * 32]
    return {
        "c": (cards.make_card(values, key), lambda data: cards.read_card(data, "card")),
        "l": (
            make_list("groceries", key, versions, versions[0], 3, TIME, "worse"),
            lambda data: read_list(data, "l"),
        ),
        "t": (make_token("groceries", "books", key, TIME), lambda data: read_token(data, "groceries", TIME)),
    }


def test_a_card_without_privacy_for_people(made):
    card = cards.read_card(made["c"][0], "card")
    page = markdown(card, "ef" * 32)
    assert "**Do not pass this model on as private:**" in page
    assert "| books | member | 0.2500 |" in page
    assert "no privacy" in page
    text = "\n".join(card_lines(card, "ef" * 32))
    assert "NOT PRIVATE" in text
    assert "on one machine that held the data of all platforms" in text


def test_a_private_card_for_people(values, key):
    card = cards.read_card(cards.make_card(values, key), "card")
    page = markdown(card, "ef" * 32)
    assert "Do not" not in page
    assert "| books | 2 | 7.900 | 8.000 | 1e-06 | chacha20-os-entropy | entry 4, `" in page
    assert "it does not show that the member trained as it recorded" in page
    assert "None is published" in page
    text = "\n".join(card_lines(card, "ef" * 32))
    assert "PRIVATE          ε ≤ 8 asked" in text
    assert "run ε 7.900 in 2 rounds; ledger ε 8.000; signed head at entry 4" in text


def test_another_key_or_federation_is_named(values, key, tmp_path):
    forger = make_signing_key(tmp_path / "forger")
    ours = signing_text(key)
    card = cards.read_card(cards.make_card(values, forger), "card")
    with pytest.raises(WrongSignerError, match="Do not use it"):
        cards.require_signer(card, "groceries", ours, "card")
    other = cards.read_card(cards.make_card(values | {"federation": "fashion"}, key), "card")
    with pytest.raises(WrongFederationError, match="'fashion', and this is 'groceries'"):
        cards.require_signer(other, "groceries", ours, "card")
    with pytest.raises(WrongPartyError, match="takes fedcart-model/1"):
        cards.read_card(make_list("groceries", key, ["ab" * 32], "ab" * 32, 1, TIME), "card")


def test_a_model_file_is_its_card_s(values, key, run_of):
    card = cards.read_card(cards.make_card(values, key), "card")
    body = cards.model_file(published(run_of().table))
    arrays = cards.read_model(body, card, "model")
    assert all((arrays[name] == array).all() for name, array in published(run_of().table).items())
    for wrong in (body[:-1], body + b"\0", cards.model_file(published(run_of(2).table)), b""):
        with pytest.raises(TamperedError, match="is not the model of version 1"):
            cards.read_model(wrong, card, "model")


def test_a_signed_model_of_another_shape_is_refused(values, key, run_of):
    """The operator's own mistake: whole and signed, but not what the exchange spec says."""
    arrays = published(run_of().table)
    for change, error in (
        ({"edges": arrays["edges"] * float("nan")}, ExchangeError),
        ({"surplus": arrays["totals"]}, ExchangeError),
        ({"edges": arrays["edges"] + 1}, TamperedError),  # the tensors' fingerprint differs
    ):
        body = cards.model_file({**arrays, **change})
        named = values | {"file": sha256(body).hexdigest(), "size": len(body)}
        with pytest.raises(error):
            cards.read_model(body, cards.read_card(cards.make_card(named, key), "card"), "model")
    junk = b"\xff" * 64
    named = values | {"file": sha256(junk).hexdigest(), "size": len(junk)}
    with pytest.raises(TamperedError, match="cannot be read"):
        cards.read_model(junk, cards.read_card(cards.make_card(named, key), "card"), "model")


def test_a_list_holds_each_version_once_and_a_current_one(key):
    one, two = "ab" * 32, "cd" * 32
    for versions, current in (([one, one], one), ([one], two), ([], one)):
        with pytest.raises(BadInputError, match="list of versions"):
            make_list("groceries", key, versions, current, 1, TIME)
    for reason in ("x" * 301, "a\x1b[2J"):
        with pytest.raises(BadInputError, match="reason"):
            make_list("groceries", key, [one], one, 1, TIME, reason)
    listing = read_list(make_list("groceries", key, [one, two], one, 4, TIME, "worse"), "list")
    assert (listing.number(two), listing.parent(2), listing.parent(1)) == (2, one, None)


def test_a_version_is_found_by_number_or_name():
    versions = ["ab" * 32, "ab" * 4 + "cd" * 28, "12" * 32]
    assert find_version("3", versions) == versions[2]
    assert find_version("12121212", versions) == versions[2]
    assert find_version("abababab".upper() + "CD", versions) == versions[1]
    for wanted in ("0", "4", "-1", "", "ab", "abababab", "latest", "²", "99999999"):
        with pytest.raises(UnknownVersionError, match="There is no version"):
            find_version(wanted, versions)


@pytest.mark.parametrize(
    ("later", "error"),
    [(timedelta(0), None), (LIFETIME * 1.1, ExpiredError), (-timedelta(minutes=6), ExpiredError)],
)
def test_a_token_has_its_time(key, later, error):
    token = make_token("groceries", "books", key, TIME)
    if error is None:
        assert read_token(token, "groceries", TIME + later).platform == "books"
        return
    with pytest.raises(error):
        read_token(token, "groceries", TIME + later)


def test_a_token_is_for_one_federation_and_not_for_years(key):
    token = make_token("groceries", "books", key, TIME)
    with pytest.raises(WrongPartyError, match="'groceries', and this is 'fashion'"):
        read_token(token, "fashion", TIME)
    body = json.loads(token)["body"] | {"expires": "2036-03-01T12:00:00Z"}
    with pytest.raises(TamperedError, match="longer than"):
        read_token(sign("fedcart-token/1", body, key), "groceries", TIME)
    with pytest.raises(TamperedError, match="more than any token"):
        read_token(b"x" * 5000, "groceries", TIME)


def test_the_generated_code_is_that_of_the_interface(tmp_path):
    """`make proto` was run after the last change of registry.proto."""
    proto = "federation/registry/v1/registry.proto"
    included = Path(grpc_tools.__file__).parent / "_proto"
    out = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    assert protoc.main(["protoc", f"--proto_path={ROOT}", f"--proto_path={included}", *out, proto]) == 0
    made = sorted(tmp_path.rglob("*.py*"))
    assert len(made) == 3
    for file in made:
        assert file.read_text() == (ROOT / file.relative_to(tmp_path)).read_text(), file.name

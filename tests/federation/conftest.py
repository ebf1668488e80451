"""Keys, a request and a kit, made once."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from federation.certificates import make_authority
from federation.keys import make_node_key, make_signing_key, signing_text
from federation.kit import Card, ModelTerms, Recipient, make_kit
from federation.request import Declaration, RequestKeys, make_request
from federation.signed import digest
from privacy.ledger import Ledger
from privacy.ledger.keys import key_path, load_key_file
from shared_model.encoders import EncoderIdentity, identities_to_json

TIME = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Return keys of a platform and a federation, a request to join, one to rotate, and a kit."""
    folder = tmp_path_factory.mktemp("keys")
    identity, node = make_signing_key(folder / "identity"), make_node_key(folder / "node")
    new_identity, new_node = make_signing_key(folder / "identity2"), make_node_key(folder / "node2")
    federation = make_signing_key(folder / "federation")
    ledger = Ledger.create(folder / "ledger", population="books", epsilon_cap=8.0, delta=1e-6)
    ledger_key = load_key_file(key_path(folder / "ledger"))
    declaration = Declaration(
        "groceries", "books", "anna@books.example", 2000, ledger.head(), "0.1.0", "1.41.0"
    )
    keys = RequestKeys(identity, node, ledger_key)
    request = make_request(declaration, keys, TIME)
    card = Card(
        federation="groceries",
        address="fed.example.org:9443",
        signing_key=signing_text(federation),
        certificates=make_authority("groceries", TIME)[1].decode(),
        model=ModelTerms(
            encoders="tiny",
            encoder_identities=identities_to_json([EncoderIdentity("tiny", "1", "ab" * 32, 16)]),
            history_length=6,
        ),
        fedcart="0.1.0",
        flower="1.41.0",
    )
    from federation.request import read_request

    received = read_request(request, "request", "groceries", TIME)
    recipient = Recipient.of(received.request, digest(request))
    return SimpleNamespace(
        folder=folder,
        time=TIME,
        declaration=declaration,
        keys=keys,
        identity=identity,
        node=node,
        new_identity=new_identity,
        new_node=new_node,
        federation=federation,
        request=request,
        rotation=make_request(declaration, RequestKeys(new_identity, new_node, ledger_key), TIME, identity),
        card=card,
        recipient=recipient,
        kit=make_kit(card, recipient, 1, federation, TIME),
    )

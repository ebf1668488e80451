"""Registries that lie, break off, or are not there: what they achieve on a platform."""

import contextlib
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import grpc
import pytest

from federation.certificates import make_authority, make_server_certificate
from federation.errors import EnrolmentError, ExpiredError, TamperedError, WrongPartyError
from federation.keys import make_signing_key
from federation.registry.errors import (
    TruncatedError,
    UnknownVersionError,
    UnreachableError,
    WrongSignerError,
)
from federation.registry.v1 import registry_pb2 as messages
from federation.registry.v1.registry_pb2_grpc import (
    ModelRegistryServicer,
    add_ModelRegistryServicer_to_server,
)
from federation.registry.versions import make_list
from federation.signed import sign
from federation.validity import now
from server.registry.store import ModelStore
from tests.registry.asking import adopt


class Liar(ModelRegistryServicer):
    """A registry in the federation's own place that sends what it likes, or breaks off."""

    def __init__(self, fed) -> None:
        store = ModelStore.open(fed)
        self.list, self.cards, self.parts = store.list_bytes(), {}, {}
        for published in store.all():
            folder = fed.models / published.version
            self.cards[published.version] = (folder / "card.json").read_bytes()
            body = (folder / "model.safetensors").read_bytes()
            self.parts[published.version] = [body[i : i + 5000] for i in range(0, len(body), 5000)]
        self.fails = False

    def List(self, request, context):  # noqa: N802
        return messages.ListResponse(list=self.list)

    def Get(self, request, context):  # noqa: N802
        if self.cards.get(request.version) is not None:
            yield messages.GetResponse(card=self.cards[request.version])
        for part in self.parts[request.version]:
            yield messages.GetResponse(chunk=part)
        if self.fails:
            context.abort(grpc.StatusCode.INTERNAL, "broke")


@contextlib.contextmanager
def lying(fed, liar, certificate=None) -> Iterator[str]:
    """Serve a liar with the federation's own certificate, or another."""
    folder = fed.server_certificate(fed.certificates().server)
    key, chain = certificate or (
        (folder / "server.key").read_bytes(),
        (folder / "server.crt").read_bytes(),
    )
    server = grpc.server(ThreadPoolExecutor(4))
    add_ModelRegistryServicer_to_server(liar, server)
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)]))
    server.start()
    try:
        yield f"localhost:{port}"
    finally:
        server.stop(None).wait()


def test_a_liar_that_tells_the_truth_is_believed(fed, books, publish):
    """So that what the next tests see is the lie's doing."""
    publish(1)
    with lying(fed, Liar(fed)) as address:
        assert adopt(books, address).version.card.number == 1


@pytest.mark.parametrize("how", ["ends early", "fails early", "ends before the card", "fails at the end"])
def test_a_truncated_stream_installs_nothing(fed, books, publish, how):
    version = publish(1).version
    liar = Liar(fed)
    if how != "fails at the end":
        liar.parts[version].pop()
    liar.fails = how.startswith("fails")
    if how == "ends before the card":
        liar.cards[version], liar.parts[version] = None, []
    with lying(fed, liar) as address, pytest.raises(TruncatedError, match=r"broke off after|sent nothing"):
        adopt(books, address)
    assert not (books.path / "models").exists()
    with pytest.raises(UnknownVersionError, match="There is no version"), lying(fed, liar) as address:
        adopt(books, address, "5")


def test_changed_bytes_are_refused_by_name(fed, books, publish, run_of, tmp_path):
    one, two = publish(1).version, publish(2).version

    def flip(data):
        return data[:150] + bytes([data[150] ^ 1]) + data[151:]

    twin = json.loads(Liar(fed).cards[two])["body"] | {"published": "2026-01-01T00:00:00Z"}
    twin_card = sign("fedcart-model/1", twin, fed.signing_key())  # the operator signed two, and listed one
    lies = {
        "another card of the same number": lambda liar: liar.cards.update({two: twin_card}),
        "list": lambda liar: setattr(liar, "list", flip(liar.list)),
        "card": lambda liar: liar.cards.update({two: flip(liar.cards[two])}),
        "another version's card": lambda liar: liar.cards.update({two: liar.cards[one]}),
        "model": lambda liar: liar.parts[two].__setitem__(0, flip(liar.parts[two][0])),
        "another version's model": lambda liar: liar.parts.update({two: liar.parts[one]}),
        "a byte too many": lambda liar: liar.parts[two].append(b"\0"),
        "no card, as if empty": lambda liar: liar.cards.update({two: b""}),
    }
    for lie, tell in lies.items():
        liar = Liar(fed)
        tell(liar)
        with lying(fed, liar) as address, pytest.raises(TamperedError):
            adopt(books, address)
        assert not (books.path / "models").exists(), lie


def test_a_server_with_another_signing_key_is_refused_by_name(fed, books, publish, tmp_path):
    """Somebody has the server's certificate, but not the federation's signing key."""
    version = publish(1).version
    liar = Liar(fed)
    liar.list = make_list("groceries", make_signing_key(tmp_path / "forger"), [version], version, 1, now())
    with lying(fed, liar) as address, pytest.raises(WrongSignerError, match="not by the federation's"):
        adopt(books, address)


def test_a_list_that_names_a_version_elsewhere_is_refused(fed, books, publish):
    one, two = publish(1).version, publish(2).version
    liar = Liar(fed)
    liar.list = make_list("groceries", fed.signing_key(), [two, one], two, 1, now())
    with lying(fed, liar) as address, pytest.raises(TamperedError, match="stands elsewhere in the list"):
        adopt(books, address)


def test_a_server_that_is_not_there_is_named(books):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"localhost:{unused.getsockname()[1]}"
        with pytest.raises(UnreachableError, match="cannot be reached"):
            adopt(books, address)


def certificate_of(fed, host="localhost", time=None, authority=None):
    """A server's key and certificate by the federation's authority, or by another."""
    key, certificate = authority or (
        (fed.authority(1) / "ca.key").read_bytes(),
        (fed.authority(1) / "ca.crt").read_bytes(),
    )
    return make_server_certificate(key, certificate, host, time or now())


def test_certificates_are_checked_and_named(fed, books, publish):
    publish(1)
    cases = [
        (certificate_of(fed, time=now() - timedelta(days=398)), ExpiredError, "has expired"),
        (
            certificate_of(fed, authority=make_authority("groceries", now())),
            WrongPartyError,
            "the federation's authority does not vouch for it",
        ),
    ]
    for certificate, error, said in cases:
        with lying(fed, Liar(fed), certificate) as address, pytest.raises(error, match=said):
            adopt(books, address)
    assert not (books.path / "models").exists()
    with lying(fed, Liar(fed), certificate_of(fed)) as address:
        assert adopt(books, address).version.card.number == 1, "a renewed one needs nothing"


def test_a_plain_server_gets_nothing(fed, books, publish):
    """No token leaves without TLS."""
    publish(1)
    seen = []

    class Listener(Liar):
        def List(self, request, context):  # noqa: N802
            seen.append(context.invocation_metadata())
            return super().List(request, context)

    server = grpc.server(ThreadPoolExecutor(2))
    add_ModelRegistryServicer_to_server(Listener(fed), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with pytest.raises((UnreachableError, EnrolmentError)):
            adopt(books, f"localhost:{port}")
        assert seen == []
    finally:
        server.stop(None).wait()

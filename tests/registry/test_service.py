"""The registry over gRPC on loopback, with TLS: who is served, what breaks off, what a lying server achieves."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from clients.adopt import Adopter
from clients.enrol import install_kit, write_request
from clients.models import InstalledModels, load_adopted
from clients.registry import RegistryClient
from federation.certificates import make_authority, make_server_certificate
from federation.errors import EnrolmentError, ExpiredError, TamperedError, WrongPartyError
from federation.keys import make_signing_key
from federation.registry.errors import (
    AccessRefusedError,
    HistoryError,
    OlderModelError,
    TruncatedError,
    UnknownVersionError,
    UnreachableError,
    WrongSignerError,
)
from federation.registry.token import KEY, make_token
from federation.registry.v1 import registry_pb2 as messages
from federation.registry.v1.registry_pb2_grpc import (
    ModelRegistryServicer,
    ModelRegistryStub,
    add_ModelRegistryServicer_to_server,
)
from federation.registry.versions import make_list
from federation.signed import sign
from federation.validity import now
from server import enrol
from server.errors import FederationError
from server.folder import RegistrySettings
from server.registry import serve as serving
from server.registry import service
from server.registry.store import ModelStore


def adopt(books, address, version=None, **options):
    adopter = Adopter(books, **options)
    with RegistryClient(address, adopter.membership) as client:
        return adopter.from_registry(client, address, version)


@contextlib.contextmanager
def calling(fed, address, token=None) -> Iterator[tuple[ModelRegistryStub, tuple]]:
    """A stub that trusts the federation's authority, and the metadata of a token."""
    credentials = grpc.ssl_channel_credentials(fed.trusted())
    with grpc.secure_channel(address, credentials) as channel:
        yield ModelRegistryStub(channel), () if token is None else ((KEY, token),)


def token_of(books, time=None, federation="groceries", platform="books"):
    return make_token(federation, platform, books.membership().keys.identity(), time or now())


def status(call) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as refusal:
        call()
    return refusal.value.code(), refusal.value.details()


# What is served


def test_a_platform_adopts_what_is_current(fed, books, publish, served, log):
    with pytest.raises(UnknownVersionError, match="nothing is published yet"):
        adopt(books, served.address)
    one = publish(1)
    assert adopt(books, served.address).version.name == one.version
    two = publish(2)
    adoption = adopt(books, served.address)
    assert (adoption.version.name, adoption.before.name) == (two.version, one.version)
    assert load_adopted(books.path).version == two.version
    assert InstalledModels(books).record().serial == 2
    size = two.card.size
    got = [(e["platform"], e["version"], e["bytes"]) for e in log if e["event"] == "get"]
    assert got == [("books", one.version, size), ("books", two.version, size)]


def test_a_version_can_be_chosen(fed, books, publish, served):
    one, two = publish(1), publish(2)
    assert adopt(books, served.address, "1").version.name == one.version
    assert adopt(books, served.address, two.version[:10]).version.name == two.version
    with pytest.raises(OlderModelError, match="version 1 was asked for"):
        adopt(books, served.address, "1")
    assert adopt(books, served.address, "1", allow_older=True).version.name == one.version
    with pytest.raises(UnknownVersionError, match="There is no version '3'"):
        adopt(books, served.address, "3")


def test_what_is_installed_is_not_sent_again(fed, books, publish, served, monkeypatch):
    publish(1)
    adopt(books, served.address)
    monkeypatch.setattr(RegistryClient, "fetch", lambda *_: pytest.fail("it was fetched"))
    assert adopt(books, served.address).version.card.number == 1


def test_a_large_model_comes_in_chunks(fed, books, publish, run_of, served):
    """More than one chunk, and more than gRPC's own limit of 4 MB for a message."""
    version = publish(1).version
    with calling(fed, served.address, token_of(books)) as (stub, metadata):
        (fed.models / version / "model.safetensors").write_bytes(bytes(5_000_000))
        parts = list(stub.Get(messages.GetRequest(version=version), metadata=metadata, timeout=60))
    assert [p.WhichOneof("part") for p in parts] == ["card"] + ["chunk"] * 20
    assert sum(len(p.chunk) for p in parts) == 5_000_000


# Older versions


def test_a_rollback_by_the_operator_is_reported_and_not_followed(fed, books, publish, served):
    publish(1)
    adopt(books, served.address)
    publish(2)
    adopt(books, served.address)
    ModelStore.open(fed).make_current("1", "worse on toys", now())
    with pytest.raises(OlderModelError, match=r"serves version 1 as current since .* \(worse on toys\)"):
        adopt(books, served.address)
    assert load_adopted(books.path).card.number == 2
    InstalledModels(books).rollback(None)
    assert adopt(books, served.address).version.card.number == 1, (
        "the platform went back by itself: all agree"
    )
    InstalledModels(books).rollback("2")
    assert adopt(books, served.address, allow_older=True).version.card.number == 1
    publish(3)
    assert adopt(books, served.address).version.card.number == 3


def test_a_server_that_was_restored_from_a_backup_is_reported(fed, books, publish, served):
    publish(1)
    backup = (fed.models / "list.json").read_bytes()
    publish(2)
    adopt(books, served.address)
    (fed.models / "list.json").write_bytes(backup)
    with pytest.raises(HistoryError, match=r"shows list 1 .* has seen list 2"):
        adopt(books, served.address)
    publish(3)  # the server goes on from there, with the same number and serial
    with pytest.raises(HistoryError, match="another one of that number"):
        adopt(books, served.address)
    publish(4)
    with pytest.raises(HistoryError, match=r"does not hold version 2 .* that is installed"):
        adopt(books, served.address)
    assert load_adopted(books.path).card.run.id == "run-2"
    assert adopt(books, served.address, allow_older=True).version.card.run.id == "run-4"
    assert InstalledModels(books).record().serial == 3


# Who is served


def test_calls_without_a_good_token_are_refused(fed, books, publish, served, tmp_path):
    version = publish(1).version
    get = messages.GetRequest(version=version)
    stranger = make_signing_key(tmp_path / "stranger")
    late = timedelta(minutes=11)
    cases = [
        (None, grpc.StatusCode.UNAUTHENTICATED, "one token is needed"),
        (b"", grpc.StatusCode.UNAUTHENTICATED, "not byte for byte"),
        (token_of(books)[:-2], grpc.StatusCode.UNAUTHENTICATED, "not byte for byte"),
        (token_of(books, now() - late), grpc.StatusCode.UNAUTHENTICATED, "expired on"),
        (token_of(books, now() + late), grpc.StatusCode.UNAUTHENTICATED, "one of the clocks is wrong"),
        (token_of(books, federation="fashion"), grpc.StatusCode.UNAUTHENTICATED, "'fashion'"),
        (token_of(books, platform="toys"), grpc.StatusCode.PERMISSION_DENIED, "'toys' is no member"),
        (
            make_token("groceries", "books", stranger, now()),
            grpc.StatusCode.PERMISSION_DENIED,
            "another identity key",
        ),
    ]
    for token, code, said in cases:
        with calling(fed, served.address, token) as (stub, metadata):
            for call in (
                lambda stub=stub, metadata=metadata: stub.List(
                    messages.ListRequest(), metadata=metadata, timeout=30
                ),
                lambda stub=stub, metadata=metadata: next(stub.Get(get, metadata=metadata, timeout=30)),
                lambda stub=stub, metadata=metadata: next(
                    stub.Watch(messages.WatchRequest(), metadata=metadata, timeout=30)
                ),
            ):
                found, details = status(call)
                assert (found, said in details) == (code, True), (said, found, details)
    with calling(fed, served.address) as (stub, _):
        twice = ((KEY, token_of(books)), (KEY, token_of(books)))
        assert status(lambda: stub.List(messages.ListRequest(), metadata=twice, timeout=30))[0] == (
            grpc.StatusCode.UNAUTHENTICATED
        )


def test_a_revoked_platform_is_refused_at_once(fed, books, publish, served):
    publish(1)
    adopt(books, served.address)
    enrol.revoke(fed, "books", "test", now())
    publish(2)
    with pytest.raises(AccessRefusedError, match="'books' was revoked on"):
        adopt(books, served.address)
    assert load_adopted(books.path).card.number == 1, "what it has, it has"


def test_an_old_key_is_refused_until_the_new_kit_is_installed(fed, books, publish, served):
    publish(1)
    sent = write_request(books, now(), rotate=True)
    kit = enrol.admit(fed, sent.file, sent.file.read_bytes(), None, now()).kit
    with pytest.raises(AccessRefusedError, match="install its newest kit"):
        adopt(books, served.address)
    install_kit(books, kit, kit.read_bytes(), None, now())
    assert adopt(books, served.address).version.card.number == 1


def test_a_damaged_registry_of_members_serves_nobody(fed, books, publish, served):
    publish(1)
    fed.members_file.write_bytes(b"junk" * 1000)
    with pytest.raises(AccessRefusedError, match="tell the operator"):
        adopt(books, served.address)


# Watching


def test_a_watcher_hears_of_every_change(fed, books, publish, served, monkeypatch):
    monkeypatch.setattr(service, "POLL_SECONDS", 0.05)
    one = publish(1)
    adopter = Adopter(books)
    with RegistryClient(served.address, adopter.membership) as client:
        lists = client.watch(0)
        assert next(lists) == ModelStore.open(fed).list_bytes(), "what was not seen comes at once"
        two = publish(2)
        assert two.version.encode() in next(lists)
        ModelStore.open(fed).make_current("1", "", now())
        assert f'"current": "{one.version}"'.encode() in next(lists)
        lists.close()
        lists = client.watch(1)
        assert b'"serial": 3' in next(lists), "a watcher that was away hears of the last change"


def test_a_watch_ends_when_the_platform_is_revoked(fed, books, publish, served, monkeypatch):
    monkeypatch.setattr(service, "POLL_SECONDS", 0.05)
    publish(1)
    with RegistryClient(served.address, books.membership()) as client:
        lists = client.watch(0)
        next(lists)
        enrol.revoke(fed, "books", "test", now())
        with pytest.raises(AccessRefusedError, match="was revoked"):
            next(lists)


def test_a_watch_has_an_end_and_is_taken_up_again(fed, books, publish, served, monkeypatch):
    monkeypatch.setattr(service, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(service, "WATCH_SECONDS", 0.2)
    monkeypatch.setattr("clients.adopt.WAIT_SECONDS", 0.05)
    publish(1)
    adopt(books, served.address)
    with RegistryClient(served.address, books.membership()) as client:
        assert len(list(client.watch(0))) == 1, "the watch ended by itself"
        adopter = Adopter(books)
        later = threading.Timer(1.0, publish, [2])
        later.start()
        assert adopter.wait(client, served.address).version.card.number == 2
        later.join()
    assert load_adopted(books.path).card.number == 2


# The service itself


def test_health_and_reflection_ask_for_no_token(fed, publish, served):
    publish(1)
    credentials = grpc.ssl_channel_credentials(fed.trusted())
    with grpc.secure_channel(served.address, credentials) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", serving.SERVICE):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=30)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        services = ProtoReflectionDescriptorDatabase(channel)
        assert set(services.get_services()) >= {serving.SERVICE, "grpc.health.v1.Health"}
        file = services.FindFileContainingSymbol(serving.SERVICE)
        assert [m.name for m in file.service[0].method] == ["List", "Get", "Watch"]


def test_damage_makes_the_service_unhealthy_and_is_said(fed, books, publish, served, monkeypatch):
    monkeypatch.setattr(serving, "POLL_SECONDS", 0.05)
    publish(1)
    (fed.models / "list.json").write_bytes(b"{}")
    with pytest.raises(UnreachableError, match="DATA_LOSS: the registry cannot read its files"):
        adopt(books, served.address)
    credentials = grpc.ssl_channel_credentials(fed.trusted())
    with grpc.secure_channel(served.address, credentials) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for answer in health.Watch(health_pb2.HealthCheckRequest(service=serving.SERVICE), timeout=60):
            if answer.status == health_pb2.HealthCheckResponse.NOT_SERVING:
                break


def test_a_damaged_store_is_not_served_at_all(fed, publish, serve_folder):
    version = publish(1).version
    (fed.models / version / "model.safetensors").write_bytes(b"")
    with pytest.raises(Exception, match="Restore it from a backup"):
        serve_folder(fed)


def test_a_port_that_is_taken_is_named(fed, publish):
    import asyncio

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = RegistrySettings(host="127.0.0.1", port=taken.getsockname()[1])
        with pytest.raises(FederationError, match="cannot be listened on"):
            asyncio.run(serving.serve(fed, settings, lambda _: None, asyncio.Event()))


def test_requests_have_limits(fed, books, publish, served, monkeypatch):
    version = publish(1).version
    with calling(fed, served.address, token_of(books)) as (stub, metadata):
        for wrong in ("", "1", "x" * 64, version.upper()):
            get = messages.GetRequest(version=wrong)
            assert status(lambda get=get: next(stub.Get(get, metadata=metadata, timeout=30)))[0] == (
                grpc.StatusCode.INVALID_ARGUMENT
            )
        unknown = messages.GetRequest(version="ab" * 32)
        assert status(lambda: next(stub.Get(unknown, metadata=metadata, timeout=30)))[0] == (
            grpc.StatusCode.NOT_FOUND
        )
        huge = messages.GetRequest(version="a" * 100_000)
        assert status(lambda: next(stub.Get(huge, metadata=metadata, timeout=30)))[0] == (
            grpc.StatusCode.RESOURCE_EXHAUSTED
        )
        monkeypatch.setattr(service, "GET_SECONDS", 0.0)
        monkeypatch.setattr(service, "LIST_SECONDS", 0.0)
        get = messages.GetRequest(version=version)
        for call in (
            lambda: next(stub.Get(get, metadata=metadata, timeout=30)),
            lambda: stub.List(messages.ListRequest(), metadata=metadata, timeout=30),
        ):
            code, details = status(call)
            assert (code, "took longer than 0 s" in details) == (grpc.StatusCode.DEADLINE_EXCEEDED, True)


# Servers that lie, break off, or are not there


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

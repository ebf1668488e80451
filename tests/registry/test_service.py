"""The registry over gRPC on loopback, with TLS: what is served to whom, and what is refused."""

import socket
import threading
from datetime import timedelta

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from clients.adopt import Adopter
from clients.enrol import install_kit, write_request
from clients.models import InstalledModels, load_adopted
from clients.registry import RegistryClient
from federation.keys import make_signing_key
from federation.registry.errors import (
    AccessRefusedError,
    HistoryError,
    OlderModelError,
    UnknownVersionError,
    UnreachableError,
)
from federation.registry.token import KEY, make_token
from federation.registry.v1 import registry_pb2 as messages
from federation.validity import now
from server import enrol
from server.errors import FederationError
from server.folder import RegistrySettings
from server.registry import serve as serving
from server.registry import service
from server.registry.store import ModelStore
from tests.registry.asking import adopt, calling, status, token_of

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

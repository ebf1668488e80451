"""Calls to a registry, as a platform makes them."""

import contextlib
from collections.abc import Iterator

import grpc
import pytest

from clients.adopt import Adopter
from clients.registry import RegistryClient
from federation.registry.token import KEY, make_token
from federation.registry.v1.registry_pb2_grpc import (
    ModelRegistryStub,
)
from federation.validity import now


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

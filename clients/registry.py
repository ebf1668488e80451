"""Talking to a federation's registry of models: TLS, a token with every call, a limit on everything.

What comes back is bytes that nobody has checked; `clients.adopt` does.
"""

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

import grpc

from clients.folder import Membership
from federation.address import split_address
from federation.certificates import certificate_problem, read_certificates
from federation.errors import ExpiredError, WrongPartyError
from federation.registry.card import CARD_LIMIT
from federation.registry.errors import (
    AccessRefusedError,
    TruncatedError,
    UnknownVersionError,
    UnreachableError,
)
from federation.registry.token import KEY, make_token
from federation.registry.v1 import registry_pb2 as messages
from federation.registry.v1.registry_pb2_grpc import ModelRegistryStub
from federation.registry.versions import LIST_LIMIT
from federation.validity import now
from privacy.plain import WORDS, plain

LIST_SECONDS = 30.0
GET_SECONDS = 60.0
"""The least time for a model; more for a large one."""
SLOWEST = 50_000
"""Bytes a second below which a transfer is given up."""
_OPTIONS = (
    ("grpc.max_receive_message_length", LIST_LIMIT + CARD_LIMIT),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)


class RegistryClient:
    """A connection to a registry. Use it in a `with` block."""

    def __init__(self, address: str, membership: Membership) -> None:
        self._address, self._membership = address, membership
        split_address(address)
        self._authorities = membership.kit.card.certificates.encode()
        self._channel = grpc.secure_channel(
            address, grpc.ssl_channel_credentials(self._authorities), options=_OPTIONS
        )
        self._stub = ModelRegistryStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def list_bytes(self) -> bytes:
        """Return the list of versions, empty before the first; raise UnreachableError or AccessRefusedError."""
        with self._explained(LIST_SECONDS):
            return self._stub.List(messages.ListRequest(), timeout=LIST_SECONDS, metadata=self._token()).list

    def fetch(self, version: str, largest: int, accept: Callable[[bytes], int]) -> tuple[bytes, bytes]:
        """Return card and model file of a version, which has at most `largest` bytes.

        `accept` judges the card before the model is waited for, and returns how many bytes must come; what it raises
        ends the transfer. Raises TruncatedError if it breaks off, UnknownVersionError if there is no such version.
        """
        seconds = GET_SECONDS + largest / SLOWEST
        request = messages.GetRequest(version=version)
        call = self._stub.Get(request, timeout=seconds, metadata=self._token())
        try:
            with self._explained(seconds):
                first = next(call, None)
            if first is None:
                raise TruncatedError(f"{self._address}: sent nothing of version {version[:16]}. Try again.")
            return first.card, self._receive(call, accept(first.card))
        finally:
            call.cancel()

    def _receive(self, call: Iterator[messages.GetResponse], size: int) -> bytes:
        """Return the model file that is being sent, up to a byte more than announced."""
        body = bytearray()
        broken = ""
        try:
            for part in call:
                body += part.chunk
                if len(body) > size:
                    break
        except grpc.RpcError as error:
            broken = f" ({error.code().name})"
        if len(body) < size or broken:
            raise TruncatedError(
                f"{self._address}: the transfer broke off after {len(body):,} of {size:,} bytes{broken}. Nothing was "
                "installed; try again, and tell the operator if it happens twice."
            )
        return bytes(body)

    def watch(self, seen_serial: int) -> Iterator[bytes]:
        """Yield the list whenever it is another one than was seen; ends when the registry ends it, to be asked again."""
        call = self._stub.Watch(messages.WatchRequest(seen_serial=seen_serial), metadata=self._token())
        try:
            with self._explained(LIST_SECONDS):
                for message in call:
                    yield message.list
        finally:
            call.cancel()

    def _token(self) -> tuple[tuple[str, bytes], ...]:
        kit = self._membership.kit
        identity = self._membership.keys.identity()
        return ((KEY, make_token(kit.card.federation, kit.platform, identity, now())),)

    @contextmanager
    def _explained(self, seconds: float) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            raise self._explain(error, seconds) from None

    def _explain(self, error: grpc.RpcError, seconds: float) -> Exception:
        code, details = error.code(), plain(error.details() or "", WORDS)
        match code:
            case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
                return AccessRefusedError(f"{self._address}: the registry refuses this platform: {details}.")
            case grpc.StatusCode.NOT_FOUND:
                return UnknownVersionError(f"{self._address}: {details}.")
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return UnreachableError(
                    f"{self._address}: gave no answer within {seconds:g} s. Try again later."
                )
            case grpc.StatusCode.UNAVAILABLE:
                return self._explain_unavailable(details)
            case _:
                return UnreachableError(f"{self._address}: {code.name}: {details}.")

    def _explain_unavailable(self, details: str) -> Exception:
        """Say whether it is the certificate: gRPC tells only that there is no connection."""
        host, port = split_address(self._address)
        time = now()
        try:
            certificate = ssl.get_server_certificate((host, port), timeout=5).encode()
        except (OSError, ValueError):
            return UnreachableError(
                f"{self._address}: the registry cannot be reached ({details}). Is it running, and is the address right? "
                "The federation's card has it; another one: --from ADDRESS."
            )
        problem = certificate_problem(certificate, self._authorities, host, time)
        if problem is None:
            return UnreachableError(
                f"{self._address}: the registry ended the connection ({details}). Try again."
            )
        if read_certificates(certificate)[0].ends < time:
            return ExpiredError(
                f"{self._address}: the server's certificate has expired: {problem}. The operator makes a new one: "
                "fedcart server renew."
            )
        return WrongPartyError(
            f"{self._address}: the server's certificate is not the federation's: {problem}. If the operator has a new "
            "authority, install its newest kit: fedcart client join."
        )

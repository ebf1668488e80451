"""Callers who send too much, too slowly, or go away: every method that reflection shows, every field of it."""

import socket
import struct
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from threading import Timer

import grpc
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

TOO_LONG, TOO_MANY = (5_000, 200_000, 1_000_000), 100_000
TEXTS = {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}
DEEP = 20_000
WELL = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}
"""Codes of questions that may be good or not."""


@dataclass(frozen=True)
class Attack:
    """One message to one method, and the codes that are right. `names`: what the answer must name."""

    method: str
    what: str
    data: bytes
    right: frozenset[str]
    names: str = ""


def methods(channel: grpc.Channel) -> dict[str, Descriptor]:
    """Return every method that the service's reflection shows, with its request."""
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(database)
    services = [pool.FindServiceByName(name) for name in sorted(database.get_services())]
    return {f"/{s.full_name}/{m.name}": m.input_type for s in services for m in s.methods}


def attacks(method: str, request: Descriptor, limit: int, chance: Random) -> Iterator[Attack]:
    """Yield oversized and malformed messages; gRPC takes none of more than `limit` bytes."""
    for field, wrap in _fields(request):
        if field.type in TEXTS:
            for size in TOO_LONG:
                data = wrap(_of(field, b"x" * size))
                yield Attack(method, f"{size} bytes", data, _right(data, limit), field.name)
        if field.is_repeated:
            assert field.message_type or field.type in TEXTS, f"{field.full_name}: numbers are not tried here"
            data = wrap(_of(field, b"") * TOO_MANY)
            yield Attack(method, f"{TOO_MANY} entries", data, _right(data, limit), field.name)
    unknown = _tag(1_000, 2)
    well = frozenset(WELL)
    yield Attack(method, "an unknown field", unknown + _varint(200_000) + b"x" * 200_000, well)
    yield Attack(method, "many unknown fields", (unknown + b"\0") * 60_000, well)
    yield Attack(method, "deep groups", _tag(1_000, 3) * DEEP, well)
    yield Attack(method, "deep messages", _nested(DEEP), well)
    for _ in range(20):
        yield Attack(method, "noise", chance.randbytes(chance.randrange(1, 300)), well)


def _fields(message: Descriptor, at: tuple = ()) -> Iterator[tuple]:
    """Yield each field, and what puts its bytes into a request, however deep."""
    for field in message.fields:
        yield field, lambda data, at=at: _within(at, data)
        if field.message_type is not None and field.message_type not in [f.message_type for f in at]:
            yield from _fields(field.message_type, (*at, field))


def _within(path: tuple, data: bytes) -> bytes:
    for field in reversed(path):
        data = _of(field, data)
    return data


def _right(data: bytes, limit: int) -> frozenset[str]:
    return frozenset({"RESOURCE_EXHAUSTED" if len(data) > limit else "INVALID_ARGUMENT"})


def _of(field: FieldDescriptor, data: bytes) -> bytes:
    return _tag(field.number, 2) + _varint(len(data)) + data


def _tag(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _nested(depth: int) -> bytes:
    """Messages within messages, as deep as 200 kB allow."""
    data = b""
    for _ in range(depth):
        data = _tag(1, 2) + _varint(len(data)) + data
        if len(data) > 200_000:
            break
    return data


@dataclass(frozen=True)
class Caller:
    """Calls any method of a service with raw bytes."""

    channel: grpc.Channel
    metadata: tuple

    def said(
        self, method: str, data: Iterable[bytes], gone: float | None = None, **options
    ) -> tuple[str, str]:
        """Return code and message of a call with these messages, up to its first answer.

        gone : seconds after which the caller goes away.
        """
        call = self.channel.stream_stream(method)(iter(data), metadata=self.metadata, timeout=60, **options)
        leaving = Timer(gone, call.cancel) if gone is not None else None
        try:
            if leaving is not None:
                leaving.start()
            next(call, None)
            call.cancel()  # a watch would go on
        except grpc.RpcError as error:
            return error.code().name, error.details() or ""
        return "OK", ""

    def tried(self, attack: Attack) -> str | None:
        """Make an attack; return what was wrong with its answer, None for nothing."""
        code, message = self.said(attack.method, [attack.data])
        if code not in attack.right:
            return f"{attack.method}, {attack.names}, {attack.what}: {code} {message}"
        if code == "INVALID_ARGUMENT" and attack.names and f"{attack.names}: has " not in message:
            return f"{attack.method}, {attack.names}, {attack.what}: {message!r} does not name it"
        return None

    def leave(self, planned: list[Attack], seed: int) -> None:
        """Make attacks, each with another message behind it, and go away in the middle of most of them."""
        chance = Random(seed)
        for attack in chance.sample(planned, 40):
            self.said(attack.method, [attack.data[:150_000]] * 2, gone=chance.random() * 0.02)


def together(callers: list[Caller], planned: list[Attack]) -> None:
    """All callers at once, each making attacks in an order of its own and going away."""
    with ThreadPoolExecutor(len(callers)) as pool:
        list(pool.map(lambda pair: pair[1].leave(planned, pair[0]), enumerate(callers)))


@dataclass(frozen=True)
class Memory:
    """What a process holds (Linux)."""

    pid: int

    def peak(self) -> float:
        """Return the most megabytes that it held since `mark`."""
        text = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM:")) / 1024

    def mark(self) -> float:
        """Forget the peak; return what it holds now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5", encoding="ascii")
        return self.peak()


def half_a_call(
    wire: socket.socket, method: str, metadata: tuple, data: bytes, promised: int, window: int = 65_535
) -> None:
    """Begin a call over HTTP/2 by hand: a message of which `promised` bytes are announced and `data` is sent.

    window : how much of the answer the caller is willing to take.
    """
    said = [(":method", "POST"), (":scheme", "http"), (":path", method), (":authority", "localhost")]
    said += [("te", "trailers"), ("content-type", "application/grpc"), *metadata]
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in said)
    body = struct.pack(">BI", 0, promised) + data
    wire.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, struct.pack(">HI", 4, window)))
    wire.sendall(_frame(1, 4, 1, block))
    for start in range(0, len(body), 16_384):
        wire.sendall(_frame(0, 0, 1, body[start : start + 16_384]))
    if promised == len(data):
        wire.sendall(_frame(0, 1, 1, b""))


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    assert len(data) < 127
    return bytes([len(data)]) + data

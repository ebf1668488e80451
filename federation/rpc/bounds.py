"""How much a message may hold: every string, bytes and list of it has a bound, by default if not by name.

| a message                                          | outcome                                                   |
|----------------------------------------------------|-----------------------------------------------------------|
| a string or bytes value above its bound (UTF-8)    | refused; the answer names field, size and bound           |
| a list with more entries than its bound            | refused before an entry is looked at                      |
| bytes that are no such message                     | refused                                                   |
| fields that this version does not know             | dropped, and their bytes with them                        |
| a field that was added to a `.proto`               | has the default bound                                     |
| a map in a `.proto`                                | `Bounds` raises: maps have no bound here                  |
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message


@dataclass(frozen=True)
class Bound:
    """Most bytes of each value of a string or bytes field, and most values where it is a list."""

    size: int = 512
    entries: int = 100


@dataclass(frozen=True)
class Unreadable:
    """Stands in the place of a message that is not taken, and says why."""

    why: str


class Bounds:
    """The bounds of a service's requests.

    named : by field, "request_id" for all fields of that name, "Who.texts" for one of a message. Raises ValueError for
    a name that no request of the service has, or a map.
    """

    def __init__(self, service: ServiceDescriptor, default: Bound, named: Mapping[str, Bound]) -> None:
        self._default, self._named = default, dict(named)
        known = {name for field in fields_of(service) for name in _names(field)}
        if unknown := sorted(self._named.keys() - known):
            raise ValueError(f"{service.full_name}: no request has {', '.join(unknown)}")

    def of(self, field: FieldDescriptor) -> Bound:
        """Return a field's bound."""
        return next((self._named[name] for name in _names(field) if name in self._named), self._default)

    def reader(self, parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        """Return what reads a message as `parse` does, or says why it is not taken."""

        def read(data: bytes) -> Any:
            try:
                message = parse(data)
            except DecodeError:
                return Unreadable("the request is no message of this service: use the .proto of this version")
            problem = self.problem(message)
            if problem is not None:
                return Unreadable(problem)
            message.DiscardUnknownFields()
            # What was dropped is freed with the message that it came in, so a smaller one takes its place.
            return message if message.ByteSize() == len(data) else parse(message.SerializeToString())

        return read

    def problem(self, message: Message, path: str = "") -> str | None:
        """Return what is too large in a message, None if nothing is."""
        for field, value in message.ListFields():
            bound, name, several = self.of(field), path + field.name, field.is_repeated
            if several and len(value) > bound.entries:
                return f"{name}: has {len(value):,} entries, and at most {bound.entries:,} are taken. Send fewer."
            for at, one in enumerate(value if several else (value,)):
                if isinstance(one, Message):
                    found = self.problem(one, f"{name}[{at}]." if several else f"{name}.")
                    if found is not None:
                        return found
                elif isinstance(one, str | bytes):
                    size = len(one.encode() if isinstance(one, str) else one)
                    if size > bound.size:
                        return f"{name}: has {size:,} bytes, and at most {bound.size:,} are taken. Send less."
        return None


def fields_of(service: ServiceDescriptor) -> Iterator[FieldDescriptor]:
    """Yield every field of a service's requests, each once; raise ValueError for a map."""
    seen: set[str] = set()
    waiting: list[Descriptor] = [method.input_type for method in service.methods]
    while waiting:
        message = waiting.pop()
        if message.full_name in seen:
            continue
        seen.add(message.full_name)
        if message.GetOptions().map_entry:
            raise ValueError(f"{message.full_name}: is a map, which has no bound")
        yield from message.fields
        waiting += [field.message_type for field in message.fields if field.message_type is not None]


def _names(field: FieldDescriptor) -> tuple[str, str]:
    return f"{field.containing_type.name}.{field.name}", field.name

"""Asks a running service as `grpcurl` does, by reflection alone, and prints commands and answers for docs/serving.md.

    python -m benchmarks.serving.transcript FOLDER ADDRESS SHOPPER ITEM OTHER_ITEM

FOLDER is the platform's, whose token is shown. Every method of the service is called once at least. Hashes and numbers
are shortened, long lines broken; else what is printed is what came.
"""

import json
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from clients.folder import ClientFolder
from clients.serving.door import bearer, read_token
from clients.site import SERVING_TOKEN

_SERVICE = "fedcart.serving.v1.Recommender"
_HEALTH = "grpc.health.v1.Health"
_WIDTH = 120


class Grpcurl:
    """Calls methods that it knows from the service's own reflection; shows the token where one is asked for."""

    def __init__(self, channel: grpc.Channel, address: str, token: str) -> None:
        self._channel, self._address, self._shown = channel, address, bearer(token)
        self._database = ProtoReflectionDescriptorDatabase(channel)
        self._pool = DescriptorPool(self._database)

    def services(self) -> list[str]:
        """Return the names of all services."""
        return sorted(self._database.get_services())

    def methods(self) -> set[str]:
        """Return the names of the recommender's methods."""
        return set(self._pool.FindServiceByName(_SERVICE).methods_by_name)

    def asked(self, method: str, *questions: Mapping[str, Any], service: str = _SERVICE) -> str:
        """Return the command line of one call, and its answers: JSON, or the status that it ended with."""
        found = self._pool.FindServiceByName(service).methods_by_name[method]
        kind = self._channel.stream_stream if found.client_streaming else self._channel.unary_unary
        call = kind(
            f"/{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(found.output_type).FromString,
        )
        messages = [json_format.ParseDict(q, GetMessageClass(found.input_type)()) for q in questions]
        given = " ".join(json.dumps(question) for question in questions)
        ours = service == _SERVICE
        name, shows = (f"$R/{method}", ' -H "$T"') if ours else (f"{service}/{method}", "")
        lines = [f"$ grpcurl -plaintext{shows} -d '{given}' {self._address} {name}"]
        try:
            asked = iter(messages) if found.client_streaming else messages[0]
            answer = call(asked, timeout=30, metadata=self._shown if ours else ())
            for message in answer if found.client_streaming else [answer]:
                text = json.dumps(_shortened(json_format.MessageToDict(message)), ensure_ascii=False)
                lines += textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
        except grpc.RpcError as error:
            lines.append(f"ERROR: Code: {error.code().name} Message: {error.details()}")
        return "\n".join(lines) + "\n"


def _shortened(value: Any) -> Any:
    """Return the same with hashes cut to 8 characters and numbers rounded to 3 places."""
    if isinstance(value, Mapping):
        return {key: _shortened(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_shortened(part) for part in value]
    if isinstance(value, float):
        return round(value, 3)
    is_hash = isinstance(value, str) and len(value) >= 32 and set(value) <= set("0123456789abcdef")
    return f"{value[:8]}…" if is_hash else value


def shell(folder: str) -> str:
    """Return the lines that set what the calls name: the service, and the token of a platform's folder."""
    return f'$ R={_SERVICE}\n$ T="authorization: Bearer $(cat {folder}/{SERVING_TOKEN})"\n'


def transcript(
    tool: Grpcurl, folder: str, address: str, shopper: str, item: str, other: str
) -> Iterator[str]:
    """Yield each call as `Grpcurl.asked` shows it."""
    who = {"shopperId": shopper}
    yield "\n".join([f"$ grpcurl -plaintext {address} list", *tool.services()]) + "\n"
    yield tool.asked("Check", {"service": _SERVICE}, service=_HEALTH)
    yield shell(folder) + tool.asked(
        "Recommend", {"who": who, "count": 3, "filters": {"maxPrice": 30}, "diversity": 0.3}
    )
    yield tool.asked("Recommend", {"who": {"texts": ["red lamp"]}, "count": 2})
    yield tool.asked("Rank", {"who": who, "candidateIds": [item, other, "none"]})
    yield tool.asked("SimilarItems", {"itemId": item, "count": 2})
    yield tool.asked("Audience", {"itemId": item, "count": 2, "leaveOutOwners": True})
    yield tool.asked("Profile", {"shopperId": shopper})
    yield tool.asked("Explain", {"who": who, "itemId": item})
    shown = {"eventId": "s1", "shopperId": shopper, "requestId": "r1", "itemIds": [item, other]}
    click = {"eventId": "e1", "shopperId": shopper, "requestId": "r1", "kind": "CLICK", "itemId": item}
    yield tool.asked("RecordFeedback", {"impressions": [shown], "interactions": [click]})
    yield tool.asked("RecordFeedback", {"impressions": [shown], "interactions": [click]})
    yield tool.asked(
        "Stream", {"open": {"who": who, "count": 2}}, {"itemId": other}, {"text": "wooden train"}
    )
    yield tool.asked("Recommend", {"who": who, "count": 501})
    yield tool.asked("Profile", {"shopperId": "nobody"})


def main() -> None:
    """Print the transcript on standard output."""
    folder, address, shopper, item, other = sys.argv[1:6]
    token = read_token(ClientFolder(Path(folder)).site().serving)
    with grpc.insecure_channel(address) as channel:
        calls = list(transcript(Grpcurl(channel, address, token), folder, address, shopper, item, other))
    sys.stdout.write("\n".join(calls))


if __name__ == "__main__":
    main()

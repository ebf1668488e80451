"""Asks a running service as `grpcurl` does, by reflection alone, and prints commands and answers for docs/serving.md.

python -m benchmarks.serving.transcript ADDRESS SHOPPER ITEM
"""

import json
import sys

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

_SERVICE = "fedcart.serving.v1.Recommender"


def grpcurl(address: str, name: str, question: dict) -> str:
    """Return the command line of one call, and its answer: JSON, or the status that it ended with."""
    with grpc.insecure_channel(address) as channel:
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        method = pool.FindServiceByName(_SERVICE).methods_by_name[name]
        call = channel.unary_unary(
            f"/{_SERVICE}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        message = json_format.ParseDict(question, GetMessageClass(method.input_type)())
        try:
            answer = json_format.MessageToJson(call(message, timeout=30), indent=None)
        except grpc.RpcError as error:
            answer = f"ERROR: Code: {error.code().name} Message: {error.details()}"
    return f"$ grpcurl -plaintext -d '{json.dumps(question)}' {address} {_SERVICE}/{name}\n{answer}\n"


def main() -> None:
    """Print the transcript on standard output."""
    address, shopper, item = sys.argv[1:4]
    who = {"shopperId": shopper}
    calls: list[tuple[str, dict]] = [
        ("Recommend", {"who": who, "count": 3, "filters": {"maxPrice": 30}, "diversity": 0.3}),
        ("Recommend", {"who": {"texts": ["red lamp"]}, "count": 2}),
        ("Rank", {"who": who, "candidateIds": [item, "i001", "none"]}),
        ("SimilarItems", {"itemId": item, "count": 2}),
        ("Audience", {"itemId": item, "count": 2, "leaveOutOwners": True}),
        ("Profile", {"shopperId": shopper}),
        ("Explain", {"who": who, "itemId": item}),
        (
            "RecordFeedback",
            {"interactions": [{"eventId": "e1", "shopperId": shopper, "kind": "CLICK", "itemId": item}]},
        ),
        ("Recommend", {"who": who, "count": 501}),
        ("Profile", {"shopperId": "nobody"}),
    ]
    for name, question in calls:
        sys.stdout.write(grpcurl(address, name, question) + "\n")


if __name__ == "__main__":
    main()

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


def main() -> None:
    """Print the transcript on standard output."""
    address, shopper, item = sys.argv[1:4]
    who = {"shopperId": shopper}
    calls = [
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
    with grpc.insecure_channel(address) as channel:
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        service = pool.FindServiceByName(_SERVICE)
        for name, question in calls:
            sys.stdout.write(
                f"$ grpcurl -plaintext -d '{json.dumps(question)}' {address} {_SERVICE}/{name}\n"
            )
            method = service.methods_by_name[name]
            asked = json_format.ParseDict(question, GetMessageClass(method.input_type)())
            call = channel.unary_unary(
                f"/{_SERVICE}/{name}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=GetMessageClass(method.output_type).FromString,
            )
            try:
                answer = json_format.MessageToJson(call(asked), indent=None)
            except grpc.RpcError as error:
                answer = f"ERROR: Code: {error.code().name} Message: {error.details()}"
            sys.stdout.write(answer + "\n\n")


if __name__ == "__main__":
    main()

"""What Flower's nodes sign is what docs/deploy.md says: the time, neither the call nor its content."""

from base64 import b64decode
from types import SimpleNamespace

import httpx
import pytest
from flwr.common.constant import TIMESTAMP_HEADER, TIMESTAMP_TOLERANCE
from flwr.supercore.constant import FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.primitives.asymmetric import generate_key_pairs, verify_signature
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor


@pytest.mark.parametrize("content", [b"an update", b"another one"])
def test_a_node_signs_the_time_and_nothing_else(content):
    private, public = generate_key_pairs()
    request = httpx.Request("POST", "https://server/v1/fleet/push-messages", content=content)
    NodeAuthHttpInterceptor(private, public).intercept(SimpleNamespace(request=request), lambda context: None)
    time = request.headers[TIMESTAMP_HEADER].encode("ascii")
    signature = b64decode(request.headers[FLEET_HTTP_SIGNATURE_HEADER])
    assert verify_signature(public, time, signature), "else the content is signed: say so in docs/deploy.md"
    assert TIMESTAMP_TOLERANCE == 300, "five minutes, as docs/deploy.md says"

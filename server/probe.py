"""What the server's doctor asks its own processes."""

import ssl
from pathlib import Path

import grpc
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc

from federation.checkup import ProblemError

_SECONDS = 10.0


def control_is_closed(address: str, authorities: Path) -> bool:
    """Whether SuperLink's control interface refuses who has no key there; raise ProblemError without an answer."""
    context = ssl.create_default_context(cafile=str(authorities))
    try:
        with httpx.Client(verify=context, timeout=_SECONDS, trust_env=False) as client:
            status = client.post(f"https://{address}/v1/control/list-runs", content=b"").status_code
    except httpx.HTTPError as error:
        raise ProblemError(
            f"{address} does not answer ({type(error).__name__})", "Look at the log of fedcart server start."
        ) from None
    return status == httpx.codes.FORBIDDEN


def registry_problem(address: str, authorities: Path) -> str | None:
    """Return what is wrong with the registry of models at `address`, None if it is healthy."""
    credentials = grpc.ssl_channel_credentials(authorities.read_bytes())
    with grpc.secure_channel(address, credentials) as channel:
        try:
            reply = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=_SECONDS
            )
        except grpc.RpcError as error:
            return f"does not answer ({error.code().name})"
    if reply.status != health_pb2.HealthCheckResponse.SERVING:
        return "cannot read the list of models"
    return None

"""How much a call of the registry may hold: the only place that says so."""

from federation.registry.v1 import registry_pb2
from federation.rpc.bounds import Bound, Bounds
from federation.rpc.guard import CallLimits

SERVICE = registry_pb2.DESCRIPTOR.services_by_name["ModelRegistry"]
REQUEST_LIMIT = 4_096
"""Most bytes of a request; gRPC itself refuses a larger one."""
BOUNDS = Bounds(SERVICE, Bound(), {"GetRequest.version": Bound(size=64)})
CALLS = 1_000
"""Most calls at once, of all callers."""
LIMITS = CallLimits(calls=64, whole=7200.0)
"""For one platform; and for all who ask for health and reflection, which is without a name."""

"""With real processes: who is not let in, and what each sees. Keys, certificates, clocks, plain text, control."""

import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from flwr.proto.control_pb2 import ListRunsRequest
from flwr.supercore.control import ControlHttpClient

from clients.folder import ClientFolder
from clients.processes import supernode_arguments
from federation.certificates import make_server_certificate
from federation.files import replace
from federation.keys import make_node_key
from federation.validity import now
from server import enrol
from server.processes import front_arguments

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

SKEWED = """
import sys
from datetime import timedelta
from flwr.supercore import date
true, ahead = date.now, timedelta(seconds=float(sys.argv[1]))
date.now = lambda: true() + ahead
sys.argv = sys.argv[2:]
from flwr.supernode.cli.flower_supernode import flower_supernode
flower_supernode()
"""


@pytest.fixture(scope="module")
def fed(federation):
    """Return a running federation with a member, `books`, who is online."""
    federation.books = federation.platform("books")
    federation.processes.start("books", supernode_arguments(federation.books))
    federation.wait_for(lambda: federation.online() == {"books"}, "the member online")
    return federation


def copy(fed, name: str) -> ClientFolder:
    """The member's folder once more, as a thief or a mistake would have it, on ports of its own."""
    place = ClientFolder(Path(shutil.copytree(fed.books.path, fed.root / name)))
    text = place.site_file.read_text()
    site = place.site()
    for port in (site.node.port, site.node.health_port):
        text = text.replace(f"= {port}", f"= {fed.free_port()}")
    place.site_file.write_text(text)
    return place


def ends(fed, name: str, arguments: list[str]) -> str:
    """Start a node, which must end with a code that is not 0; return its log."""
    node = fed.processes.start(name, arguments)
    fed.wait_for(lambda: node.poll() is not None, f"the end of {name}", 60)
    log = fed.processes.log(name)
    assert node.returncode != 0, log
    assert fed.online() == {"books"}
    return log


def command(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "fedcart", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_a_key_that_nobody_registered(fed):
    place = copy(fed, "unknown")
    file = place.membership().keys.node_file
    file.unlink()
    make_node_key(file)
    assert "Failed to activate SuperNode" in ends(fed, "unknown-node", supernode_arguments(place))


def test_a_key_that_is_in_use(fed):
    """The key of a member who is online: a second node of it, from another folder, is refused."""
    assert "2004" in ends(fed, "twin-node", supernode_arguments(copy(fed, "twin")))


def test_a_key_that_was_revoked(fed):
    gone = fed.platform("gone")
    node = fed.processes.start("gone-node", supernode_arguments(gone))
    fed.wait_for(lambda: "gone" in fed.online(), "the second member online")
    enrol.revoke(fed.folder, "gone", "it left", now())
    fed.wait_for(lambda: node.poll() is not None, "the end of its node", 60)
    assert "Failed to activate SuperNode" in ends(fed, "gone-again", supernode_arguments(gone))


@pytest.mark.parametrize("seconds", [400, -400])
def test_a_clock_that_is_wrong(fed, seconds):
    """Flower refuses signatures of another time; the clock is moved inside the node's process.

    The node ends with code 0 and calls it graceful, which is why a supervisor starts it again whatever the code.
    """
    place = copy(fed, f"skewed{seconds}")
    arguments = [sys.executable, "-c", SKEWED, str(seconds), *supernode_arguments(place)]
    node = fed.processes.start(f"skewed{seconds}", arguments)
    fed.wait_for(lambda: node.poll() is not None, "the end of the node", 60)
    assert fed.online() == {"books"}


def test_a_client_without_tls(fed):
    place = copy(fed, "plain")
    arguments = supernode_arguments(place)
    at = arguments.index("--root-certificates")
    arguments[at : at + 2] = ["--insecure"]
    node = fed.processes.start("plain-node", arguments)
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://{fed.address}/health")
    fed.wait_for(lambda: node.poll() is not None or len(fed.processes.log("plain-node")) > 200, "its log", 60)
    assert fed.online() == {"books"}
    fed.processes.stop("plain-node")


@pytest.mark.parametrize("days", [-800, 30])
def test_a_certificate_of_another_time(fed, days):
    """The front's certificate has expired, or is not valid yet: the node does not speak to it, the doctor says why."""
    place = fed.folder.server_certificate(1)
    before = {name: (place / name).read_bytes() for name in ("server.key", "server.crt")}
    authority = fed.folder.authority(1)
    key, certificate = make_server_certificate(
        (authority / "ca.key").read_bytes(),
        (authority / "ca.crt").read_bytes(),
        "localhost",
        now() + timedelta(days=days),
    )
    fed.processes.stop("front")
    replace(place / "server.key", key, 0o600)
    replace(place / "server.crt", certificate)
    fed.processes.start("front", front_arguments(fed.folder))
    try:
        fed.wait_for(lambda: fed.listens(fed.address), "the front", 60)
        for name, data in before.items():
            replace(place / name, data, 0o600)
        doctor = command("client", "doctor", "--folder", fed.books.path)
        assert doctor.returncode in (1, 4)
        assert "its certificate is refused" in doctor.stdout
        assert ("expired" if days < 0 else "not yet valid") in doctor.stdout
        found = fed.processes.start("dated-node", supernode_arguments(copy(fed, f"dated{days}")))
        fed.wait_for(lambda: found.poll() is not None, "the end of the node", 90)
        assert found.returncode != 0
    finally:
        fed.processes.stop("front")
        fed.processes.start("front", front_arguments(fed.folder))
        fed.wait_for(lambda: fed.listens(fed.address), "the front", 60)


def test_control_from_outside(fed):
    """Every call of the control and executors' interfaces, asked through the front, and control at SuperLink itself."""
    from flwr.supercore.routers.runtime.router import router as runtime
    from flwr.superlink.routers.control import router as control

    calls = [(m, r.path) for r in (*control.routes, *runtime.routes) for m in r.methods]
    assert len(calls) > 20
    with httpx.Client(verify=fed.tls(), base_url=f"https://{fed.address}") as client:
        for method, path in [*calls, ("GET", "/docs"), ("GET", "/openapi.json"), ("POST", "/v1/fleet/x")]:
            assert client.request(method, path).status_code == 403, path
    with httpx.Client(verify=fed.tls(), base_url=f"https://localhost:{fed.port}") as client:
        for method, path in [(m, r.path) for r in control.routes for m in r.methods]:
            assert client.request(method, path).status_code == 403, path
    flower = ControlHttpClient.from_server_address(
        fed.address, insecure=False, root_certificates=str(fed.certificate), interceptors=[]
    )
    with pytest.raises(httpx.HTTPStatusError, match="403"):
        flower.ListRuns(ListRunsRequest())

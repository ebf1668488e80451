"""The token of `fedcart client init` is what every caller shows, also on loopback, unless settings say otherwise."""

import subprocess
import sys

import grpc
import pytest
from structlog.testing import capture_logs

from benchmarks.serving.start import made_folder
from clients.serving import serve
from clients.serving.door import bearer, read_token
from clients.serving.serve import SERVICE, run_serving
from fedcart import run
from tests.oversized import Caller, methods


@pytest.mark.slow
def test_the_service_asks_for_the_token_of_init_also_on_this_machine(tmp_path):
    """Every method that it shows, by default; its log holds no token."""
    shop = made_folder(600, 30, 0, tmp_path)
    token = read_token(shop.site().serving)
    command = [sys.executable, "-m", "fedcart", "client", "serve", "--port", "0", "--folder", str(shop.path)]
    with (tmp_path / "log").open("wb") as log:
        running = subprocess.Popen(command, stderr=log)
    try:
        said = ""
        while "serving recommendations of" not in said:
            assert running.poll() is None
            said = (tmp_path / "log").read_text()
        with grpc.insecure_channel(said.split(" on ")[1].split()[0]) as channel:
            asked = [name for name in methods(channel) if name.startswith(f"/{SERVICE}/")]
            for metadata in ((), bearer(token[:-1]), bearer("keys/serving.token"), bearer(token) * 2):
                codes = {Caller(channel, metadata).said(name, [b""])[0] for name in asked}
                assert codes == {"UNAUTHENTICATED"}
            codes = {Caller(channel, bearer(token)).said(name, [b""])[0] for name in asked}
            assert codes == {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}
        running.terminate()
        assert running.wait(60) == 0
    finally:
        running.kill()
        running.wait()
    assert token not in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda file: file.unlink(), "openssl rand -hex 32"),
        (lambda file: file.chmod(0o640), "chmod 600"),
        (lambda file: file.write_text("short-secret"), "at least 16 characters"),
        (lambda file: file.write_text("two words of a secret"), "one line"),
    ],
)
def test_without_a_good_token_nothing_is_served(member, capfd, spoil, says):
    spoil(member.path / "keys" / "serving.token")
    assert run(["client", "serve", "--port", "0", "--folder", str(member.path)]) == 4
    said = capfd.readouterr().err
    assert says in said
    assert "keys/serving.token" in said
    assert "secret" not in said
    assert "Traceback" not in said


def test_a_service_that_asks_for_none_says_so_in_its_log(member, monkeypatch):
    monkeypatch.setattr(
        serve, "asyncio", type("Unused", (), {"run": staticmethod(lambda work: work.close())})
    )
    monkeypatch.setattr(serve, "configure_log", lambda: None)
    for without, said in ((True, ["without-token"]), (False, [])):
        settings = member.site().serving.model_copy(update={"without_token": without})
        with capture_logs() as log:
            run_serving(member, settings, lambda _: None)
        assert [entry["event"] for entry in log if entry["log_level"] == "warning"] == said

"""Simulations as real processes: killed and resumed, on Ray, and under `flwr run`."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from privacy.ledger import Kind, Ledger
from privacy.ledger.witness import NAME, read_witness_file

PROJECT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def start(*arguments: object, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fedcart", "simulate", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "FLWR_TELEMETRY_ENABLED": "0"}
    return subprocess.Popen(
        command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finish(process: subprocess.Popen[str], timeout: float = 300) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def wait_for_lines(file: Path, count: int, process: subprocess.Popen[str], timeout: float = 120) -> None:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if file.exists() and len(file.read_text().splitlines()) >= count:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError(f"{file} did not reach {count} lines")


def only_run(folder: Path) -> Path:
    (run,) = folder.iterdir()
    return run


def comparable(text: str) -> dict:
    result = json.loads(text)
    return {key: result[key] for key in ("platforms", "data_fingerprint", "seed")}


def test_killed_again_and_again_and_resumed_it_ends_as_if_nothing_had_happened(write_scenario, tmp_path):
    scenario = write_scenario()
    code, whole, err = finish(
        start("--scenario", scenario, "--out", tmp_path / "a", "--format", "json", cwd=tmp_path)
    )
    assert code == 0, err
    process = start("--scenario", scenario, "--out", tmp_path / "b", cwd=tmp_path)
    while not (tmp_path / "b").exists():
        time.sleep(0.02)
    run = only_run(tmp_path / "b")
    for lines, pause in ((2, 0.0), (4, 0.1), (6, 0.3)):
        wait_for_lines(run / "events.jsonl", lines, process)
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process = start("--resume", run, "--format", "json", cwd=tmp_path)
    code, out, err = finish(process)
    assert code == 0, err
    assert comparable(out) == comparable(whole)
    for name in ("alpha", "beta"):
        ledger = Ledger.open(run / "ledgers" / f"{name}.sqlite", population=name)
        assert ledger.verify().ok
        reserved = [entry for entry in ledger.history() if entry.kind is Kind.RESERVE]
        assert len(reserved) == 2, "each round is charged once, however often it was begun"
        assert ledger.budget().reserved == 0
        found = read_witness_file(run / NAME)
        mine = [kept for kept in found.kept if kept.platform == name]
        assert {kept.round for kept in mine} == {1, 2}
        assert (found.faults, found.cut, any(kept.refused for kept in mine)) == ((), 0, False)
        assert ledger.verify([kept.head for kept in mine]).ok


def test_ray_gives_the_numbers_of_the_inline_run(write_scenario, tmp_path):
    scenario = write_scenario()
    inline = finish(start("--scenario", scenario, "--out", tmp_path / "a", "--format", "json", cwd=tmp_path))
    on_ray = finish(
        start(
            "--scenario",
            scenario,
            "--backend",
            "ray",
            "--out",
            tmp_path / "b",
            "--format",
            "json",
            cwd=tmp_path,
        )
    )
    assert inline[0] == 0, inline[2]
    assert on_ray[0] == 0, on_ray[2]
    assert comparable(on_ray[1]) == comparable(inline[1])


def test_ray_that_cannot_be_reached_is_said_so(write_scenario, tmp_path):
    scenario = write_scenario(backend='"ray"\nray_address = "127.0.0.1:1"')
    code, _, err = finish(start("--scenario", scenario, "--out", tmp_path / "runs", cwd=tmp_path))
    assert code == 2
    assert "ray_address = '127.0.0.1:1'" in err
    assert "Traceback" not in err


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def flwr_home(tmp_path: Path):
    """An environment in which `flwr run` uses its own SuperLink, which is stopped afterwards."""
    home = tmp_path / "flwr-home"
    home.mkdir()
    environment = os.environ | {
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(free_port()),
        "FLWR_LOCAL_CONTROL_API_PORT": str(free_port()),
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    yield environment
    for process in Path("/proc").iterdir() if Path("/proc").exists() else ():
        try:
            started_here = f"FLWR_HOME={home}".encode() in (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if started_here and int(process.name) != os.getpid():
            os.kill(int(process.name), signal.SIGKILL)


def test_the_same_apps_run_under_flwr_run(write_scenario, tmp_path, flwr_home):
    scenario = write_scenario()
    whole = finish(start("--scenario", scenario, "--out", tmp_path / "a", "--format", "json", cwd=tmp_path))
    assert whole[0] == 0, whole[2]
    code, out, err = finish(start("--scenario", scenario, "--out", tmp_path / "b", "--prepare", cwd=tmp_path))
    assert code == 0, err
    assert out.startswith("flwr run . --stream")
    run = only_run(tmp_path / "b")
    app = tmp_path / "app"
    app.mkdir()
    for name in ("shared_model", "privacy", "federation", "clients", "server", "simulations"):
        shutil.copytree(PROJECT / name, app / name)
    for name in ("pyproject.toml", "fedcart.py", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, app)
    command = out.splitlines()[0].replace("flwr run .", f"flwr run {app}")
    ran = subprocess.run(
        command,
        shell=True,
        cwd=tmp_path,
        env=flwr_home,
        text=True,
        capture_output=True,
        timeout=400,
        check=False,
    )
    assert (run / "model.safetensors").exists(), ran.stdout + ran.stderr
    code, out, err = finish(start("--resume", run, "--format", "json", cwd=tmp_path))
    assert code == 0, err
    assert comparable(out) == comparable(whole[1])


def test_the_bundle_holds_python_files_of_the_packages_only(tmp_path, flwr_home):
    app = tmp_path / "app"
    for name in (
        "shared_model",
        "privacy",
        "federation",
        "clients",
        "server",
        "simulations",
        "docs",
        "tests",
    ):
        shutil.copytree(PROJECT / name, app / name)
    for name in ("pyproject.toml", "fedcart.py", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, app)
    (app / "clients" / "secret.json").write_text("{}")
    (app / "clients" / "data" / "events.csv").write_text("user_id\n1\n")
    built = subprocess.run(
        ["flwr", "build", "--app", str(app)],
        cwd=tmp_path,
        env=flwr_home,
        text=True,
        capture_output=True,
        check=False,
    )
    (bundle,) = tmp_path.glob("*.fab")
    assert built.returncode == 0, built.stderr
    names = zipfile.ZipFile(bundle).namelist()
    outside = [
        name
        for name in names
        if not re.fullmatch(r"(shared_model|privacy|federation|clients|server)/.*\.py", name)
    ]
    assert {name.split("/")[0] for name in outside} <= {"pyproject.toml", ".info", "README.md", "LICENSE"}, (
        outside
    )
    assert "clients/app.py" in names
    assert "server/app.py" in names

"""What gets installed: wheels whose SHA-256 is locked, for every extra, and nothing else; images on a named digest."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCKS = {file.stem: file for file in sorted((ROOT / "requirements").glob("*.lock"))}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def locked(*names: str) -> dict[str, str]:
    """Return the version of each package in these locks."""
    pins = re.findall(r"^(\S+)==(\S+) \\$", "".join(LOCKS[name].read_text() for name in names), re.M)
    return {canonicalize_name(package): pin for package, pin in pins}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_pins_and_hashes_and_names_no_place(name):
    text = LOCKS[name].read_text()
    hash_ = r" \\\n    --hash=sha256:[0-9a-f]{64}"
    assert re.fullmatch(rf"# [^\n]*\n([a-z0-9-]+==[A-Za-z0-9.]+({hash_})+\n)+", text), (
        "a line of another kind"
    )


@pytest.mark.parametrize("extra", ["core", *EXTRAS])
def test_what_the_project_asks_for_is_locked(extra):
    pins = locked("core", "torch", *([] if extra == "core" else [extra]))
    for line in PROJECT["dependencies"] if extra == "core" else EXTRAS[extra]:
        asked = Requirement(line)
        assert asked.specifier.contains(pins[canonicalize_name(asked.name)]), f"{line}: make lock"


def test_locks_that_are_installed_together_agree():
    together = [name for name in LOCKS if name != "rectools"]
    everything = locked(*together)
    for name in together:
        assert locked(name).items() <= everything.items()
    assert locked("torch") == {"torch": "2.13.0"}
    assert "torch==2.13.0" in PROJECT["dependencies"]


def test_these_tests_run_on_what_is_locked():
    (makes,) = re.findall(r"^LOCKS := (.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert set(makes.split()) == {"core", *EXTRAS} - {"sentence-transformers"}
    for package, pin in locked("torch", *makes.split()).items():
        assert Version(version(package)).public == Version(pin).public, f"{package}: make .venv/installed"


def test_nothing_is_installed_past_the_locks():
    files = [
        ROOT / "requirements" / "install",
        ROOT / "Makefile",
        *ROOT.glob("deploy/**/*"),
        *ROOT.glob(".ci/*"),
    ]
    texts = [
        file.read_text(encoding="utf-8") for file in [*files, ROOT / "docs" / "deploy.md"] if file.is_file()
    ]
    calls = [line for text in texts for line in re.findall(r"^.*\bpip install.*$", text, re.M)]
    own = [line for line in calls if re.search(r"--no-deps --no-build-isolation (--editable )?\.$", line)]
    locks = [line for line in calls if "--require-hashes --only-binary :all: --no-deps" in line]
    assert len(own) == 4, "the Makefile, two images, the docs"
    assert len(locks) == 1, "requirements/install"
    assert sorted(own + locks) == sorted(calls)


WHEELS = ("build", "torch", "core", "cuda")


def wheel(folder: Path, name: str, code: str = "") -> Path:
    """Write a wheel of one module; that of torch asks for `cuda`, as PyPI's for Linux does."""
    file = folder / f"{name}-1.0-py3-none-any.whl"
    meta = f"{name}-1.0.dist-info"
    asks = "Requires-Dist: cuda\n" if name == "torch" else ""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}.py", code)
        archive.writestr(f"{meta}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{asks}")
        archive.writestr(f"{meta}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{meta}/RECORD", "")
    return file


@pytest.mark.slow
@pytest.mark.parametrize("swapped", ["nothing", "torch", "core", "cuda"])
def test_a_wheel_that_was_swapped_is_not_installed(swapped, tmp_path):
    shutil.copy(ROOT / "requirements" / "install", tmp_path)
    for name in WHEELS:
        sha256 = hashlib.sha256(wheel(tmp_path, name).read_bytes()).hexdigest()
        (tmp_path / f"{name}.lock").write_text(f"{name}==1.0 \\\n    --hash=sha256:{sha256}\n")
    if swapped != "nothing":
        wheel(tmp_path, swapped, "import os")
    done = subprocess.run(
        [tmp_path / "install", tmp_path / "venv", "core"],
        env={**os.environ, "PYTHON": sys.executable, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    there = {name for name in WHEELS if list(tmp_path.glob(f"venv/lib/*/site-packages/{name}.py"))}
    if swapped == "nothing":
        assert (done.returncode, there) == (0, set(WHEELS)), done.stderr
    else:
        assert done.returncode != 0
        assert "DO NOT MATCH THE HASHES" in done.stderr
        assert swapped not in there


@pytest.mark.parametrize("role", ["client", "server"])
def test_an_image_is_built_on_a_named_digest_or_not_at_all(role):
    """Docker ends at a FROM without a name; a name without a digest ends at the first RUN, which is run here."""
    text = (ROOT / "deploy" / "docker" / f"{role}.Dockerfile").read_text(encoding="utf-8")
    assert "syntax=" not in text, "a frontend that is fetched by its tag"
    assert re.findall(r"^FROM (\S+)", text, re.M) == ["${BASE}", "${BASE}"]
    assert re.findall(r"^ARG BASE.*$", text, re.M) == ["ARG BASE", "ARG BASE"], "no default"
    check = re.findall(r"^RUN (.*)$", text, re.M)[0]
    for base, code in {"python:3.11-slim-bookworm": 1, "python:3.11@sha256:" + "0" * 64: 0}.items():
        assert subprocess.run(["sh", "-c", check], env={"BASE": base}, check=False).returncode == code
    compose = yaml.safe_load((ROOT / "deploy" / "docker" / "compose.yaml").read_text(encoding="utf-8"))
    assert compose["services"][role]["build"]["args"] == {"BASE": "${FEDCART_BASE:-}"}

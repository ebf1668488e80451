"""Write the locks beside this file: every package of every extra, pinned, with the SHA-256 of each of its wheels.

`make lock` keeps the versions that are locked now; `make lock UPGRADE=--upgrade` takes the newest that go together.
uv, which comes with flwr, asks PyPI and chooses for Linux and for macOS on ARM. What Linux alone gets are the CUDA
libraries that PyPI's torch for Linux asks for and PyTorch's own wheel for CPUs does not: they have a lock of their own.
"""

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

LOCKS = Path(__file__).parent
PROJECT = LOCKS.parent
BUILD = "pip==26.3\nsetuptools\n"
# torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl, PyTorch's own for CPUs, which is not on PyPI.
TORCH_CPU = "sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"
HEAD = "# Written by `make lock`, installed by requirements/install.\n"

Blocks = dict[str, str]  # a package's name -> its pin and hashes, as pip reads them


def read(text: str) -> Blocks:
    """Return the packages in the text of a lock."""
    return {
        block.partition("==")[0]: block for block in re.findall(r"^\S+==.*(?:\n +--hash=.*)*\n", text, re.M)
    }


def choose(pins: Blocks, *arguments: str, platform: str = "linux", stdin: str = "") -> Blocks:
    """Return what the requirements in `arguments` need on this platform, at the versions of `pins`."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.writelines(block.split()[0] + "\n" for block in pins.values())
        constraints.flush()
        chosen = subprocess.run(
            [
                *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate"),
                *("--generate-hashes", "--only-binary", ":all:", "--python-version", "3.11"),
                *("--python-platform", platform, "--constraint", constraints.name, *arguments),
            ],
            cwd=PROJECT,
            env=os.environ | {"MACOSX_DEPLOYMENT_TARGET": "14.0"},  # torch's oldest
            input=stdin,
            text=True,
            check=True,
            stdout=subprocess.PIPE,
        ).stdout
    return read(chosen)


def write(name: str, packages: Blocks, without: Blocks) -> None:
    """Write the packages that are not in `without`, in alphabetical order, to the lock `name`."""
    kept = [block for package, block in sorted(packages.items()) if package not in without]
    (LOCKS / f"{name}.lock").write_text(HEAD + "".join(kept), encoding="utf-8")


def main(keep: bool) -> None:
    """Write all locks anew; `keep` the versions that are in them."""
    texts = {file.stem: file.read_text(encoding="utf-8") for file in LOCKS.glob("*.lock")} if keep else {}
    bench = read(texts.pop("rectools", ""))
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    linux = choose(read("".join(texts.values())), "pyproject.toml", "--all-extras")
    mac = choose(linux, "pyproject.toml", "--all-extras", platform="aarch64-apple-darwin")
    cuda = {package: block for package, block in linux.items() if package not in mac}
    torch = {"torch": linux["torch"].rstrip("\n") + f" \\\n    --hash={TORCH_CPU}\n"}
    core = choose(linux, "pyproject.toml")
    write("build", choose(linux, "-", stdin=BUILD), {})
    write("torch", torch, {})
    write("cuda", cuda, {})
    write("core", core, torch | cuda)
    for extra in project["optional-dependencies"]:
        write(extra, choose(linux, "pyproject.toml", "--extra", extra), core)
    write("rectools", choose(bench | torch | cuda, "benchmarks/rectools/requirements.txt"), torch | cuda)


if __name__ == "__main__":
    main(keep="--upgrade" not in sys.argv)

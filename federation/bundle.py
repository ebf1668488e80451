"""App bundles (Flower's FAB): built from what is installed, and compared with it.

A bundle is what the operator submits and Flower hands to every platform. A platform never executes it: it runs
its own installed code, and takes part only in runs whose bundle it has approved and whose client-side code is,
byte for byte, the installed one. So approving a bundle and running it are about the same code.
"""

import io
import tomllib
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import tomli_w
from flwr.cli.build import build_fab_from_files, get_fab_filename

import federation
from federation.errors import WrongPartyError
from federation.versions import VERSION

PACKAGES = ("shared_model", "privacy", "federation", "clients", "server")
CLIENT_PACKAGES = ("shared_model", "privacy", "federation", "clients")
"""What runs on a platform."""
_MANIFEST = "pyproject.toml"
_BESIDE = (_MANIFEST, "README.md", "LICENSE", ".info/CONTENT")
_LIMIT = 50_000_000
_COMPONENTS = {"serverapp": "server.app:app", "clientapp": "clients.app:app"}


def installed_code(packages: tuple[str, ...]) -> dict[str, bytes]:
    """Return the Python files of the installed packages: path from their common root → content."""
    root = Path(federation.__file__).parents[1]
    files = (file for package in packages for file in sorted((root / package).rglob("*.py")))
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in files}


def build_bundle() -> tuple[str, bytes]:
    """Return file name and bytes of the bundle of the installed code; the same code gives the same bytes."""
    manifest = {
        "project": {"name": "fedcart", "version": VERSION, "license": "Apache-2.0", "dependencies": []},
        "tool": {
            "flwr": {
                "app": {
                    "publisher": "fedcart",
                    "fab-include": [f"{package}/**/*.py" for package in PACKAGES],
                    "components": _COMPONENTS,
                    "config": {"run-dir": ""},
                }
            }
        },
    }
    files: dict[str, bytes | Path] = {_MANIFEST: tomli_w.dumps(manifest).encode()}
    files |= installed_code(PACKAGES)
    data, _ = build_fab_from_files(files)
    return get_fab_filename(manifest, digest(data)), data


def digest(data: bytes) -> str:
    """SHA-256 of a bundle, in hex: what Flower, approvals and logs call it."""
    return sha256(data).hexdigest()


def differences(data: bytes, installed: Mapping[str, bytes]) -> list[str]:
    """Return in what a bundle's client side differs from `installed` code, one line each; empty if in nothing.

    Nothing of the bundle is executed or written. Raises WrongPartyError if it is no bundle of fedcart's.
    """
    files = _read(data)
    try:
        components = tomllib.loads(files[_MANIFEST].decode())["tool"]["flwr"]["app"]["components"]
    except (KeyError, TypeError, ValueError):
        components = None
    if components != _COMPONENTS:
        raise WrongPartyError("It is no bundle of fedcart's: its manifest names other apps.")
    ours = {name: content for name, content in files.items() if not name.startswith("server/")}
    found = [
        f"{name} is not part of fedcart" for name in ours if name not in installed and name not in _BESIDE
    ]
    found += [f"{name} is missing" for name in installed if name not in ours]
    found += [f"{name} differs" for name in installed if name in ours and ours[name] != installed[name]]
    return sorted(found)


def _read(data: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > _LIMIT or len(entries) > 5000:
                raise WrongPartyError("It is too large for a bundle of fedcart's.")
            if len({entry.filename for entry in entries}) < len(entries):
                raise WrongPartyError("It is no bundle of fedcart's: it holds a file twice.")
            return {entry.filename: archive.read(entry) for entry in entries}
    except (
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        ValueError,
        OSError,
        EOFError,
        NotImplementedError,
        RuntimeError,
    ):
        raise WrongPartyError("It is no bundle: it cannot be unpacked.") from None

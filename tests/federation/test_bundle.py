"""Bundles: the same code gives the same bytes, and any difference from the installed code is named."""

import io
import zipfile

import pytest

from federation.bundle import (
    CLIENT_PACKAGES,
    build_bundle,
    differences,
    digest,
    installed_code,
)
from federation.errors import WrongPartyError


@pytest.fixture(scope="module")
def bundle() -> bytes:
    return build_bundle()[1]


@pytest.fixture(scope="module")
def installed():
    return installed_code(CLIENT_PACKAGES)


def changed(data: bytes, change) -> bytes:
    """Rewrite a bundle with `change` applied to its files."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def test_the_same_code_gives_the_same_bytes(bundle):
    name, again = build_bundle()
    assert again == bundle
    assert digest(bundle)[:8] in name


def test_a_bundle_holds_code_and_nothing_else(bundle):
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        names = archive.namelist()
    others = {name for name in names if not name.endswith(".py")}
    assert others <= {"pyproject.toml", ".info/CONTENT"}
    assert {"server/app.py", "clients/app.py", "clients/gate.py"} <= set(names)
    assert not [name for name in names if name.startswith("tests")]


def test_flower_accepts_it(bundle, tmp_path):
    from flwr.cli.install import install_from_fab

    path = install_from_fab(bundle, tmp_path, skip_prompt=True)
    assert (path / "clients" / "app.py").exists()


def test_the_bundle_of_the_installed_code_does_not_differ(bundle, installed):
    assert differences(bundle, installed) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.update({"clients/app.py": f["clients/app.py"] + b"\n"}), ["clients/app.py differs"]),
        (lambda f: f.update({"privacy/noise.py": b""}), ["privacy/noise.py differs"]),
        (lambda f: f.pop("shared_model/table.py"), ["shared_model/table.py is missing"]),
        (lambda f: f.update({"clients/more.py": b""}), ["clients/more.py is not part of fedcart"]),
        (lambda f: f.update({"torch/__init__.py": b""}), ["torch/__init__.py is not part of fedcart"]),
        (lambda f: f.update({"sitecustomize.py": b""}), ["sitecustomize.py is not part of fedcart"]),
    ],
)
def test_any_difference_on_the_client_side_is_named(bundle, installed, change, said):
    assert differences(changed(bundle, change), installed) == said


def test_the_server_side_is_the_operator_s(bundle, installed):
    assert differences(changed(bundle, lambda f: f.update({"server/app.py": b"pass"})), installed) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.update({"pyproject.toml": f["pyproject.toml"].replace(b"clients.app", b"clients.evil")}),
        lambda f: f.update({"pyproject.toml": b"[tool"}),
        lambda f: f.update({"pyproject.toml": b"tool = 1"}),
        lambda f: f.update({"pyproject.toml": b"\xff"}),
        lambda f: f.pop("pyproject.toml"),
    ],
)
def test_another_app_is_no_bundle_of_fedcart_s(bundle, installed, change):
    with pytest.raises(WrongPartyError):
        differences(changed(bundle, change), installed)


def test_what_cannot_be_unpacked_is_refused(bundle, installed, monkeypatch):
    for data in (b"", b"PK", bundle[:-30], bundle[: len(bundle) // 2], bytes(1000)):
        with pytest.raises(WrongPartyError):
            differences(data, installed)
    monkeypatch.setattr("federation.bundle._LIMIT", 1000)
    with pytest.raises(WrongPartyError, match="too large"):
        differences(bundle, installed)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_twice_is_refused(bundle, installed):
    """Two readers could take different ones."""
    data = io.BytesIO(bundle)
    with zipfile.ZipFile(data, "a") as archive:
        archive.writestr("clients/app.py", b"import os")
    with pytest.raises(WrongPartyError, match="twice"):
        differences(data.getvalue(), installed)

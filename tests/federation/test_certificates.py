"""Certificates: a TLS client that trusts the authority accepts the server by its names, and nothing else."""

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta

import pytest

from federation.address import split_address
from federation.certificates import (
    certificate_problem,
    key_fits,
    make_authority,
    make_server_certificate,
    read_certificates,
)
from federation.errors import KeyFileError
from federation.files import create
from shared_model.errors import BadInputError

NOW = datetime.now(UTC).replace(microsecond=0)
HOST = "fed.example.org"


@pytest.fixture(scope="module")
def authority():
    return make_authority("groceries", NOW)


@pytest.fixture(scope="module")
def server(authority):
    return make_server_certificate(*authority, HOST, NOW)


def test_a_client_accepts_its_names(authority, server):
    for name in (HOST, "FED.example.org", "localhost", "127.0.0.1", "::1"):
        assert certificate_problem(server[1], authority[1], name, NOW) is None
    for name in ("other.example.org", "example.org", "127.0.0.2"):
        assert "not for" in certificate_problem(server[1], authority[1], name, NOW)


@pytest.mark.parametrize("host", ["10.1.2.3", "2001:db8::1", "a-b.example"])
def test_any_host_can_be_named(authority, host):
    _, certificate = make_server_certificate(*authority, host, NOW)
    assert certificate_problem(certificate, authority[1], host, NOW) is None


def test_time_ends_it(authority, server):
    assert certificate_problem(server[1], authority[1], HOST, NOW + timedelta(days=396)) is None
    assert certificate_problem(server[1], authority[1], HOST, NOW - timedelta(hours=23)) is None
    assert "only" in certificate_problem(server[1], authority[1], HOST, NOW + timedelta(days=398))
    assert "only" in certificate_problem(server[1], authority[1], HOST, NOW - timedelta(days=2))
    late = NOW + timedelta(days=3640)
    _, renewed = make_server_certificate(*authority, HOST, late)
    assert certificate_problem(renewed, authority[1], HOST, late) is None
    assert "vouch" in certificate_problem(renewed, authority[1], HOST, late + timedelta(days=20))


def test_another_authority_does_not_vouch(authority, server):
    other = make_authority("groceries", NOW)
    assert "vouch" in certificate_problem(server[1], other[1], HOST, NOW)
    assert certificate_problem(server[1], authority[1] + other[1], HOST, NOW) is None
    with pytest.raises(BadInputError, match="not the one of its certificate"):
        make_server_certificate(other[0], authority[1], HOST, NOW)


def test_a_server_s_certificate_signs_no_others(authority, server):
    _, forged = make_server_certificate(server[0], server[1], "evil.example", NOW)
    assert "vouch" in certificate_problem(forged, authority[1], "evil.example", NOW)
    assert "vouch" in certificate_problem(forged, authority[1] + server[1], "evil.example", NOW)


def test_a_key_fits_its_certificate(tmp_path, authority, server):
    create(tmp_path / "server.key", server[0], 0o600)
    assert key_fits(tmp_path / "server.key", server[1])
    assert not key_fits(tmp_path / "server.key", authority[1])
    create(tmp_path / "none.key", b"none", 0o600)
    with pytest.raises(KeyFileError):
        key_fits(tmp_path / "none.key", server[1])


def test_facts_are_read(authority, server):
    first, second = read_certificates(authority[1] + server[1])
    assert first.names == ()
    assert HOST in second.names
    assert len(first.fingerprint) == 64
    for nonsense in (b"", b"none", authority[1][:-40]):
        with pytest.raises(BadInputError):
            read_certificates(nonsense)


def test_python_s_strict_tls_client_connects(tmp_path, authority, server):
    for name, data in zip(("ca.crt", "server.key", "server.crt"), (authority[1], *server), strict=True):
        create(tmp_path / name, data, 0o600)
    listening = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    listening.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    client = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            for _ in range(2):
                connection, _ = listener.accept()
                try:
                    with listening.wrap_socket(connection, server_side=True) as tls:
                        tls.recv(1)
                except OSError:
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        with (
            socket.create_connection(listener.getsockname()) as raw,
            client.wrap_socket(raw, server_hostname=HOST) as tls,
        ):
            assert tls.version() == "TLSv1.3"
        with (
            socket.create_connection(listener.getsockname()) as raw,
            pytest.raises(ssl.SSLCertVerificationError),
        ):
            client.wrap_socket(raw, server_hostname="other.example")
        thread.join(10)


@pytest.mark.parametrize(
    "address", ["a", "a:", ":1", "a:0", "a:65536", "a:1x", "a b:1", "[::1:1", "::1:80", "-a:1", "a:１"]
)
def test_an_address_that_cannot_be_used_is_refused(address):
    with pytest.raises(BadInputError):
        split_address(address)

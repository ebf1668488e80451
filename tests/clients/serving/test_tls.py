"""Who gets in: TLS, callers' certificates and tokens over real connections, each refusal with its code."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc

from clients.serving import serve
from clients.serving.serve import SERVICE
from clients.serving.tls import server_credentials
from clients.serving.v1 import serving_pb2 as m
from clients.serving.v1.serving_pb2_grpc import RecommenderStub
from clients.site import ServingSettings
from federation.certificates import make_authority, make_server_certificate
from federation.errors import FolderError, KeyFileError
from federation.validity import now

TOKEN = "0123456789abcdef0123456789abcdef"
LONG_AGO = now() - timedelta(days=500)


@cache
def authority(name: str) -> tuple[bytes, bytes]:
    return make_authority(name, LONG_AGO)


@cache
def caller(of: str, time: datetime, usage: str = "CLIENT_AUTH") -> tuple[bytes, bytes]:
    """Private key and certificate of a caller, good for a year, signed by an authority."""
    signing, issuer = authority(of)
    signer, parent = serialization.load_pem_private_key(signing, None), x509.load_pem_x509_certificate(issuer)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop")]))
        .issuer_name(parent.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(time)
        .not_valid_after(time + timedelta(days=365))
        .add_extension(x509.ExtendedKeyUsage([getattr(ExtendedKeyUsageOID, usage)]), critical=False)
        .sign(signer, hashes.SHA384())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, certificate.public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True)
class Files:
    """Writes a service's files."""

    folder: Path

    def pair(
        self, of: str = "ours", time: datetime | None = None, host: str = "localhost"
    ) -> dict[str, Path]:
        key, certificate = make_server_certificate(*authority(of), host, time or now())
        return {"certificate": self.put("server.pem", certificate), "key": self.put("server.key", key)}

    def put(self, name: str, data: bytes) -> Path:
        file = self.folder / name
        file.write_bytes(data)
        file.chmod(0o600)
        return file

    def token(self) -> Path:
        return self.put("token", TOKEN.encode())


@pytest.fixture
def files(tmp_path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def service(make, served):
    """Serve a small shop with these settings."""
    return lambda **settings: served(make().snapshot, ServingSettings(**settings))


def trusting(of: str, pair: tuple[bytes, bytes] | None = None) -> grpc.ChannelCredentials:
    key, certificate = pair or (None, None)
    return grpc.ssl_channel_credentials(authority(of)[1], key, certificate)


def said(
    address: str, credentials: grpc.ChannelCredentials | None, token: str | None = None
) -> Iterator[str]:
    """The codes of Recommend, RecordFeedback and Health over a connection of its own."""
    name = f"localhost:{address.rpartition(':')[2]}"
    metadata = [] if token is None else [("authorization", f"Bearer {token}")]
    opened = grpc.insecure_channel(name) if credentials is None else grpc.secure_channel(name, credentials)
    with opened as channel:
        stub, health = RecommenderStub(channel), health_pb2_grpc.HealthStub(channel)
        for call in (
            lambda: stub.Recommend(m.RecommendRequest(), metadata=metadata, timeout=30),
            lambda: stub.Profile(m.ProfileRequest(shopper_id="u02"), metadata=metadata, timeout=30),
            lambda: health.Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=30),
        ):
            try:
                call()
                yield "OK"
            except grpc.RpcError as error:
                yield error.code().name


SHUT = ["UNAVAILABLE"] * 3
OPEN = ["OK"] * 3


def test_tls_lets_in_who_trusts_the_certificate_and_nobody_else(service, files):
    running = service(**files.pair())
    assert list(said(running.address, trusting("ours"))) == OPEN
    assert list(said(running.address, trusting("theirs"))) == SHUT
    assert list(said(running.address, None)) == SHUT
    with socket.create_connection(("127.0.0.1", int(running.address.rpartition(":")[2])), 10) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\n\r\n")
        answer = raw.recv(1000)
    assert b"u02" not in answer
    assert b"HTTP/1.1 200" not in answer
    assert list(said(running.address, trusting("ours"))) == OPEN


def test_a_certificate_that_expires_while_it_is_served_is_refused_by_callers(service, files, monkeypatch):
    monkeypatch.setattr(serve, "now", lambda: LONG_AGO)
    running = service(**files.pair("ours", LONG_AGO))
    assert list(said(running.address, trusting("ours"))) == SHUT


def test_a_caller_that_speaks_tls_to_a_plain_port_is_not_answered(service):
    assert list(said(service().address, trusting("ours"))) == SHUT


@pytest.mark.parametrize(
    ("pair", "codes"),
    [
        (None, SHUT),
        (("theirs", now()), SHUT),
        (("ours", LONG_AGO), SHUT),
        (("ours", now() + timedelta(days=2)), SHUT),
        (("ours", now(), "SERVER_AUTH"), SHUT),
        (("ours", now()), OPEN),
    ],
    ids=["none", "another authority's", "expired", "not valid yet", "a server's", "right"],
)
def test_mtls_lets_in_who_has_a_certificate_that_is_in_force(service, files, pair, codes):
    running = service(**files.pair("server"), client_ca=files.put("ca.pem", authority("ours")[1]))
    shown = None if pair is None else caller(*pair)
    assert list(said(running.address, trusting("server", shown))) == codes
    assert list(said(running.address, trusting("server", caller("ours", now())))) == OPEN


def test_a_token_is_asked_for_beside_a_certificate_and_health_needs_the_certificate_only(service, files):
    running = service(
        **files.pair("server"), client_ca=files.put("ca.pem", authority("ours")[1]), token=files.token()
    )
    right = trusting("server", caller("ours", now()))
    missing = ["UNAUTHENTICATED", "UNAUTHENTICATED", "OK"]
    assert list(said(running.address, right)) == missing
    assert list(said(running.address, right, TOKEN[:-1] + "x")) == missing
    assert list(said(running.address, right, TOKEN)) == OPEN
    assert list(said(running.address, trusting("server"), TOKEN)) == SHUT


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (lambda f: {"certificate": f.put("c", b"nonsense")}, "c: holds no certificate in PEM"),
        (lambda f: {"certificate": f.folder / "none"}, "none: cannot be read"),
        (lambda f: {"key": f.put("k", b"nonsense")}, "k: is not the private key of"),
        (lambda f: {"key": f.put("k", caller("ours", now())[0])}, "k: is not the private key of"),
        (lambda f: f.pair("ours", LONG_AGO), "only. Give a new certificate"),
        (lambda f: {"client_ca": f.put("ca", b"nonsense")}, "ca: holds no certificate in PEM"),
    ],
    ids=["no certificate", "no file", "no key", "another key", "expired", "no authority"],
)
def test_files_that_cannot_serve_are_said_before_the_port_is_opened(files, changed, says):
    settings = ServingSettings(**(files.pair() | changed(files)))
    with pytest.raises((KeyFileError, FolderError)) as caught:
        server_credentials(settings, now())
    assert says in str(caught.value)
    assert (caught.value.exit_code, "nonsense" in str(caught.value)) == (4, False)


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(files):
    pair = files.pair()
    key = serialization.load_pem_private_key(pair["key"].read_bytes(), None)
    secret = serialization.BestAvailableEncryption(b"word")
    locked = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret)
    with pytest.raises(KeyFileError, match="or has a password"):
        server_credentials(ServingSettings(**(pair | {"key": files.put("k", locked)})), now())


def test_a_key_that_others_may_read_is_refused(files):
    pair = files.pair()
    pair["key"].chmod(0o644)
    with pytest.raises(KeyFileError):
        server_credentials(ServingSettings(**pair), now())

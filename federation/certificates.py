"""The federation's own certificate authority (X.509, EC P-384) and the certificate of its server."""

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from federation.address import is_ip
from federation.errors import KeyFileError
from federation.files import read_private
from shared_model.errors import BadInputError

AUTHORITY_LIFETIME = timedelta(days=3650)
SERVER_LIFETIME = timedelta(days=397)
BACKDATED = timedelta(days=1)
"""A certificate is valid from a day before it is made: clocks of platforms may be behind."""
LOCAL = ("localhost", "127.0.0.1", "::1")
"""Names by which the operator's own machine reaches the server."""


@dataclass(frozen=True)
class CertificateFacts:
    """What a certificate says: SHA-256 of its DER in hex, names, and its time."""

    fingerprint: str
    names: tuple[str, ...]
    starts: datetime
    ends: datetime


def make_authority(federation: str, time: datetime) -> tuple[bytes, bytes]:
    """Return the private key and certificate of a new authority, PEM."""
    key = ec.generate_private_key(ec.SECP384R1())
    name = _name(f"{federation} certificate authority", federation)
    builder = _builder(name, name, key.public_key(), time, AUTHORITY_LIFETIME)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    certificate = builder.add_extension(usage, critical=True).sign(key, hashes.SHA384())
    return _key_pem(key), _pem(certificate)


def make_server_certificate(
    authority_key: bytes, authority: bytes, host: str, time: datetime
) -> tuple[bytes, bytes]:
    """Return the private key and certificate of a server that is reached as `host` and as `LOCAL`, PEM.

    Raises BadInputError if the authority's key is not its certificate's.
    """
    signer = _load_key(authority_key)
    issuer = x509.load_pem_x509_certificate(authority)
    if signer.public_key() != issuer.public_key():
        raise BadInputError("The authority's private key is not the one of its certificate.")
    key = ec.generate_private_key(ec.SECP384R1())
    builder = _builder(
        _name(host, "fedcart server"), issuer.subject, key.public_key(), time, SERVER_LIFETIME, issuer
    )
    names = x509.SubjectAlternativeName([_general_name(n) for n in dict.fromkeys((host, *LOCAL))])
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    certificate = (
        builder.add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(signer, hashes.SHA384())
    )
    return _key_pem(key), _pem(certificate)


def _name(common: str, organisation: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common[:64]),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
        ]
    )


def _general_name(name: str) -> x509.GeneralName:
    return x509.IPAddress(ipaddress.ip_address(name)) if is_ip(name) else x509.DNSName(name)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    time: datetime,
    lifetime: timedelta,
    authority: x509.Certificate | None = None,
) -> x509.CertificateBuilder:
    signer = key if authority is None else authority.public_key()
    if not isinstance(signer, ec.EllipticCurvePublicKey):
        raise BadInputError("The certificate authority's key is not one that fedcart makes.")
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(time - BACKDATED)
        .not_valid_after(time + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadInputError("The private key is not one that fedcart makes.")
    return key


def read_certificates(pem: bytes) -> list[CertificateFacts]:
    """Return the facts of each certificate in a PEM text; raise BadInputError if there is none or one is bad."""
    try:
        return [_facts(certificate) for certificate in x509.load_pem_x509_certificates(pem)]
    except Exception:  # the bytes may be a stranger's, and X.509 has many ways to be wrong
        raise BadInputError("It holds no certificates in PEM.") from None


def _facts(certificate: x509.Certificate) -> CertificateFacts:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        texts = tuple(str(name.value) for name in names)
    except x509.ExtensionNotFound:
        texts = ()
    return CertificateFacts(
        certificate.fingerprint(hashes.SHA256()).hex(),
        texts,
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )


def certificate_problem(certificate: bytes, authorities: bytes, host: str, time: datetime) -> str | None:
    """Return why a client that trusts `authorities` would refuse this server as `host`, or None if it would not."""
    try:
        leaf = x509.load_pem_x509_certificate(certificate)
        store = Store(x509.load_pem_x509_certificates(authorities))
    except ValueError:
        return "it cannot be read"
    facts = _facts(leaf)
    if not facts.starts <= time <= facts.ends:
        return f"it is valid from {facts.starts:%Y-%m-%d} to {facts.ends:%Y-%m-%d} only"
    if not any(_same_name(host, name) for name in facts.names):
        return f"it is for {', '.join(facts.names) or 'no name'}, not for {host}"
    subject = x509.IPAddress(ipaddress.ip_address(host)) if is_ip(host) else x509.DNSName(host)
    try:
        PolicyBuilder().store(store).time(time).build_server_verifier(subject).verify(leaf, [])
    except VerificationError as error:
        return f"the federation's authority does not vouch for it ({error})"
    return None


def _same_name(host: str, name: str) -> bool:
    if is_ip(host) and is_ip(name):
        return ipaddress.ip_address(host) == ipaddress.ip_address(name)
    return host.lower() == name.lower()


def key_fits(key: Path, certificate: bytes) -> bool:
    """Whether a private key file is the certificate's; raise KeyFileError if it cannot be used."""
    try:
        return (
            _load_key(read_private(key)).public_key()
            == x509.load_pem_x509_certificate(certificate).public_key()
        )
    except (ValueError, BadInputError):
        raise KeyFileError(f"{key}: cannot be used as a private key.") from None

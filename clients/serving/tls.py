"""The service's certificate, key, and authority of callers: checked before the port is opened.

| file                                                   | outcome                  |
|--------------------------------------------------------|--------------------------|
| cannot be read; a key that others may read             | FolderError, KeyFileError |
| no certificate or key in PEM; a key with a password    | KeyFileError             |
| a key of another certificate                           | KeyFileError             |
| a certificate that is not in force                     | KeyFileError             |

gRPC alone says of all of them that the port cannot be had, and of the last nothing.
"""

import ssl
from datetime import datetime
from pathlib import Path

import grpc

from clients.errors import SiteError
from clients.site import ServingSettings
from federation.certificates import read_certificates
from federation.errors import FolderError, KeyFileError
from federation.files import read_private
from shared_model.errors import BadInputError


def server_credentials(settings: ServingSettings, time: datetime) -> grpc.ServerCredentials:
    """Return what a TLS port needs; raise SiteError, FolderError or KeyFileError as above."""
    if settings.certificate is None or settings.key is None:
        raise SiteError("[serving]: certificate and key belong together: give both.")
    chain, key = _in_force(settings.certificate, time), read_private(settings.key)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            settings.certificate, settings.key, lambda: b""
        )
    except (ssl.SSLError, OSError):
        raise KeyFileError(
            f"{settings.key}: is not the private key of {settings.certificate}, or has a password. Give the key, in "
            "PEM and without password, that the certificate was made for."
        ) from None
    callers = None if settings.client_ca is None else _in_force(settings.client_ca, time)
    return grpc.ssl_server_credentials(
        [(key, chain)], root_certificates=callers, require_client_auth=callers is not None
    )


def _in_force(file: Path, time: datetime) -> bytes:
    """Return a PEM file of certificates, of which the first is in force."""
    try:
        pem = file.read_bytes()
        first = read_certificates(pem)[0]
    except OSError as error:
        raise FolderError(f"{file}: cannot be read ({error.strerror}).") from None
    except BadInputError:
        raise KeyFileError(
            f"{file}: holds no certificate in PEM. Give one that begins with BEGIN CERTIFICATE."
        ) from None
    if not first.starts <= time <= first.ends:
        raise KeyFileError(
            f"{file}: is in force from {first.starts:%Y-%m-%d} to {first.ends:%Y-%m-%d} only. Give a new certificate."
        )
    return pem

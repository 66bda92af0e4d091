"""A certificate for this machine, and the authority that clients trust it by."""

import ipaddress
import os
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tocsin_stack.ports import HOST

_LIFE: Final = timedelta(days=825)
"""The longest that every client takes: https://support.apple.com/en-us/103769."""
_LEAST: Final = timedelta(days=30)
"""With less left, new ones are made at the next start."""


@dataclass(frozen=True)
class Certificates:
    """PEM files: what a client must trust, what a server shows, and its private key."""

    authority: Path
    certificate: Path
    key: Path

    @property
    def context(self) -> ssl.SSLContext:
        """For a server. Raises OSError, of which ssl.SSLError is one, when the files cannot be used."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate, self.key)
        return context


def kept(folder: Path, *names: str) -> Certificates:
    """The certificates in the folder. New ones are made, for 127.0.0.1 and these names, if there are none or they end soon."""
    found = _in(folder)
    if not _will_last(found):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        now = datetime.now(UTC)
        make(folder, names, begins=now - timedelta(hours=1), ends=now + _LIFE)
    return found


def make(folder: Path, names: tuple[str, ...], *, begins: datetime, ends: datetime, key: Any = None) -> Certificates:
    """An authority and one certificate of it for 127.0.0.1 and these names. `key`: of the certificate.

    The authority's own key is deleted: a client that trusts the authority trusts only this one certificate.
    """
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), key or ec.generate_private_key(ec.SECP256R1())
    authority = _signed("authority", None, authority_key, authority_key, names, begins, ends)
    certificate = _signed("server", authority.subject, key, authority_key, names, begins, ends)
    made = _in(folder)
    made.key.unlink(missing_ok=True)
    with os.fdopen(os.open(made.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    made.authority.write_bytes(authority.public_bytes(Encoding.PEM))
    made.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    return made


def _in(folder: Path) -> Certificates:
    return Certificates(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")


def _will_last(found: Certificates) -> bool:
    """Whether all files exist, belong together, and do not end soon. A start that was killed may have left only some."""
    try:
        certificate = x509.load_pem_x509_certificate(found.certificate.read_bytes())
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(found.authority.read_bytes()))
        _ = found.context
    except (OSError, ValueError, InvalidSignature):
        return False
    return certificate.not_valid_after_utc - datetime.now(UTC) > _LEAST


def _signed(
    name: str, issuer: x509.Name | None, key: Any, signer: Any, names: tuple[str, ...], begins: datetime, ends: datetime
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST)), *map(x509.DNSName, names)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(address, critical=False)
        # Without these a client that keeps to RFC 5280 refuses it, such as Python from 3.13 on.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(_usage(authority=issuer is None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .sign(signer, SHA256())
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=not authority,  # by an RSA key
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )

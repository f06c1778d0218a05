"""The key that signs a log's checkpoints: an Ed25519 private key in a PEM file that its owner alone may read.

Without a setting it lies beside the database and is made at the first start. Another file, or other contents, is
another key from then on; what the old one signed is verified by its public half, which the database keeps.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from ..errors import Invalid, ProofInvalid
from ..log.files import write_new
from .notes import ED25519, Signer, parse_verifier

FIELD, VERIFY_FIELD = "signing_key_file", "verify_key"


class Trusted(msgspec.Struct, frozen=True):
    """The keys that whoever verifies trusts, and where they are from, in words. ``names``: those of the logs that they
    are for, where the keys say so.
    """

    publics: frozenset[bytes]
    source: str
    names: tuple[str, ...] = ()


def signing_key_path(database: Path, setting: str | None) -> Path:
    return Path(f"{database}.key") if setting is None else Path(setting)


def open_signer(database: Path, setting: str | None) -> Signer:
    """The signer of a database; its key is made where there is none and no setting names one.

    Raises Invalid, which names the setting.
    """
    path = signing_key_path(database, setting)
    if setting is None and not path.exists():
        _make(path)
    return read_signer(path)


def trusted_keys(path: Path, key_setting: str | None, given: str | None) -> Trusted | None:
    """The keys to verify a database by: those that are given, apart by blanks, else that in its key file; None: there
    is neither. Raises Invalid, which names the setting.
    """
    if given is not None:
        return _given(given)
    file = signing_key_path(path, key_setting)
    if key_setting is None and not file.exists():
        return None
    return Trusted(frozenset({read_signer(file).public}), f"in {file}")


def _given(text: str) -> Trusted:
    try:
        keys = [parse_verifier(each) for each in text.split()]
    except ProofInvalid as error:
        raise Invalid(VERIFY_FIELD, error.detail) from None
    if not keys or any(key.kind != ED25519 for key in keys):
        raise Invalid(VERIFY_FIELD, "must be the verifier key of a log: name+hash+key")
    publics = frozenset(key.public for key in keys)
    return Trusted(publics, "that was given", tuple(key.name for key in keys))


def read_signer(path: Path) -> Signer:
    """Raises Invalid for a file that cannot be read or holds no Ed25519 key."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise Invalid(FIELD, f"cannot be read: {error.strerror}") from None
    except (ValueError, TypeError):
        raise Invalid(FIELD, "holds no private key in PEM that can be read without a password") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise Invalid(FIELD, "holds a key of another kind; an Ed25519 private key is needed")
    return Signer(key)


def _make(path: Path) -> None:
    """A new key, whole or not at all. Raises Invalid where it cannot be written."""
    data = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        write_new(path, data)
    except OSError as error:
        raise Invalid(FIELD, f"cannot be written: {error.strerror}") from None

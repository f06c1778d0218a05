"""The secret of a database: a random value in a file of its own, from which keyed hashes take their keys.

What is hashed with it (idempotency keys, for one) cannot be guessed by whoever has the database alone, so the file is
backed up with the signing key and never with the database. The database keeps the secret's id: another secret would
know nothing of what was hashed before.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

import msgspec

from ..errors import Invalid
from ..log.files import sync_folder

FIELD = "secret_file"
HEADER = "manent-secret/1"
SECRET_BYTES = 32
ID_BYTES = 8


class Secret(msgspec.Struct, frozen=True):
    """A secret, which nothing prints."""

    value: bytes

    def __repr__(self) -> str:
        return f"Secret({self.id.hex()})"

    @property
    def id(self) -> bytes:
        """Tells it from any other, and nothing about it."""
        return self.key("id/1")[:ID_BYTES]

    def key(self, purpose: str) -> bytes:
        """The key for one purpose, 32 bytes: HMAC-SHA256 of its name (RFC 2104)."""
        return hmac.digest(self.value, f"{HEADER} {purpose}".encode(), hashlib.sha256)


def secret_path(database: Path, setting: str | None) -> Path:
    return Path(f"{database}.secret") if setting is None else Path(setting)


def read_secret(path: Path) -> Secret:
    """Raises Invalid, which names the setting, for a file that cannot be read or holds no secret."""
    try:
        words = path.read_text("ascii").split()
        value = bytes.fromhex(words[1]) if len(words) == 2 and words[0] == HEADER else b""
    except OSError as error:
        raise Invalid(FIELD, f"{path.name} cannot be read: {error.strerror}") from None
    except ValueError:
        value = b""
    if len(value) != SECRET_BYTES:
        raise Invalid(FIELD, f"{path.name} holds no secret: a line `{HEADER} HEX` with {SECRET_BYTES} bytes is needed")
    return Secret(value)


def make_secret(path: Path) -> Secret:
    """A new secret in a new file, whole or not at all. Raises Invalid where it cannot be written."""
    value = secrets.token_bytes(SECRET_BYTES)
    draft = Path(f"{path}.new")
    try:
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            os.write(descriptor, f"{HEADER} {value.hex()}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        draft.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        raise Invalid(FIELD, f"{path.name} cannot be written: {error.strerror}") from None
    return Secret(value)

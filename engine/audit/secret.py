"""The secret of a database: a random value in a file of its own, from which keyed hashes take their keys.

What is hashed with it (idempotency keys, for one) cannot be guessed by whoever has the database alone, so the file is
backed up with the signing key and never with the database. The database keeps the secret's id: another secret would
know nothing of what was hashed before.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from pathlib import Path

import msgspec

from ..errors import Invalid, SecretMismatch
from ..log.files import write_new
from ..log.sql.secret import bind, bound_to
from ..log.sqlite.connection import open_writer

FIELD = "secret_file"
HEADER = "manent-secret/1"
SECRET_BYTES = 32
ID_BYTES = 8
REMEDY = "put back the file that was made with this database, from where its signing key is backed up"


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
    try:
        write_new(path, f"{HEADER} {value.hex()}\n".encode())
    except OSError as error:
        raise Invalid(FIELD, f"{path.name} cannot be written: {error.strerror}") from None
    return Secret(value)


def secret_of(database: Path, setting: str | None) -> Callable[[], Secret]:
    """Gives the secret of a database when it is asked for, and makes it then where there is none."""

    def give() -> Secret:
        path = secret_path(database, setting)
        return read_secret(path) if path.exists() else make_secret(path)

    return give


def key_if_there(database: Path, setting: str | None, purpose: str) -> bytes | None:
    """The key for a purpose of a database's secret; None where its file is not at hand, or holds none."""
    path = secret_path(database, setting)
    try:
        return read_secret(path).key(purpose) if path.exists() else None
    except Invalid:
        return None


def open_secret(database: Path, setting: str | None) -> Secret:
    """The secret of a migrated database, whose lock the caller holds. A database that names none yet is bound to it.

    Raises SecretMismatch where the file is missing or holds another than the database names, and Invalid for a file
    that holds none.
    """
    path = secret_path(database, setting)
    engine = open_writer(database)
    try:
        with engine.begin() as connection:
            named = bound_to(connection)
            if named is None:
                secret = secret_of(database, setting)()
                bind(connection, secret.id)
                return secret
    finally:
        engine.dispose()
    if not path.exists():
        raise SecretMismatch(f"{path.name} is missing: {REMEDY}", secret_id=named.hex())
    secret = read_secret(path)
    if secret.id != named:
        raise SecretMismatch(f"{path.name} is the secret of another database: {REMEDY}", secret_id=named.hex())
    return secret

"""``manent key``."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec

from ...engine import Invalid
from ..http.auth import ALL_SCOPES, Key, read_keys
from .database import tenant_option
from .options import read_settings, settings_options
from .terminal import notice

PREFIX = "manent_"
"""So that a key found somewhere says what it is for."""
SECRET_BYTES = 32


@click.command()
@click.argument("key_id", metavar="ID")
@tenant_option
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(sorted(ALL_SCOPES)),
    multiple=True,
    default=["chat"],
    show_default=True,
    help="What the key may do. May be given again.",
)
@click.option("--expires-at", metavar="TIME", help="The last moment that it is valid, like 2027-01-01T00:00:00Z.")
@click.option("--file", "path", type=click.Path(dir_okay=False, path_type=Path), help="Add it to this file of keys.")
@settings_options("api_keys_file")
def key(
    *, key_id: str, tenant: str, scopes: tuple[str, ...], expires_at: str | None, path: Path | None, **options: Any
) -> None:
    """Make an API key. ID becomes the actor key:ID of what it writes, so it may hold no name or address.

    The key is printed on standard output, this once. Its entry is added to the file given by --file, or named by
    MANENT_API_KEYS_FILE; without either it is printed on standard error, to be put there.
    """
    configured = read_settings(options).api_keys_file
    path = path or (Path(configured) if configured else None)
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    fields = {"id": key_id, "tenant": tenant, "scopes": sorted(set(scopes))}
    entry = _entry(fields if expires_at is None else fields | {"expires_at": expires_at}, secret)
    if path is None:
        notice("put this entry into the list in the file that MANENT_API_KEYS_FILE names:")
        click.echo(msgspec.json.encode(entry).decode(), err=True)
    else:
        _add(path, entry)
        notice(f"added {key_id} ({tenant}: {', '.join(entry.scopes)}) to {path}; a running server reads it at once")
    click.echo(secret)


def _entry(fields: dict[str, Any], secret: str) -> Key:
    """The entry that a server keeps of a key. Raises Invalid."""
    try:
        return msgspec.convert(fields | {"sha256": hashlib.sha256(secret.encode()).hexdigest()}, Key)
    except msgspec.ValidationError as error:
        raise Invalid("key", str(error)) from None


def _add(path: Path, entry: Key) -> None:
    """Add an entry to a file of keys, which is replaced as a whole: a server that looks now reads the old or the new
    one. Raises Invalid for a file that is none, or that has the id.
    """
    path = path.resolve()
    try:
        with _alone(path.parent):
            entries: list[Key] = []
            if path.exists() and path.read_bytes().strip() not in {b"", b"[]"}:
                read_keys(str(path))
                entries = msgspec.json.decode(path.read_bytes(), type=list[Key])
            if any(other.id == entry.id for other in entries):
                raise Invalid("id", f"{path} has a key {entry.id} already")
            text = msgspec.json.format(msgspec.json.encode([*entries, entry]), indent=2) + b"\n"
            _replace(path, text)
    except OSError as error:
        raise Invalid("file", f"{path} cannot be written: {error.strerror}") from None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One at a time in a folder: of two that read, add and replace at once, one would lose its key."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, data: bytes) -> None:
    """Readable by its owner only, and on disk before it takes the old one's place."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)

"""Helpers of commands that read: opening a file beside its server, whose log, which session, and JSON."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from uuid import UUID

import click
import msgspec

from ... import engine
from ...engine import (
    LOCAL,
    Caller,
    Engine,
    Invalid,
    Refused,
    Session,
    SessionFilter,
    SessionNotFound,
    Settings,
    StoreLocked,
    SyncEngine,
)
from .terminal import notice

F = TypeVar("F", bound=Callable[..., Any])

ID_DIGITS = 32
OF_ONE_DATABASE = ("checkpoint_file", "signing_key_file", "secret_file")
"""Settings that name what lies beside a lasting database, and is none of a temporary one's."""
EVERY = SessionFilter(branches="all", kind="any")
"""Sessions of whatever kind, wherever they stand in their families."""
_DASHED = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{0,4}){1,3}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{0,12}")
_DIGITS = re.compile(rf"[0-9a-f]{{1,{ID_DIGITS}}}")


def tenant_option(command: F) -> F:
    """Whose log: every look-up is by tenant and id."""
    return click.option("--tenant", default=LOCAL.tenant, show_default=True, help="Whose log it is.")(command)


def json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, in the shapes of the HTTP API.")(command)


def caller_for(tenant: str) -> Caller:
    """The local user, in a tenant's log. Raises Invalid."""
    engine.check_tenant(tenant)
    return Caller(tenant)


@asynccontextmanager
async def open_existing(settings: Settings) -> AsyncIterator[Engine]:
    """Read a database file beside whoever writes it. Raises StoreUnavailable where there is none."""
    engine.existing_database(settings)
    async with engine.open_beside(settings) as chat:
        yield chat


@asynccontextmanager
async def open_temporary(settings: Settings) -> AsyncIterator[Engine]:
    """An engine with these settings on a database that is gone afterwards: nothing is left where there is none yet."""
    with TemporaryDirectory(prefix="manent-") as folder:
        async with engine.open(in_folder(settings, folder)) as chat:
            yield chat


def in_folder(settings: Settings, folder: str) -> Settings:
    """The same settings on a database of its own in a folder."""
    beside = dict.fromkeys(OF_ONE_DATABASE)
    return msgspec.structs.replace(settings, database=str(Path(folder) / "manent.db"), **beside)


def open_to_write(settings: Settings) -> SyncEngine:
    """Open a database file to change it. Raises StoreLocked, which names the server that has it and how to ask that."""
    try:
        return engine.open_sync(settings, notice=notice)
    except StoreLocked as locked:
        address = locked.extra.get("address")
        detail = f"{locked.detail}; --url {address} works there" if address else locked.detail
        raise StoreLocked(detail, **locked.extra) from None


async def find_session(chat: Engine, text: str, caller: Caller) -> Session:
    """The session with this id, or the only one whose id begins with it.

    Raises Invalid for what cannot begin an id, SessionNotFound, and Refused where several ids begin with it.
    """
    prefix = read_prefix(text)
    if len(prefix) == ID_DIGITS:
        try:
            return await chat.session(prefix, caller=caller)
        except SessionNotFound:
            raise no_session(text) from None
    newest = await chat.sessions(order="created", after=first_above(prefix), limit=2, caller=caller, **EVERY)
    return only_one(newest.items, text)


def first_above(prefix: str) -> UUID | None:
    """The first id above all that begin with a prefix; None if there is none. Ids are in order of creation, so those
    that begin with it are the newest before this one.
    """
    above = (int(prefix, 16) + 1) << 4 * (ID_DIGITS - len(prefix))
    return UUID(int=above) if above < 1 << 128 else None


def only_one(newest: list[Session], text: str) -> Session:
    """The one of two sessions whose id begins so. Raises SessionNotFound, and Refused where both do."""
    found = [session for session in newest if session.id.hex.startswith(read_prefix(text))]
    if not found:
        raise no_session(text)
    if len(found) > 1:
        both = f"{found[1].id} and {found[0].id}"
        raise Refused(f"more than one session begins with {text}, among them {both}: give more of the id")
    return found[0]


def no_session(text: str) -> SessionNotFound:
    """The error for an id, or the beginning of one, that no session has."""
    return SessionNotFound(f"there is no session {text}: manent sessions lists those there are")


def read_prefix(text: str) -> str:
    """The hexadecimal digits of an id or of its beginning, with the dashes where they belong or without any."""
    lower = text.lower()
    digits = lower.replace("-", "")
    if not (_DIGITS.fullmatch(digits) and (lower == digits or _DASHED.fullmatch(lower))):
        raise Invalid(
            "session", f"{text!r} is not the id of a session, or the beginning of one: manent sessions lists them"
        )
    return digits


async def print_array(items: AsyncIterator[object]) -> None:
    """A JSON array, one item a line, printed as the items come."""
    before = "[\n"
    async for item in items:
        click.echo(before + msgspec.json.encode(item).decode(), nl=False)
        before = ",\n"
    click.echo("[]" if before == "[\n" else "\n]")

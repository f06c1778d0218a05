"""Settings to a running engine: the only place that chooses members.

``open_engine`` takes the database file for itself: it locks and migrates it, ends the turns of a server that died,
and gives an ``Engine``. ``open_beside`` only reads, also while a server has the file.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import ExitStack, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import IO

import msgspec

from .audit.bundle import verify_bundle as format_
from .audit.checkpoint_file import OutsideFile, outside_path
from .audit.checkpointer import Keeper, keeping
from .audit.doctor import examine_evidence
from .audit.keys import open_signer, trusted_keys
from .audit.rollback import Accepted
from .audit.rollback import accept_break as accept_break_of
from .audit.secret import key_if_there, open_secret, secret_of
from .audit.verify.database import Verified, verify_file
from .clock import Clock, SystemClock
from .errors import Broken, EngineError, Invalid
from .events.upcasts import meaning_of as meaning_of_facts
from .log.base import Connection
from .log.rebuild import Rebuilt, rebuild, rebuild_file
from .log.sql.tables import metadata
from .log.sqlite.connection import DRIVER_ERRORS, database_path, meaning_of, open_writer
from .log.sqlite.doctor import Finding, examine, existing
from .log.sqlite.lock import locked
from .log.sqlite.read_only import readable
from .log.sqlite.schema import Progress, check_revision, migrate
from .log.store import Store, open_reading, open_store
from .providers import tokens
from .providers.assemble import make_providers
from .providers.registry import Providers
from .providers.routes_file import add_routes
from .service.engine import Engine
from .service.evidence import Evidence
from .service.import_bundle import Imported, import_log, import_session
from .service.parts import Parts
from .service.sync import SyncEngine
from .service.words_in_facts import examine_facts
from .sessions.canonical import PURPOSE as PREFIX
from .sessions.envelope import LOCAL, Caller
from .sessions.projector import Catalog, derived
from .settings import Settings
from .tools.base import Tool
from .tools.builtin import builtin_tools
from .tools.mcp.config import McpServer, mcp_available, read_servers
from .tools.registry import Tools
from .tools.runner import ToolLimits, ToolRunner
from .turns.observer import Observer
from .turns.recovery import recover
from .turns.supervisor import Supervisor

Database = str | Path | Settings | None
"""A file by its path or URL; or settings, which name it; or None, for the settings' default."""

Notice = Callable[[str], None]

ECHO_MODEL = "echo/echo"
LOCAL_MODEL = "local/smollm2-135m"
IDEMPOTENCY = "idempotency/1"
RETRY = "retry/1"
"""The purpose of the key that idempotency keys are hashed with."""


@asynccontextmanager
async def open_engine(
    database: Database = None,
    *,
    providers: Providers | None = None,
    tools: Iterable[Tool] = (),
    clock: Clock | None = None,
    notice: Notice | None = None,
    observer: Observer | None = None,
) -> AsyncIterator[Engine]:
    """Open an engine on a database file, which is created or migrated if need be. ``tools`` are offered beside the
    built-in ones. ``notice`` is told what was done at the start, ``observer`` what happens afterwards.

    Raises StoreLocked if a server has the file, StoreNewer, StoreForeign, or Invalid for a setting.
    """
    async with _open_parts(database, providers, tools, clock, notice or _quiet, observer) as parts:
        yield Engine(parts)


def open_sync(
    database: Database = None,
    *,
    providers: Providers | None = None,
    tools: Iterable[Tool] = (),
    clock: Clock | None = None,
    notice: Notice | None = None,
) -> SyncEngine:
    """Open an engine for code that does not await: scripts and notebooks, also where an event loop runs already.
    Arguments and errors are those of ``open``. Close it, or use it in a ``with`` statement.
    """
    return SyncEngine(lambda: open_engine(database, providers=providers, tools=tools, clock=clock, notice=notice))


@asynccontextmanager
async def _open_parts(
    database: Database,
    providers: Providers | None,
    tools: Iterable[Tool],
    clock: Clock | None,
    notice: Notice,
    observer: Observer | None = None,
) -> AsyncIterator[Parts]:
    settings = _settings(database)
    clock = clock or SystemClock()
    observer = observer or Observer()
    path = database_path(settings.database)
    async with _serving(settings, clock, providers) as members, _held(path):
        before, now = await asyncio.to_thread(_migrate, path, settings, _in_tenths(notice))
        if before != now:
            notice(f"database {path}: " + (f"migrated from {before} to {now}" if before else "created"))
        secret = await asyncio.to_thread(open_secret, path, settings.secret_file)
        keys = secret.key(PREFIX), secret.key(RETRY)
        await asyncio.to_thread(tokens.load)
        async with (
            open_store(
                path,
                Catalog(keys[0]),
                clock,
                settings,
                meaning_of_facts,
                secret.key(IDEMPOTENCY),
                observer.append_took,
                observer.damage_found,
            ) as store,
            keeping(store, path, clock, settings, notice, observer.checkpoint_signed) as keeper,
            _mcp_tools(settings) as more,
            _running(
                (store, keeper, members), Tools([*builtin_tools(clock), *tools, *more]), clock, settings, observer, keys
            ) as parts,
        ):
            observer.opened(members.available(), members.names())
            ended = 0 if store.frozen else await recover(store, clock, observer)
            if ended:
                notice(f"ended {ended} turn(s) that a stopped server had left open")
            yield parts


@asynccontextmanager
async def open_beside(database: Database = None) -> AsyncIterator[Engine]:
    """Open an engine that only reads, also while a server has the file, and on a read-only medium. Raises StoreOlder
    where the file must be migrated first, and StoreUnavailable where there is none; the engine raises StoreUnavailable
    for what would write.
    """
    settings, clock = _settings(database), SystemClock()
    with ExitStack() as stack:
        path = await asyncio.to_thread(stack.enter_context, readable(database_path(settings.database)))
        await asyncio.to_thread(check_revision, path)
        tools = Tools(builtin_tools(clock))
        async with (
            _serving(settings, clock) as providers,
            open_reading(path, settings, meaning_of_facts) as store,
            _running((store, None, providers), tools, clock, settings) as parts,
        ):
            yield Engine(parts)


def existing_database(database: Database = None) -> Path:
    """The path of a database file that is there. Raises StoreUnavailable where there is none."""
    return existing(database_path(_settings(database).database))


def migrate_database(database: Database = None, progress: Progress | None = None) -> tuple[str | None, str]:
    """Bring a file to the newest revision: the one it was at (None: it is new), and the one it is at. Raises as
    ``open_engine``.
    """
    settings = _settings(database)
    path = database_path(settings.database)
    with locked(path):
        return _migrate(path, settings, progress)


def _migrate(path: Path, settings: Settings, progress: Progress | None = None) -> tuple[str | None, str]:
    """Migrate a locked file. What an older version derived from its events is derived again: it may have known less."""

    def derive(connection: Connection) -> None:
        rebuild(connection, *derived(key_if_there(path, settings.secret_file, PREFIX)), progress or _no_progress)

    return migrate(path, progress, secret_of(path, settings.secret_file), derive)


def accept_break(database: Database = None) -> list[Accepted]:
    """Record that a database is not the one its checkpoints outside speak of, and give its logs new names; empty where
    there is no break. Raises StoreLocked, StoreOlder, and Broken for a log that cannot be gone on with.
    """
    settings = _settings(database)
    path = existing(database_path(settings.database))
    with locked(path):
        check_revision(path)
        outside = OutsideFile(outside_path(path, settings.checkpoint_file))
        return accept_break_of(path, outside, open_signer(path, settings.signing_key_file), SystemClock())


def rebuild_projections(database: Database = None, progress: Progress | None = None) -> Rebuilt:
    """Drop all that is derived from a file's events, and derive it again. Raises StoreLocked, StoreOlder and such."""
    settings = _settings(database)
    path = existing(database_path(settings.database))
    with locked(path):
        check_revision(path)
        return rebuild_file(path, *derived(key_if_there(path, settings.secret_file, PREFIX)), progress or _no_progress)


def verify_database(database: Database = None, progress: Progress | None = None) -> Verified:
    """Verify a whole database: its rows by their hashes, and its checkpoints by the key that is trusted. Changes
    nothing, and works beside a server and on a read-only medium.

    Raises StoreOlder, StoreForeign and such for a file that it cannot begin with.
    """
    settings = _settings(database)
    path = existing(database_path(settings.database))
    trusted = trusted_keys(path, settings.signing_key_file, settings.verify_key)
    outside = OutsideFile(outside_path(path, settings.checkpoint_file))
    with readable(path) as place:
        check_revision(place)
        return verify_file(
            place,
            *derived(key_if_there(path, settings.secret_file, PREFIX)),
            outside,
            trusted,
            progress or _no_progress,
        )


def examine_database(database: Database = None) -> list[Finding]:
    """Examine the settings that durability and evidence depend on. Changes nothing, and works beside a server."""
    settings = _settings(database)
    path = database_path(settings.database)
    evidence = examine_evidence(path, settings.signing_key_file, settings.checkpoint_file, settings.checkpoint_every_s)
    return [*examine(path, metadata.tables), *evidence, *examine_facts(path, settings)]


@asynccontextmanager
async def _running(
    base: tuple[Store, Keeper | None, Providers],
    tools: Tools,
    clock: Clock,
    settings: Settings,
    observer: Observer | None = None,
    keys: tuple[bytes, bytes] = (b"", b""),
) -> AsyncIterator[Parts]:
    store, keeper, providers = base
    limits = ToolLimits(
        timeout_s=settings.tool_timeout_s,
        max_output_bytes=settings.max_tool_output_bytes,
        max_threads=settings.max_tool_threads,
    )
    supervisor = Supervisor(store, providers, ToolRunner(tools, limits, clock), clock, settings, observer)
    parts = Parts(supervisor, tools, default_model(settings, providers), Evidence(store, keeper), keys)
    try:
        yield parts
    finally:
        await parts.close()
        await supervisor.close()


@asynccontextmanager
async def _held(path: Path) -> AsyncIterator[None]:
    with locked(path):
        yield


@asynccontextmanager
async def _serving(settings: Settings, clock: Clock, providers: Providers | None = None) -> AsyncIterator[Providers]:
    """The providers, closed at the end. Raises UnknownModel for a default model that nobody serves."""
    members = providers or make_providers(settings, clock)
    try:
        add_routes(members, settings, clock)
        default_model(settings, members)
        yield members
    finally:
        await members.aclose()


@asynccontextmanager
async def _mcp_tools(settings: Settings) -> AsyncIterator[list[Tool]]:
    """The tools of the MCP servers that the settings name, as long as they are needed."""
    if settings.mcp_servers_file is None:
        yield []
        return
    if not mcp_available():
        raise Invalid("mcp_servers_file", "needs the extra `mcp`: pip install 'manent[mcp]'")
    # Imported only where it is asked for: the package is optional, and half a second to import.
    mcp = import_module(".tools.mcp.client", __package__)
    servers = await asyncio.to_thread(_mcp_servers, Path(settings.mcp_servers_file))
    connections, tools = await mcp.connect_all(servers)
    try:
        yield tools
    finally:
        await mcp.close_all(connections)


def _mcp_servers(file: Path) -> tuple[McpServer, ...]:
    try:
        return read_servers(file.read_bytes())
    except OSError as error:
        raise Invalid("mcp_servers_file", f"cannot be read: {error.__class__.__name__}") from None


def default_model(settings: Settings, providers: Providers) -> str:
    """The model of a session that names none. Raises UnknownModel for a setting that nobody serves."""
    if settings.model is not None:
        return providers.canonical(settings.model)
    return LOCAL_MODEL if LOCAL_MODEL in providers.available() else ECHO_MODEL


def _settings(database: Database) -> Settings:
    if isinstance(database, Settings):
        return database
    if database is None:
        return Settings()
    return msgspec.structs.replace(Settings(), database=str(database))


def _quiet(_: str) -> None:
    return None


def _in_tenths(notice: Notice) -> Progress:
    """A notice for each tenth of the events that a migration takes in."""
    told = 0

    def tell(done: int, total: int) -> None:
        nonlocal told
        tenth = done * 10 // total
        if tenth > told:
            told = tenth
            notice(f"migrating: {done} of {total} events")

    return tell


def _no_progress(_: int, __: int) -> None:
    return None


def import_bundle(
    database: Database,
    file: Path,
    *,
    caller: Caller = LOCAL,
    progress: Progress | None = None,
) -> Imported:
    """Verify a bundle and take it in. No server may have the database open; it is created if need be.

    Raises Broken for a bundle that is not good, Invalid for one of another tenant, and Refused for a whole log where
    there is one already.
    """
    settings = _settings(database)
    try:
        with file.open("rb") as opened:
            return _import(settings, opened, caller, progress or _no_progress)
    except format_.Broken as error:
        raise Broken(str(error), position=error.args[1] if len(error.args) > 1 else None) from None
    except OSError as error:
        raise Invalid("file", f"cannot be read: {error.strerror}") from None


def _import(settings: Settings, file: IO[bytes], caller: Caller, progress: Progress) -> Imported:
    bundle = format_.verify(file, [])
    if not bundle.whole:
        return asyncio.run(_import_session(settings, bundle, caller))
    if bundle.manifest["tenant"] != caller.tenant:
        raise Invalid("tenant", f"the bundle is of the log of {bundle.manifest['tenant']}")
    migrate_database(settings)
    return _import_log(settings, bundle, progress)


async def _import_session(settings: Settings, bundle: format_.Bundle, caller: Caller) -> Imported:
    async with _open_parts(settings, None, (), None, _quiet) as parts:
        return await import_session(
            parts.store, parts.clock, parts.names, bundle, caller, max_events=settings.max_import_events
        )


def _import_log(settings: Settings, bundle: format_.Bundle, progress: Progress) -> Imported:
    path = database_path(settings.database)
    with locked(path):
        database = open_writer(path)
        try:
            with database.begin() as connection:
                return import_log(connection, bundle, SystemClock(), progress)
        except EngineError:
            raise
        except DRIVER_ERRORS as error:
            raise meaning_of(error) from error
        finally:
            database.dispose()

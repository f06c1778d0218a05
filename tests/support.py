"""What many tests share: a clock set by hand, an engine on a script, and an auditor that trusts no code of ours.

The auditor recomputes every commitment and leaf from the rows of a file, by the text of DESIGN section 4 and the
``rfc8785`` package.
"""

import asyncio
import gc
import hashlib
import json
import shutil
import sqlite3
from collections import Counter
from contextlib import asynccontextmanager, closing
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import msgspec
import rfc8785

from manent import engine
from manent.engine.clock import uuid7
from manent.engine.log import codec
from manent.engine.log.base import RecordedEvent
from manent.engine.log.rebuild import fold_all
from manent.engine.log.sql.driver import empty_table
from manent.engine.log.sqlite.connection import open_writer
from manent.engine.providers import tokens
from manent.engine.providers.base import ModelInfo
from manent.engine.providers.echo import RENDERER, RENDERERS, EchoProvider
from manent.engine.providers.registry import Providers
from manent.engine.providers.scripted import ScriptedProvider, parse_script
from manent.engine.sessions.projector import Catalog
from manent.engine.sessions.state import evolve
from manent.engine.sessions.tables import PROJECTIONS

SESSION = engine.new_id()


class ManualClock:
    """Time stands still until a test moves it; ids and salts are counted, so that every run gives the same."""

    def __init__(self, now_us=1_800_000_000_000_000):
        self.time_us = now_us
        self.monotonic = 1000.0
        self.made = 0

    def now_us(self):
        return self.time_us

    def monotonic_s(self):
        return self.monotonic

    def new_id(self):
        self.made += 1
        return uuid7(self.time_us * 1000, self.made.to_bytes(10, "big"))

    def salts(self, count):
        self.made += count
        return [hashlib.sha256(b"%d/%d" % (self.made, number)).digest()[:16] for number in range(count)]


# --- an engine on a script --------------------------------------------------------------------------------------------


class Counted(ScriptedProvider):
    """Counts what it is asked, and keeps the requests."""

    def __init__(self, models):
        super().__init__(parse_script(json.dumps({"models": models}).encode()))
        self.requests = []

    def stream(self, request):
        self.requests.append(request)
        return super().stream(request)


class Dictated:
    """Says what a test puts into its mouth: chunks; a function among them is awaited, an error raised."""

    name = "dictated"
    renderer = RENDERER
    renderers = RENDERERS

    def __init__(self, *steps):
        self.steps = steps
        self.requests = []
        self.left = 0

    def models(self):
        return [ModelInfo("model", family="echo")]

    def model(self, name):
        return ModelInfo(name, family="echo")

    async def stream(self, request):
        self.requests.append(request)
        try:
            for step in self.steps:
                if isinstance(step, BaseException):
                    raise step
                if callable(step):
                    await step()
                else:
                    yield step
        finally:
            self.left += 1

    async def aclose(self):
        """There is nothing to release."""


def says(*steps):
    """A model that always does this; a text stands for its step."""
    return [{"steps": [{"text": step} if isinstance(step, str) else step for step in steps]}]


def offered(*names):
    """Tools of these names that the caller runs."""
    return tuple(engine.ToolSchema(name, "", {"type": "object", "properties": {}}) for name in names)


def forget_outside(path):
    """Take away the checkpoints that lie beside a file."""
    Path(f"{path}.checkpoints").unlink(missing_ok=True)


@asynccontextmanager
async def chatting(
    path, clock=None, providers=(), tools=(), *, unwitnessed=False, observer=None, **models_and_settings
):
    """An engine on a file, with echo and a script. Nothing is tried twice unless asked; the rest scripts models.
    ``unwitnessed``: no checkpoint outside tells of a file that lay there before.
    """
    if unwitnessed:
        forget_outside(path)
    names = {name for name in models_and_settings if name in engine.Settings.__struct_fields__}
    given = {"drain_s": 1, "max_attempts": 1} | {name: models_and_settings[name] for name in names}
    settings = engine.Settings(database=str(path), **given)
    models = {name: answers for name, answers in models_and_settings.items() if name not in names}
    script = Counted(models or {"none": says()})
    members = Providers([EchoProvider(tokens.count_text), script, *providers])
    async with engine.open(settings, providers=members, tools=tools, clock=clock, observer=observer) as chat:
        chat.script = script
        yield chat


async def call_ids(chat, session):
    """The id that the model gave each call of a session, by the call's ordinal."""
    ids = {}
    for event in (await chat.events(session, types=("message.appended",), limit=1000)).items:
        blocks = json.loads(bytes(event.body))["content"] if event.body else []
        made = json.loads(bytes(event.facts)).get("calls", [])
        ids |= zip(made, [block["id"] for block in blocks if block["type"] == "tool_use"], strict=True) if made else ()
    return ids


async def begin(chat, session, content=None, **options):
    """Start a turn on a text (or on what is there); the id of the turn."""
    return (await chat.start_turn(session, content, **options)).turn


async def frames_of(chat, turn, after=0, caller=engine.LOCAL):
    """All frames of a turn, up to its end."""
    return [frame async for batch in chat.frames(turn, caller=caller, after=after) for frame in batch]


async def shown(chat, turn, count):
    """The first frames of a turn, at least so many; then the reader leaves."""
    frames = []
    batches = chat.frames(turn)
    async for batch in batches:
        frames += batch
        if len(frames) >= count:
            break
    await batches.aclose()
    return frames


async def until(condition, timeout_s=5):
    """Wait until a condition holds."""
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


def alive(*kinds):
    """How many objects of these types there are in memory."""
    return sum(isinstance(thing, kinds) for thing in gc.get_objects())


async def explained(chat, session, caller=engine.LOCAL):
    """What every attempt of a session was sent, explained: each is what was committed to, and its figures add up."""
    found = []
    async for turn in chat.iter_turns(session, caller=caller):
        for number in range(1, len(turn.attempts) + 1):
            prompt = await chat.explain(turn.id, attempt=number, caller=caller)
            assert (prompt.turn_id, prompt.attempt, prompt.matches) == (turn.id, number, True)
            assert_adds_up(prompt)
            found.append(prompt)
    return found


def assert_adds_up(prompt):
    """The figures of a window are sums of what stands beside them."""
    window, left = prompt.window, prompt.window.omitted
    form = prompt.parameters.response_format
    schema = b"" if form is None or form.schema is msgspec.UNSET else bytes(form.schema)
    assert window.tool_tokens == tokens.count_tools(prompt.tools) + tokens.count_text(schema.decode())
    assert window.base_tokens == window.tool_tokens + sum(each.tokens for each in window.included)
    base, sent = window.base_tokens, len(window.included)
    assert window.used_tokens == tokens.figure(base, sent, window.factor_permille, window.overhead)
    assert window.used_tokens <= window.budget_tokens - window.reserve_tokens
    assert (left.count, left.tokens) == (
        sum(each.count for each in left.by_reason.values()),
        sum(each.tokens for each in left.by_reason.values()),
    )
    assert len(left.items) == min(left.count, 100)
    assert {each.position for each in left.items}.isdisjoint(each.position for each in window.included)
    if left.count == len(left.items):
        assert Counter(each.reason for each in left.items) == {why: each.count for why, each in left.by_reason.items()}
        assert sum(each.tokens for each in left.items) == left.tokens


def told(frames):
    """Frames as (number, type), for reading."""
    return [(frame.number, frame.type) for frame in frames]


def texts_of(frames):
    """Block -> the join of its deltas."""
    texts = {}
    for frame in frames:
        if frame.type == "delta":
            data = json.loads(frame.data)
            texts[data["block"]] = texts.get(data["block"], "") + data["text"]
    return texts


def awaited(turn):
    """Ids of the calls that a turn waits for a decision on: of a view, or of the data of a frame or an answer."""
    if isinstance(turn, dict):
        return [call["tool_use_id"] for call in turn["pending_approvals"]]
    return tuple(call.tool_use_id for call in turn.pending_approvals)


def text_of(message):
    return engine.text_of(message.blocks())


# --- looking into a file ----------------------------------------------------------------------------------------------


def query(path, sql, values=()):
    """Rows of a file, read by a plain connection."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(sql, values).fetchall()


def execute(path, sql, values=()):
    """Change a file from outside, as somebody with a shell would."""
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(sql, values).rowcount


def dump(path, tables=None):
    """Every row of these tables (all of them, if none are named), each table in order."""
    if tables is None:
        tables = [name for (name,) in query(path, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    return {name: sorted(query(path, f"SELECT * FROM {name}"), key=repr) for name in tables}


def snapshot(path, copy):
    """The file as it is on disk at this moment, as a machine that loses power now would find it."""
    with closing(sqlite3.connect(path)) as live, closing(sqlite3.connect(copy)) as other:
        live.backup(other)
    copy_secret(path, copy)  # it was there before the file named it
    return copy


def copy_secret(path, copy):
    """The secret of a file beside its copy, which is not served without it."""
    if (secret := Path(f"{path}.secret")).exists():
        shutil.copy(secret, f"{copy}.secret")


def settle(path):
    """What is promised of a closed file holds: the log, the verification, and what is derived from it."""
    audit(path)
    assert engine.verify_database(str(path)).problem is None
    assert engine.rebuild_projections(str(path)).differed == ()


def audit(path, *, documents=True):
    """Recompute everything that the log promises of a file; the number of its events. ``documents``: those, too."""
    checked = 0
    for (tenant,) in query(path, "SELECT tenant FROM heads ORDER BY tenant"):
        rows = _audit_log(path, tenant)
        checked += len(rows)
        if documents:
            _audit_documents(path, tenant, rows)
    assert query(path, "SELECT count(*) FROM events") == [(checked,)], "an event belongs to no log"
    return checked


_AUDITED = (
    *("position", "session", "version", "id", "type", "schema", "actor", "recorded_at", "causation", "correlation"),
    *("facts", "length", "commitment", "leaf_hash", "salt", "bytes"),
)


def _audit_log(path, tenant):
    columns = ", ".join(f"b.{name}" if name in {"salt", "bytes"} else f"e.{name}" for name in _AUDITED)
    sql = (
        f"SELECT {columns} FROM events e LEFT JOIN bodies b USING (tenant, position) WHERE tenant = ? ORDER BY position"
    )
    rows = [dict(zip(_AUDITED, row, strict=True)) for row in query(path, sql, (tenant,))]
    (origin,) = query(path, "SELECT origin FROM origins WHERE tenant = ? AND from_position = 1", (tenant,))[0]
    erased = {position for (position,) in query(path, "SELECT position FROM erasures WHERE tenant = ?", (tenant,))}
    versions = {}
    for number, row in enumerate(rows, 1):
        assert row["position"] == number, f"{tenant}: position {number} is missing"
        if row["type"] == "session.forked":
            facts = json.loads(row["facts"])
            parent, version = UUID(facts["parent"]).bytes, facts["parent_version"]
            assert row["session"] not in versions
            assert version <= versions[parent], f"{tenant}/{number}: its parent has no such version"
            versions[row["session"]] = version
        versions[row["session"]] = versions.get(row["session"], 0) + 1
        assert row["version"] == versions[row["session"]], f"{tenant}/{number}: versions are not dense"
        if row["salt"] is None:
            assert number in erased, f"{tenant}/{number}: the body is gone without an erasure"
        else:
            assert hashlib.sha256(row["salt"] + row["bytes"]).digest() == row["commitment"], f"{tenant}/{number}"
            assert len(row["bytes"]) == row["length"]
        assert leaf_hash(row, tenant, origin) == row["leaf_hash"], f"{tenant}/{number}: the leaf is another"
    assert all(one["recorded_at"] <= other["recorded_at"] for one, other in pairwise(rows))
    head = (len(rows), rows[-1]["recorded_at"])
    assert query(path, "SELECT size, recorded_at FROM heads WHERE tenant = ?", (tenant,)) == [head]
    return rows


def _audit_documents(path, tenant, rows):
    """What attempts name is there, with a salt from schema 2 on; or all that named it are erased, and it is, too."""
    columns = {name for _, name, *_ in query(path, "PRAGMA table_info(documents)")}
    if "salt" not in columns:
        return  # a file of an older revision
    found = query(path, "SELECT digest, salt, bytes, plain FROM documents WHERE tenant = ?", (tenant,))
    gone = {raw.hex() for (raw,) in query(path, "SELECT digest FROM erased_documents WHERE tenant = ?", (tenant,))}
    kept, needed, named = {False: set(), True: set()}, {False: set(), True: set()}, set()
    for digest, salt, data, plain in found:
        assert hashlib.sha256((salt or b"") + data).digest() == digest, f"{tenant}: {digest.hex()} is another document"
        assert plain == (hashlib.sha256(data).digest() if salt else None)
        kept[salt is not None].add(digest.hex())
    for row in rows:
        digest = json.loads(row["facts"]).get("tools") if row["type"] == "attempt.started" else None
        if digest is not None:
            named.add(digest)
            if row["schema"] == 1 or row["salt"] is not None:
                needed[row["schema"] > 1].add(digest)
    assert needed[False] <= kept[False], f"{tenant}: a document is missing"
    assert needed[True] == kept[True], f"{tenant}: a document is missing, or there is one that nothing names"
    assert gone == named - needed[True] - needed[False], f"{tenant}: a document is gone without an erasure"


def leaf_hash(row, tenant, origin):
    """RFC 6962's hash of RFC 8785's bytes, from a row."""
    leaf = {name: row[name] for name in ("position", "version", "type", "schema", "actor", "recorded_at", "length")}
    leaf |= {name: str(UUID(bytes=row[name])) if row[name] else None for name in ("session", "id", "causation")}
    leaf |= {"format": "manent/1", "origin": origin, "tenant": tenant, "correlation": row["correlation"]}
    leaf |= {"facts": json.loads(row["facts"]), "commitment": row["commitment"].hex()}
    return hashlib.sha256(b"\x00" + rfc8785.dumps(leaf)).digest()


def assert_rebuilds(path, scratch):
    """Folding the whole log again gives the same projections, byte for byte. ``scratch``: a path for a copy."""
    names = [table.name for table in PROJECTIONS]
    with closing(sqlite3.connect(path)) as live, closing(sqlite3.connect(scratch)) as copy:
        live.backup(copy)
    before = dump(scratch, names)
    database = open_writer(scratch)
    with database.begin() as connection:
        for table in PROJECTIONS:
            empty_table(connection, table)
        fold_all(connection, connection, Catalog(), lambda done, total: None)
    database.dispose()
    assert dump(scratch, names) == before
    for name in (scratch, *(scratch.with_name(scratch.name + end) for end in ("-wal", "-shm"))):
        name.unlink(missing_ok=True)


def copied(path, folder, name="copy.db"):
    """A copy of a closed file, with its secret: without that it is not served."""
    copy_secret(path, folder / name)
    return Path(shutil.copy(path, folder / name))


# --- folding by hand --------------------------------------------------------------------------------------------------


def recorded(facts, number=1, event_id=None, words=None, recorded_at=None):
    """An event as if it had been recorded, as a session's and a log's ``number``-th."""
    body = codec.encode_body(words)
    return RecordedEvent(
        tenant="default",
        position=number,
        session=SESSION,
        version=number,
        id=event_id or engine.new_id(),
        type=facts.event_type,
        schema=facts.schema,
        actor="local",
        recorded_at=number * 1000 if recorded_at is None else recorded_at,
        causation=None,
        correlation=None,
        facts=codec.canonical(facts),
        length=len(body),
        commitment=b"",
        leaf_hash=b"",
        body=body,
    )


def folded(*history, of_schema=None):
    """A session's state after these facts; a pair is (facts, event id) or (facts, event id, words). ``of_schema``: that
    of all events, where it is not today's.
    """
    state = None
    for number, item in enumerate(history, 1):
        facts, *more = item if isinstance(item, tuple) else (item,)
        event = recorded(facts, number, *more)
        if of_schema is not None:
            event = msgspec.structs.replace(event, schema=of_schema)
        state = evolve(state, event, facts)
    return state

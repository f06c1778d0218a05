"""Taking a record in again: a whole log as it was, or a session as a new one that names the old.

Either comes as a bundle (``engine/audit/bundle/FORMAT.md``) and is verified first. A whole log goes into a database
that has no log of its tenant, and keeps positions, times, ids and hashes. A session comes in as new events of the log
that takes it: what was said and how the session was set, each with the id of the event it comes from as its causation.
Turns stay behind, for they happened elsewhere, with the tools that they were told of; so do messages whose words, or
whose unit's, are erased.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from uuid import UUID

import msgspec

from ..audit.bundle import verify_bundle as format_
from ..audit.bundle.read import recorded_events, take_in
from ..clock import Clock
from ..errors import AlreadyImported, Invalid, TooLarge
from ..events.blocks import read_blocks
from ..events.session_types import (
    SessionArchived,
    SessionRestored,
    SessionStarted,
    SessionUpdated,
    SessionWords,
    Source,
)
from ..events.types import Draft, MessageAppended, MessageWords
from ..events.upcasts import facts_of, meaning_of, words_of
from ..log.base import Append, Connection, NoStream, RecordedEvent, RequestKey
from ..log.leases import OpenRun
from ..log.sqlite.schema import Progress
from ..log.store import Store
from ..log.transaction import is_origin
from ..providers import tokens
from ..sessions.calls import CallCount
from ..sessions.envelope import Caller, seal
from ..sessions.projector import Catalog
from ..sessions.queries import running_turns
from ..sessions.state import NAMED
from .names import Names

SOURCE = "imported_from"
"""Key of a session's metadata: where it comes from."""

Setting = SessionStarted | SessionUpdated | SessionArchived | SessionRestored


class Imported(msgspec.Struct, frozen=True):
    """The result of an import. ``session_id``: the new session; None: the whole log. ``left_behind``: events of the
    bundle that have no counterpart here.
    """

    tenant: str
    events: int
    session_id: UUID | None = None
    left_behind: int = 0


def import_log(connection: Connection, bundle: format_.Bundle, clock: Clock, progress: Progress) -> Imported:
    """Take in a whole log, in the caller's transaction. Raises Refused where the tenant has a log already."""
    tenant = bundle.manifest["tenant"]
    count = take_in(connection, bundle, Catalog(), clock.now_us(), progress)
    _leave_to_recovery(connection, tenant, clock.new_id())
    return Imported(tenant, count)


def _leave_to_recovery(connection: Connection, tenant: str, nobody: UUID) -> None:
    """A turn that was running when its log was exported runs nowhere any more: the next start ends it."""
    for turn, session in running_turns(connection, tenant):
        OpenRun(tenant, turn, session, nobody, lease_until=0).apply(connection)


async def import_session(
    store: Store, clock: Clock, names: Names, bundle: format_.Bundle, caller: Caller, *, max_events: int
) -> Imported:
    """Take in a session as a new one, in one append: all of it or nothing. ``names``: those that facts may hold here.

    Raises TooLarge for more than ``max_events``, and AlreadyImported where this very bundle (the same log, session and
    size) was taken in before; one that has grown since is another.
    """
    drafts = list(islice(_drafts(bundle, names), max_events + 1))
    if len(drafts) > max_events:
        detail = f"the session has more than {max_events} events: raise max_import_events, or import its whole log"
        raise TooLarge(detail, limit="max_import_events", maximum=max_events)
    source = f"{bundle.newest.origin} {bundle.manifest['session']} {bundle.newest.size}"
    work = Append(
        caller.tenant,
        clock.new_id(),
        NoStream(),
        seal(drafts, caller, clock),
        request=store.keyed(caller.tenant, RequestKey(SOURCE, "import", source, b"")),
    )
    done = await store.append(work)
    if done.replayed is not None:
        first = str(done.replayed.id)
        raise AlreadyImported(f"this bundle was imported before, as session {first}", session_id=first)
    return Imported(caller.tenant, len(drafts), work.session, bundle.manifest["events"] - len(drafts))


def _drafts(bundle: format_.Bundle, names: Names) -> Iterator[Draft]:
    """New events for those of a session, in order; a unit with an erased message is left out whole."""
    unit: list[RecordedEvent] = []
    calls = CallCount()
    for event, _ in recorded_events(bundle, meaning_of):
        facts = facts_of(event)
        if not (isinstance(facts, MessageAppended) and facts.role == "tool"):
            if not isinstance(facts, MessageAppended | Setting):
                continue
            yield from _unit(unit, calls)
            unit = []
        if isinstance(facts, MessageAppended):
            unit.append(event)
        else:
            yield _setting(event, bundle, names)
    yield from _unit(unit, calls)


def _unit(messages: list[RecordedEvent], calls: CallCount) -> Iterator[Draft]:
    """The messages of a unit; their calls get the ordinals of the session that takes them in."""
    if any(message.erased for message in messages):
        return
    for message in messages:
        facts, words = facts_of(message), words_of(message)
        assert isinstance(facts, MessageAppended)
        assert isinstance(words, MessageWords)
        content = read_blocks(words.content)
        said = MessageAppended(
            facts.role,
            facts.tokens if facts.counter == tokens.COUNTER else tokens.count_content(content),
            tokens.COUNTER,
            facts.complete,
            None,
            calls=calls.make(content) if facts.role != "tool" and facts.complete else (),
            results=calls.answer(content) if facts.role == "tool" else (),
        )
        yield Draft(said, MessageWords(words.content), causation=message.id)


def _setting(event: RecordedEvent, bundle: format_.Bundle, names: Names) -> Draft:
    """How a session is set; where its words are erased, nothing is, but for where it comes from."""
    facts, words = facts_of(event), words_of(event)
    if not isinstance(facts, SessionStarted | SessionUpdated):
        return Draft(facts, causation=event.id)
    assert words is None or isinstance(words, SessionWords)
    if event.erased:
        facts = msgspec.structs.replace(facts, system_tokens=0)
    facts, words = _renamed(facts, words, names)
    if isinstance(facts, SessionStarted) or "metadata" in facts.changed:
        words = words or SessionWords()
        source = {
            "session": bundle.manifest["session"],
            "origin": bundle.newest.origin,
            "size": bundle.newest.size,
            "root": bundle.newest.root.hex(),
        }
        words = msgspec.structs.replace(words, metadata={**(words.metadata or {}), SOURCE: source})
    if isinstance(facts, SessionStarted):
        facts = msgspec.structs.replace(facts, source=_source(bundle))
    return Draft(facts, words, causation=event.id)


def _renamed(
    facts: SessionStarted | SessionUpdated, words: SessionWords | None, names: Names
) -> tuple[SessionStarted | SessionUpdated, SessionWords | None]:
    """The names of models and tools sorted out anew: what another server lists may stand on no list here."""
    said = words or SessionWords()
    values = {name: getattr(said, name) or getattr(facts, name) for name in NAMED}
    named = names.of_others({name: value for name, value in values.items() if value is not None})
    facts = msgspec.structs.replace(facts, **named.recorded)
    if named.words or any(getattr(said, name) is not None for name in NAMED):
        words = msgspec.structs.replace(said, **{name: named.words.get(name) for name in NAMED})
    return facts, words


def _source(bundle: format_.Bundle) -> Source:
    """The session of a bundle, as a fact. Raises Invalid for a log whose name we would not have given: a fact is never
    erased, and so no word of anybody's.
    """
    if not is_origin(bundle.newest.origin):
        raise Invalid("file", "the bundle's log has a name that Manent gives to none")
    return Source(UUID(bundle.manifest["session"]), bundle.newest.origin, bundle.newest.size)

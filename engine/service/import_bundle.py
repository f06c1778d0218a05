"""Taking a record in again: a whole log as it was, or a session as a new one that names the old.

Either comes as a bundle (``engine/audit/bundle/FORMAT.md``) and is verified first. A whole log goes into a database
that has no log of its tenant, and keeps positions, times, ids and hashes. A session comes in as new events of the log
that takes it: what was said, how the session was set and what is pinned, each with the id of the event it comes from as
its causation. Turns stay behind, for they happened elsewhere, with the tools that they were told of; so do messages
whose words, or whose unit's, are erased.

A fork comes in as one session that holds its whole history, with what it shares. Where it forked, its settings change;
what a fork does not have from its parent (status, legal hold, bounds) is left out of the part before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from uuid import UUID

import msgspec

from ..audit.bundle import verify_bundle as format_
from ..audit.bundle.read import recorded_events, take_in
from ..clock import Clock
from ..errors import AlreadyImported, Invalid, TooLarge
from ..events.blocks import read_blocks
from ..events.session_types import (
    MessagePinned,
    MessageUnpinned,
    SessionArchived,
    SessionForked,
    SessionRestored,
    SessionStarted,
    SessionUpdated,
    SessionWords,
    Source,
)
from ..events.types import Draft, MessageAppended, MessageWords
from ..events.upcasts import facts_of, meaning_of, words_of
from ..log.base import Append, Connection, NewEvent, NoStream, Place, RecordedEvent, RequestKey
from ..log.leases import OpenRun
from ..log.sqlite.schema import Progress
from ..log.store import Store
from ..log.transaction import is_origin
from ..providers import tokens
from ..sessions.calls import CallCount
from ..sessions.envelope import Caller, seal
from ..sessions.projector import Catalog
from ..sessions.queries import running_turns
from ..sessions.state import BOUNDS, NAMED, SETTABLE
from .names import Names

SOURCE = "imported_from"
"""Key of a session's metadata: where it comes from."""

Own = SessionStarted | SessionUpdated | SessionArchived | SessionRestored
Setting = Own | SessionForked
Pin = tuple[int, UUID]
"""How many events of the import stand before the message that is pinned, and the event that says so in the bundle."""


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
    taking = _Taking(bundle, names)
    drafts = list(islice(taking.drafts(), max_events + 1))
    if len(drafts) + len(taking.pinned) > max_events:
        detail = f"the session has more than {max_events} events: raise max_import_events, or import its whole log"
        raise TooLarge(detail, limit="max_import_events", maximum=max_events)
    source = f"{bundle.newest.origin} {bundle.manifest['session']} {bundle.newest.size}"
    work = Append(
        caller.tenant,
        clock.new_id(),
        NoStream(),
        partial(_decide, sealed=seal(drafts, caller, clock), pins=taking.pins(), caller=caller, clock=clock),
        request=store.keyed(caller.tenant, RequestKey(SOURCE, "import", source, b"")),
    )
    done = await store.append(work)
    if done.replayed is not None:
        first = str(done.replayed.id)
        raise AlreadyImported(f"this bundle was imported before, as session {first}", session_id=first)
    count = len(drafts) + len(taking.pinned)
    return Imported(caller.tenant, count, work.session, bundle.manifest["events"] - count)


def _decide(
    place: Place, _: object, *, sealed: Sequence[NewEvent], pins: Sequence[Pin], caller: Caller, clock: Clock
) -> list[NewEvent]:
    """The events, and the pins behind them: facts name a message by its position, which is known only now."""
    drafts = [Draft(MessagePinned(place.position + number), causation=cause) for number, cause in pins]
    return [*sealed, *seal(drafts, caller, clock)]


class _Taking:
    """New events for those of a session's history, in order. A unit with an erased message is left out whole."""

    def __init__(self, bundle: format_.Bundle, names: Names) -> None:
        self._bundle = bundle
        self._names = names
        self._calls = CallCount()
        self._made = 0
        self._numbers: dict[int, int] = {}
        """Position of a message in the bundle -> how many drafts stand before the one made of it."""
        self.pinned: dict[int, UUID] = {}
        """Position of each message pinned at the end -> the id of the event that says so."""

    def drafts(self) -> Iterator[Draft]:
        for draft in self._drafts():
            self._made += 1
            yield draft
        self.pinned = {position: event for position, event in self.pinned.items() if position in self._numbers}

    def pins(self) -> list[Pin]:
        return [(self._numbers[position], event) for position, event in sorted(self.pinned.items())]

    def _drafts(self) -> Iterator[Draft]:
        unit: list[RecordedEvent] = []
        for event, _ in recorded_events(self._bundle, meaning_of):
            facts = facts_of(event)
            if isinstance(facts, MessageAppended) and facts.role != "tool":
                yield from self._unit(unit)
                unit = []
            if isinstance(facts, MessageAppended | Setting):
                unit.append(event)
            elif isinstance(facts, MessagePinned):
                self.pinned[facts.message] = event.id
            elif isinstance(facts, MessageUnpinned):
                self.pinned.pop(facts.message, None)
        yield from self._unit(unit)

    def _unit(self, events: list[RecordedEvent]) -> Iterator[Draft]:
        """The messages of a unit, and what was set meanwhile; their calls get the ordinals of the session that takes
        them in.
        """
        whole = not any(event.erased and isinstance(facts_of(event), MessageAppended) for event in events)
        for event in events:
            facts = facts_of(event)
            if not isinstance(facts, MessageAppended):
                yield from _setting(event, self._bundle, self._names)
            elif whole:
                self._numbers[event.position] = self._made
                yield self._message(event, facts)

    def _message(self, event: RecordedEvent, facts: MessageAppended) -> Draft:
        words = words_of(event)
        assert isinstance(words, MessageWords)
        content = read_blocks(words.content)
        said = MessageAppended(
            facts.role,
            facts.tokens if facts.counter == tokens.COUNTER else tokens.count_content(content),
            tokens.COUNTER,
            facts.complete,
            None,
            calls=self._calls.make(content) if facts.role != "tool" and facts.complete else (),
            results=self._calls.answer(content) if facts.role == "tool" else (),
            developer=facts.developer,
        )
        return Draft(said, MessageWords(words.content), causation=event.id)


def _setting(event: RecordedEvent, bundle: format_.Bundle, names: Names) -> Iterator[Draft]:
    """How a session is set; where its words are erased, nothing is, but for where it comes from."""
    facts, words = _as_own(event, bundle), words_of(event)
    if not isinstance(facts, SessionStarted | SessionUpdated):
        if facts is not None:
            yield Draft(facts, causation=event.id)
        return
    assert words is None or isinstance(words, SessionWords)
    if event.erased:
        facts = msgspec.structs.replace(facts, system_tokens=0)
    facts, words = _renamed(facts, words, names)
    if isinstance(facts, SessionStarted) or "metadata" in facts.changed:
        words = words or SessionWords()
        words = msgspec.structs.replace(words, metadata={**(words.metadata or {}), SOURCE: _metadata(bundle)})
    if isinstance(facts, SessionStarted):
        facts = msgspec.structs.replace(facts, source=_source(bundle))
    yield Draft(facts, words, causation=event.id)


def _as_own(event: RecordedEvent, bundle: format_.Bundle) -> Own | None:
    """The facts of a setting as those of one session; None: it has no meaning there. Of the sessions before a fork its
    status and bounds are theirs alone, and the fork itself is a change of settings.
    """
    facts, shared = facts_of(event), str(event.session) != bundle.manifest["session"]
    if isinstance(facts, SessionStarted):
        return msgspec.structs.replace(facts, expires_at=None, max_messages=None, max_tokens=None) if shared else facts
    if isinstance(facts, SessionForked | SessionUpdated):
        changed = tuple(name for name in facts.changed if not (shared and name in BOUNDS))
        values = {name: getattr(facts, name) for name in changed if name in SETTABLE}
        merges = isinstance(facts, SessionUpdated) and facts.merges
        updated = SessionUpdated(changed, system_tokens=facts.system_tokens, merges=merges, **values)
        return updated if changed else None
    assert isinstance(facts, SessionArchived | SessionRestored)
    return None if shared else facts


def _metadata(bundle: format_.Bundle) -> dict[str, object]:
    """Where a session comes from, as its metadata say it."""
    newest = bundle.newest
    session = bundle.manifest["session"]
    return {"session": session, "origin": newest.origin, "size": newest.size, "root": newest.root.hex()}


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

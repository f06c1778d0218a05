"""The replay *free*: a session's conversation held once more, in a new session, on its own history.

The new session names the recorded one as its source, and shares nothing with it. Each message of a user is sent as it
was; a result of a tool goes to the new run's call of the same tool with the same arguments. From the first answer that
differs, the user's next words answer something else: that answer is marked.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from uuid import UUID

import msgspec

from ...errors import Erased, RecordDamaged, Refused, SessionNotFound
from ...events.blocks import (
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
    raw_blocks,
    text_of,
    without_calls_and_thinking,
)
from ...events.replay_types import Compared, ReplayCompared
from ...events.session_types import SessionStarted
from ...events.turn_types import TurnStarted
from ...events.types import MessageAppended
from ...events.upcasts import facts_of
from ...log.base import Connection, RecordedEvent
from ...log.codec import MAX_SAFE_INTEGER
from ...log.sql import reads
from ...log.sql.session_index import Stretch
from ...sessions import queries
from ...sessions.copies import REPLAY_OF, copies_of
from ...sessions.history import open_call_ids
from ...sessions.queries import turns_between
from ...sessions.state import SessionState
from ...sessions.turn_state import TurnState
from ...sessions.turn_views import with_messages
from ...sessions.views import Message, message_view
from ...settings import Settings
from ...tools.from_record import NOT_ON_RECORD, CallKey, RecordedResult, Recordings, key_of
from ...turns.again import Again
from ...turns.start import Ask
from ..events import Events
from ..inputs import MessageIn, new_message
from ..messages import Messages
from ..session_fields import SessionFields
from ..sessions import Sessions
from .answers import content_of
from .asking import Asker
from .forced import micros_of
from .orders import position_of, turns_of_session
from .pool import in_parallel
from .record import TurnRecord, read_turn_record
from .run import Outcome, Run
from .told import Asked, compared, not_asked, skipped


class Group(msgspec.Struct, frozen=True):
    """A session, and those of its turns (by the positions of their starts) that are done again."""

    session: UUID
    turns: tuple[int, ...]


class Exchange(msgspec.Struct):
    """Messages that were appended, and the turns that followed, by the positions of their starts. ``results``: those of
    tools among the messages; ``gone``: why it cannot be asked again, where words of them are not there any more.
    """

    inputs: list[Message] = []
    turns: list[int] = []
    results: list[tuple[CallKey, RecordedResult]] = []
    gone: Compared | None = None


class NewSession(msgspec.Struct):
    """The new session. ``pending``: its newest turn, if an earlier run has asked it and not compared it;
    ``appended``: so many messages that are no results stand behind its turns.
    """

    id: UUID
    pending: TurnState | None = None
    appended: int = 0
    diverged: bool = False


class Free:
    """See the module."""

    def __init__(
        self, asker: Asker, sessions: Sessions, messages: Messages, events: Events, settings: Settings
    ) -> None:
        self._asker = asker
        self._sessions = sessions
        self._messages = messages
        self._events = events
        self._settings = settings

    async def outcomes(self, run: Run) -> AsyncGenerator[Outcome, None]:
        groups = await self._asker.store.read(partial(find_groups, run=run))
        async for outcome in in_parallel([partial(self._session, run, group) for group in groups], run.facts.jobs):
            yield outcome

    async def _session(self, run: Run, group: Group) -> AsyncGenerator[Outcome, None]:
        left = {turn for turn in group.turns if turn not in run.done}
        if not left:
            return
        try:
            new = await self._new_session(run, group)
        except RecordDamaged:  # what the session was told of itself
            for position in sorted(left):
                record = await self._record(run, position)
                yield Outcome(skipped(record, "input_damaged"))
            return
        async with aclosing(self._exchanges(run, group.session)) as exchanges:
            async for exchange in exchanges:
                for outcome in await self._exchange(run, new, exchange, left):
                    yield outcome
                left.difference_update(exchange.turns)
                if not left:
                    return

    async def _exchange(self, run: Run, new: NewSession, exchange: Exchange, left: set[int]) -> list[Outcome]:
        """The outcomes of an exchange: the last turn that completed, or else the last, is the one that answered it."""
        records = [await self._record(run, turn) for turn in exchange.turns]
        answering = next((each for each in reversed(records) if each.state.status == "completed"), records[-1])
        outcomes = [
            Outcome(skipped(each, each.skip or "recorded_not_completed"))
            for each in records
            if each is not answering and each.position in left
        ]
        if answering.position in run.done:
            return outcomes
        answering = with_beginning(answering, records)
        facts, micros = await self._answer(run, new, exchange, answering)
        if facts.verdict == "different" and not new.diverged:
            new.diverged, facts = True, msgspec.structs.replace(facts, diverges=True)
        return [*outcomes, Outcome(facts, micros=micros)] if answering.position in left else outcomes

    async def _record(self, run: Run, position: int) -> TurnRecord:
        read = partial(read_turn_record, tenant=run.caller.tenant, position=position)
        return await self._asker.store.read(read)

    async def _answer(
        self, run: Run, new: NewSession, exchange: Exchange, record: TurnRecord
    ) -> tuple[ReplayCompared, int]:
        if record.skip is not None:
            return skipped(record, record.skip), 0
        if exchange.gone is not None:
            return skipped(record, exchange.gone), 0
        try:
            asked = await self._asked(run, new, exchange, record)
        except (Refused, Erased, RecordDamaged) as error:
            return not_asked(record, error), 0
        if asked is None:
            return skipped(record, "nothing_asked"), 0
        return compared(record, asked), micros_of([asked.turn])

    async def _asked(self, run: Run, new: NewSession, exchange: Exchange, record: TurnRecord) -> Asked | None:
        """Ask the exchange's messages of the model; None: they are only results, and none is for a call that was made.
        What an earlier run has asked already is not asked again, unless its turn was cut off.
        """
        pending, new.pending = new.pending, None
        if pending is not None and pending.status != "interrupted":
            return Asked(await self._asker.read(run.caller, pending.id))
        last: MessageIn | None = None
        if pending is None:
            contents = await self._contents(run, new, exchange)
            if not contents:
                return None
            for content in contents[new.appended : -1]:
                await self._messages.append(run.caller, new.id, [content], None, None)
            last, new.appended = contents[-1], 0
        ask = Ask(
            message=None if last is None else await new_message(last, self._settings),
            model=run.model or record.model,
            limits=record.limits,
            again=Again(
                record.parameters,
                record.offer(self._asker.registered),
                self._asker.tools(run.facts, Recordings(record.results, record.decisions)),
            ),
        )
        return Asked(await self._asker.ask(run, new.id, ask), repeated=pending is not None)

    async def _contents(self, run: Run, new: NewSession, exchange: Exchange) -> list[MessageIn]:
        """The messages for the new session: results for its open calls first, then what is no result."""
        rest = [MessageIn(message.content, message.role) for message in exchange.inputs if message.role != "tool"]
        calls = await self._asker.store.read(partial(open_calls, tenant=run.caller.tenant, session=new.id))
        recordings = Recordings(exchange.results)
        found = [recordings.take(key_of(call)) for call in calls]
        if not calls or not (rest or any(found)):
            return rest
        results = tuple(
            ToolResultBlock(call.id, NOT_ON_RECORD, is_error=True)
            if result is None
            else ToolResultBlock(call.id, result.content, result.is_error)
            for call, result in zip(calls, found, strict=True)
        )
        return [MessageIn(raw_blocks(results), "tool"), *rest]

    async def _exchanges(self, run: Run, session: UUID) -> AsyncGenerator[Exchange, None]:
        """The answered exchanges of a session's history, oldest first."""
        calls: dict[str, CallKey] = {}
        exchange = Exchange()
        async with aclosing(self._events.recorded(run.caller, session)) as events:
            async for event in events:
                facts = facts_of(event)
                if isinstance(facts, TurnStarted):
                    exchange.turns.append(event.position)
                elif isinstance(facts, MessageAppended):
                    if facts.turn is None and exchange.turns:
                        yield exchange
                        exchange = Exchange()
                    _note(exchange, event, calls, asked=facts.turn is None)
        if exchange.turns:
            yield exchange

    async def _new_session(self, run: Run, group: Group) -> NewSession:
        """The session of an earlier run, or a new one."""
        if run.resumed:
            found = await self._asker.store.read(partial(session_before, run=run, source=group.session))
            if found is not None:
                found.diverged = any(each.diverges for each in run.done.values() if each.new_session == found.id)
                return found
        old = await self._sessions.read(run.caller, group.session)
        fields = SessionFields(
            model=run.model or old.model,
            system=await self._sessions.system(run.caller, group.session),
            title=old.title,
            budget_tokens=old.budget_tokens,
            max_output_tokens=old.max_output_tokens,
            metadata={REPLAY_OF: str(group.session)},
        )
        source = await self._sessions.as_source(run.caller, group.session)
        return NewSession((await self._sessions.create(run.caller, fields, None, source, run.id)).id)


def _note(exchange: Exchange, event: RecordedEvent, calls: dict[str, CallKey], *, asked: bool) -> None:
    """Take in a recorded message: its calls, and, of one that was appended, its results."""
    if event.erased or event.damaged:
        if asked:
            exchange.gone = "input_erased" if event.erased else "input_damaged"
        return
    message = message_view(event)
    for block in content_of(message):
        if isinstance(block, ToolUseBlock):
            calls[block.id] = key_of(block)
        elif asked and isinstance(block, ToolResultBlock) and block.tool_use_id in calls:
            exchange.results.append((calls[block.tool_use_id], RecordedResult(block.content, block.is_error)))
    if asked:
        exchange.inputs.append(message)


def with_beginning(record: TurnRecord, before: Sequence[TurnRecord]) -> TurnRecord:
    """A turn that went on with a partial answer, as one answer with that: the new run gives it at once."""
    partial_one = next((each for each in before if each is not record and each.view.message is not None), None)
    if not record.continues or partial_one is None or not record.view.messages:
        return record
    message, *rest = record.view.messages
    begun = partial_one.view.message
    assert begun is not None
    first, second = without_calls_and_thinking(content_of(begun)), content_of(message)
    if first and second and isinstance(second[0], TextBlock):
        second = (TextBlock(text_of(first) + second[0].text), *second[1:])
    whole = msgspec.structs.replace(message, content=raw_blocks(second))
    return msgspec.structs.replace(record, view=with_messages(record.view, [whole, *rest]))


def find_groups(connection: Connection, *, run: Run) -> list[Group]:
    """The sessions that are held once more: those named, or those in which the turns stand."""
    tenant, wanted, groups = run.caller.tenant, set(run.facts.turns), {}
    for session in run.facts.sessions:
        state = _existing(connection, tenant, session)
        starts = [position_of(connection, tenant, turn.id) for turn in turns_of_session(connection, tenant, state)]
        groups[session] = [start for start in starts if start in wanted]
        wanted.difference_update(starts)
    for position in run.facts.turns if not run.facts.sessions else ():
        event = reads.event_at_position(connection, tenant, position)
        if event is not None:
            groups.setdefault(event.session, []).append(position)
    return [Group(session, tuple(turns)) for session, turns in groups.items() if turns]


def open_calls(connection: Connection, *, tenant: str, session: UUID) -> Sequence[ToolUseBlock]:
    """The calls of a session that have no result yet."""
    state = _existing(connection, tenant, session)
    known = open_call_ids(connection, tenant, state)
    ids = {known[ordinal] for ordinal in state.open_calls if ordinal in known}
    asking = None if state.asked is None or not state.open_calls else state.asked
    event = None if asking is None else reads.event_at_position(connection, tenant, asking)
    blocks = () if event is None else content_of(message_view(event))
    return [block for block in blocks if isinstance(block, ToolUseBlock) and block.id in ids]


def session_before(connection: Connection, *, run: Run, source: UUID) -> NewSession | None:
    """The session that an earlier run of the replay has begun for this one."""
    tenant, known = run.caller.tenant, {each.new_turn for each in run.done.values()}
    for session in copies_of(connection, tenant, source, run.id.bytes):
        first = reads.event_at_version(connection, tenant, session, 1)
        facts = None if first is None else facts_of(first)
        if not isinstance(facts, SessionStarted) or facts.replay != run.id:
            continue
        turns = turns_between(
            connection, tenant, Stretch(session, 0, MAX_SAFE_INTEGER, 0, MAX_SAFE_INTEGER), MAX_SAFE_INTEGER
        )
        last = turns[-1] if turns else None
        after = 1 if last is None or last.end_version is None else last.end_version
        messages = reads.session_events_of_types(
            connection, tenant, session, (MessageAppended.event_type,), after=after, limit=MAX_SAFE_INTEGER
        )
        pending = last if last is not None and last.id not in known else None
        return NewSession(session, pending, sum(not _is_results(message) for message in messages))
    return None


def _is_results(event: RecordedEvent) -> bool:
    facts = facts_of(event)
    return isinstance(facts, MessageAppended) and facts.role == "tool"


def _existing(connection: Connection, tenant: str, session: UUID) -> SessionState:
    state = queries.session_state(connection, tenant, session)
    if state is None:
        raise SessionNotFound("there is no such session", session_id=str(session))
    return state

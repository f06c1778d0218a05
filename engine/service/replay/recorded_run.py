"""One recorded turn done again by the product's own machinery: its start, its windows, its rounds, its record and its
frames, in a temporary log, with the log as the model and the tools.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ...clock import Clock
from ...context.plan import ToolOffer
from ...context.prompt import ClientForm, Limits
from ...context.window import AS_RECORDED
from ...errors import TurnLimitReached
from ...events.blocks import read_blocks
from ...events.types import MessageAppended, MessageWords, NewMessage
from ...events.upcasts import facts_of, words_of
from ...log.base import Connection, RecordedEvent
from ...log.scratch_store import ScratchStore
from ...log.sql import reads
from ...providers.registry import Providers
from ...providers.renderers import RENDERERS, find_renderer
from ...sessions import queries
from ...sessions.envelope import Caller
from ...sessions.turn_commands import Decision
from ...settings import Settings
from ...streams.backlog import turn_events
from ...streams.frames import Frame
from ...streams.transcript import Transcript
from ...tools.registry import Tools
from ...turns.again import Again
from ...turns.approvals import Approvals
from ...turns.journal_writer import JournalWriter
from ...turns.start import Ask, TurnStarter
from ...turns.supervisor import Supervisor
from ...turns.turn import RunningTurn
from .recorded_model import Rendering, Script
from .recorded_session import ScratchSession
from .recorded_tools import LogTool, LogTools
from .recorded_turn import CannotReplay, RecordedTurn

NO_LIMIT = 10**9
UNLIMITED = (
    *("max_answer_bytes", "max_blocks", "max_rounds", "max_turn_tokens", "max_tools", "max_tools_bytes"),
    *("max_parallel_tools", "tail_frames", "breaker_failures", "first_chunk_timeout_s", "idle_timeout_s"),
)
"""Settings that bound a turn: which of them has ended one is on record, and no other may."""


class Rerun(msgspec.Struct, frozen=True):
    """A turn that was done again. ``frames``: as they were shown; ``messages``: the positions of its
    messages, the one it began with among them; ``unused``: ids of calls whose results nobody has asked for;
    ``missing_calls``: of those for which there is none.
    """

    script: Script
    turn: RunningTurn
    frames: tuple[Frame, ...]
    messages: tuple[int, ...]
    unused: tuple[str, ...] = ()
    missing_calls: tuple[str, ...] = ()


class _OneTurn(Supervisor):
    """Runs one turn, which may be paused and go on."""

    def __init__(self, store: ScratchStore, script: Script, tools: LogTools, clock: Clock, settings: Settings) -> None:
        super().__init__(store, script.providers(), tools, clock, settings)
        journal = JournalWriter(store, self.runtime.owner, most_pause_s=0.0)
        self.runtime = msgspec.structs.replace(self.runtime, journal=journal, retries=script.retries())
        self._script = script
        self.begun: list[RunningTurn] = []

    def start(self, turn: RunningTurn) -> None:
        self._script.turn = turn
        self.begun.append(turn)
        super().start(turn)


async def run_turn(
    store: ScratchStore, session: ScratchSession, record: RecordedTurn, rendering: Rendering, clock: Clock
) -> Rerun:
    """Do a turn again, on a session in which its history lies. Raises what keeps it from being started."""
    script = Script(record, rendering)
    registry = _tools(record)
    tools = LogTools(registry, clock, script)
    supervisor = _OneTurn(store, script, tools, clock, settings_of(record))
    tenant = record.tenant
    try:
        position = await store.read(lambda connection: reads.log_size(connection, tenant)) + 1
        start = record.events[0]
        caller = Caller(tenant, start.actor, start.correlation)
        ask = given(ask_of(record), record, session, tools)
        await TurnStarter(supervisor, registry).start(caller, session.id, ask)
        await supervisor.begun[0].tail.end()
        await _decide(supervisor, tools, record)
        return await _looked_at(store, script, supervisor.begun, tools, position)
    finally:
        await supervisor.close()


async def _decide(supervisor: _OneTurn, tools: LogTools, record: RecordedTurn) -> None:
    """Decide as was decided, whenever the turn waits for that."""
    turn = supervisor.begun[0]
    approvals = Approvals(supervisor)
    for decision in record.decisions:
        caller = Caller(turn.tenant, decision.actor, decision.correlation)
        before = len(supervisor.begun)
        tools.decided(decision.call, approve=decision.approve)
        await approvals.decide(caller, turn.id, Decision(decision.call, decision.approve, decision.reason))
        if len(supervisor.begun) > before:
            await supervisor.begun[-1].tail.end()
    state = await supervisor.runtime.store.read(lambda c: queries.turn_state(c, turn.tenant, turn.id))
    if state is not None and state.status == "requires_action" and record.stop is not None:
        await approvals.cancel(Caller(turn.tenant, record.stop.actor), state)


async def _looked_at(
    store: ScratchStore, script: Script, begun: Sequence[RunningTurn], tools: LogTools, position: int
) -> Rerun:
    """What has come of a turn: its frames as they were shown live, or from the record where it was paused."""
    turn = begun[-1]
    frames, messages = tuple(turn.tail.after(0, NO_LIMIT) or ()), [each.position for each in turn.transcript.messages]
    if len(begun) > 1 or turn.transcript.state.end_version is None:  # it was paused
        events = await store.read(lambda connection: _events(connection, turn))
        frames = frames_of_record(events)
        messages = [event.position for event in events if event.type == MessageAppended.event_type]
    given = [] if script.record.input is None else [position]
    return Rerun(
        script=script,
        turn=turn,
        frames=frames,
        messages=(*given, *messages),
        unused=tuple(tools.unused()),
        missing_calls=tuple(tools.missing),
    )


def _events(connection: Connection, turn: RunningTurn) -> list[RecordedEvent]:
    state = queries.turn_state(connection, turn.tenant, turn.id)
    assert state is not None, "a turn that was begun is on record"
    return turn_events(connection, turn.tenant, state)


def frames_of_record(events: Sequence[RecordedEvent]) -> tuple[Frame, ...]:
    """The frames of a turn from its events."""
    transcript = Transcript(events[0].id)
    return tuple(frame for event in events for frame in transcript.add(event, deltas_after=0))


# --- what it was asked ------------------------------------------------------------------------------------------------


def ask_of(record: RecordedTurn) -> Ask:
    """What a turn was asked for."""
    first, client = record.attempts[0], record.state.client_tools
    return Ask(
        message=None if record.input is None else _message(record.input),
        model=first.model,
        limits=Limits(first.facts.budget_tokens, first.facts.max_output_tokens),
        parameters=first.parameters,
        tools=tuple(schema.name for schema in first.tools if schema.name not in client),
        client_tools=tuple(schema for schema in first.tools if schema.name in client),
        tool_choice=first.parameters.tool_choice,
        continues=record.started.continues,
        one_round=record.started.one_round,
        form=ClientForm(first.words.contents, first.words.marks),
    )


def given(ask: Ask, record: RecordedTurn, session: ScratchSession, tools: LogTools) -> Ask:
    """The same, with the messages that it was given, where a replay had given them, and they were not chosen."""
    first = record.attempts[0]
    if first.facts.policy != AS_RECORDED:
        return ask
    positions = tuple([session.places[position] for position in first.facts.positions])
    offer = ToolOffer(first.tools, record.state.client_tools)
    return msgspec.structs.replace(ask, again=Again(first.parameters, offer, tools, positions=positions))


def _message(event: RecordedEvent) -> NewMessage:
    facts, words = facts_of(event), words_of(event)
    if not (isinstance(facts, MessageAppended) and isinstance(words, MessageWords)):
        raise CannotReplay(f"what it began with is no message: event {event.position}")
    return NewMessage(facts.role, read_blocks(words.content), facts.tokens, facts.counter)


def _tools(record: RecordedTurn) -> Tools:
    client = record.state.client_tools
    return Tools(LogTool(schema) for schema in record.attempts[0].tools if schema.name not in client)


def settings_of(record: RecordedTurn) -> Settings:
    """Settings with no limit but the one that has ended the turn."""
    limits = dict.fromkeys(UNLIMITED, NO_LIMIT)
    failed = record.failed
    if (
        failed is not None
        and failed.limit in limits
        and failed.maximum is not None
        and failed.code == TurnLimitReached.code
    ):
        limits[failed.limit] = failed.maximum
    return msgspec.structs.replace(Settings(), **limits)


def rendering_of(record: RecordedTurn, providers: Providers, policy: str | None, *, current: bool) -> Rendering:
    """The renderers of a turn's attempts: the recorded ones, or those that are used today. Raises UnknownRenderer."""
    names = []
    for attempt in record.attempts:
        facts = attempt.facts
        names.append(current_renderer(providers, facts.provider, facts.renderer) if current else facts.renderer)
    found = [
        find_renderer(providers, attempt.facts.provider, name)
        for attempt, name in zip(record.attempts, names, strict=True)
    ]
    return Rendering(tuple(names), tuple(found), policy)


def current_renderer(providers: Providers, provider: str, recorded: str) -> str:
    """The renderer that is used today: the provider's own where it is configured, else the newest of that kind."""
    member = providers.get(provider)
    if member is not None:
        return member.renderer
    stem = recorded.rpartition("/")[0]
    versions = [name for name in RENDERERS if name.rpartition("/")[0] == stem]
    return max(versions, key=lambda name: (len(name), name), default=recorded)

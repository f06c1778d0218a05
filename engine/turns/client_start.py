"""The start of a turn for a client that keeps its own history and sends it whole (DESIGN section 11).

What was recognised stays where it is on record; what is new, the beginning of a session or of a fork among it, is
recorded with the turn's start in one append, or nothing is. A session that has moved on meanwhile is forked.

Such a turn has one round, and all that the model asks for is the client's to do; but where tools that are registered
here are offered, it goes on until the client is asked for something, like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from ..context.plan import PlannedRound, attempt_of, document_of
from ..context.whole import Conversation, plan_whole
from ..errors import VersionConflict
from ..events.blocks import Content
from ..events.session_types import SessionStarted, SessionWords
from ..events.turn_types import CacheMarks, ClientFacts, TurnWords
from ..events.types import Draft, NewMessage
from ..log.base import (
    AnyVersion,
    Append,
    Connection,
    Exactly,
    Inherited,
    NewEvent,
    NoStream,
    Place,
    Reference,
    RequestKey,
    Scratch,
)
from ..log.sql.documents import KeepDocument
from ..log.sql.idempotency import find_request
from ..sessions.calls import CallIds
from ..sessions.decisions import Changes, StartTurn, check_turn, fork_session, start_turn, update_session
from ..sessions.envelope import Caller, seal
from ..sessions.forks import ForkCheck
from ..sessions.history import fork_state, open_call_ids, session_at, state_at, system_of
from ..sessions.lineage import history_at
from ..sessions.recognition import Recognised
from ..sessions.retries import RememberTurn
from ..sessions.state import SessionState, SystemPrompt
from .start import Ask, Started, TurnStarter
from .turn import Runtime


class NewConversation(msgspec.Struct, frozen=True):
    """A session that begins with a client's history: its first event."""

    facts: SessionStarted
    words: SessionWords


class ClientTurn(msgspec.Struct, frozen=True):
    """A client's request. ``place``: what was recognised, None: nothing; ``news``: the messages that are not on record;
    ``changed``: by version, contents that the client says otherwise than they are. ``system``: the prompt (UNSET: the
    session's) and its base count; ``begins``: the session that it begins, where nothing was recognised; ``grace_s``:
    it is cancelled so long after its last reader disconnected, None: as the server's settings say; ``key``: of the
    request, by which an automatic retry is known; ``marks``: where it is to be cached; ``metadata``: the session's,
    None: as it is. ``client`` says whose protocol it is, ``told`` what that gives back of the request, in its own JSON,
    ``alias`` what the client calls the conversation; ``request``: its idempotency key, as it is kept; ``trims``: what
    is older than the model takes is left out.
    """

    ask: Ask
    news: tuple[NewMessage, ...]
    begins: NewConversation
    place: Recognised | None = None
    changed: Mapping[int, Content] = {}
    system: str | UnsetType | None = UNSET
    system_tokens: int = 0
    grace_s: int | None = None
    key: bytes | None = None
    marks: CacheMarks | None = None
    metadata: dict[str, Any] | None = None
    client: ClientFacts | None = None
    told: bytes | None = None
    alias: str | None = None
    request: RequestKey | None = None
    trims: bool = False


class ClientPlan(msgspec.Struct, frozen=True):
    """The plan of such a turn. ``changes``: what the session's words become with it; ``inherits``: it begins a fork."""

    first: PlannedRound
    ids: CallIds
    changes: Changes | None
    inherits: Inherited | None


class ClientStarter(TurnStarter):
    """Starts such turns."""

    @property
    def runtime(self) -> Runtime:
        """What its turns run with."""
        return self._supervisor.runtime

    async def start_client(self, caller: Caller, turn: ClientTurn, plan: ClientPlan) -> Started:
        """Start the turn that was planned; returns when its start is durable and it runs.

        Raises VersionConflict and TurnAlreadyOpen where the session is not as it was recognised any more, and else as
        ``TurnStarter.start``.
        """
        return await self._shielded(self._append_client(caller, turn, plan))

    async def first_answer(self, caller: Caller, request: RequestKey | None) -> Started | None:
        """The turn that a request with this idempotency key has started before. Raises IdempotencyMismatch."""
        find = partial(find_request, tenant=caller.tenant, request=request)
        before = None if request is None else await self._store.read(find)
        return None if before is None else await self._replayed(caller, before)

    def plan_client(self, connection: Connection, caller: Caller, turn: ClientTurn) -> ClientPlan:
        """Plan the turn. Raises as ``start_client``."""
        tenant = caller.tenant
        state, inherits = self._state(connection, tenant, turn)
        ids = open_call_ids(connection, tenant, state)
        *before, last = turn.news
        now_us = self._clock.now_us()
        check_turn(state, last, ids, continues=False, now_us=now_us, before=before)
        system = system_of(connection, tenant, state) if turn.place else turn.begins.words.system
        values = _changed_metadata(connection, tenant, turn)
        if turn.place and turn.system is not UNSET and turn.system != system:
            system, values["system"] = turn.system, turn.system
            state = replace(state, system=SystemPrompt(0, turn.system_tokens) if turn.system_tokens else None)
        changes = Changes(values, turn.system_tokens) if values else None
        known = 0 if turn.place is None else turn.place.count
        conversation = Conversation(state, turn.news, system, turn.changed, turn.marks, known, turn.trims)
        requests = self._plan_requests(turn.ask, state)
        first = plan_whole(connection, tenant, conversation, requests, self._settings)
        return ClientPlan(first, ids, changes, inherits)

    def _state(self, connection: Connection, tenant: str, turn: ClientTurn) -> tuple[SessionState, Inherited | None]:
        """The state on which the turn starts, and what its session inherits, if it is forked."""
        place = turn.place
        if place is None:
            return self._begun(turn), None
        if place.goes_on:
            state = state_at(connection, tenant, place.session)
            if (state.last.version if state.last else state.version) != place.version:
                raise VersionConflict("the session has moved on", current_version=state.version)
            return state, None
        inherits = history_at(connection, tenant, place.session, place.version)
        return fork_state(connection, tenant, self._clock.new_id(), inherits), inherits

    def _begun(self, turn: ClientTurn) -> SessionState:
        """The state of a session that its first event is about to begin."""
        facts, now_us = turn.begins.facts, self._clock.now_us()
        return SessionState(
            id=self._clock.new_id(),
            version=0,
            position=0,
            model=facts.model,
            created_at=now_us,
            updated_at=now_us,
            system=SystemPrompt(0, facts.system_tokens) if facts.system_tokens else None,
        )

    async def _append_client(self, caller: Caller, turn: ClientTurn, plan: ClientPlan) -> Started:
        turn_id, state, tenant = self._clock.new_id(), plan.first.window.state, caller.tenant
        document = document_of(plan.first, tenant, self._clock)
        scratch: list[Scratch] = [self._supervisor.run_of(tenant, state.id, turn_id)]
        if turn.key is not None:
            scratch.append(RememberTurn(tenant, turn.key, turn_id, self._clock.now_us(), self._kept_us()))
        if document is not None:
            scratch.append(document)
        if plan.inherits is not None:
            assert turn.place is not None
            now_us = self._clock.now_us()
            scratch.insert(0, ForkCheck(tenant, turn.place.session, AnyVersion(), now_us, self._settings.max_forks))
        goes_on = turn.place is not None and turn.place.goes_on
        events = partial(self._client_events, caller=caller, turn_id=turn_id, turn=turn, plan=plan, document=document)
        work = Append(
            tenant=tenant,
            session=state.id,
            expected=Exactly(state.version) if goes_on else NoStream(),
            events=events,
            reference=Reference("turn", turn_id, 0),
            scratch=tuple(scratch),
            inherits=plan.inherits,
            request=turn.request,
        )
        opening = len(self._opening(turn, plan, None))
        return await self._launch(caller, work, plan.first, self._runtime(turn.grace_s), opening=opening)

    def _runtime(self, grace_s: int | None) -> Runtime:
        """The runtime of a turn that is cancelled so long after its last reader disconnected."""
        runtime = self._supervisor.runtime
        if grace_s is None:
            return runtime
        return replace(runtime, settings=replace(runtime.settings, cancel_unread_after_s=grace_s))

    def _kept_us(self) -> int:
        """How long a request is remembered: for as long as its turn may take and its end be asked for."""
        return (self._settings.turn_timeout_s + self._settings.retry_attach_s) * 1_000_000

    def _client_events(
        self,
        place: Place,
        state: Any,
        *,
        caller: Caller,
        turn_id: UUID,
        turn: ClientTurn,
        plan: ClientPlan,
        document: KeepDocument | None,
    ) -> list[NewEvent]:
        clock, first = self._clock, plan.first
        opening = self._opening(turn, plan, state)
        *before, last = [replace(new, id=clock.new_id()) for new in turn.news]
        salt, now_us = clock.salts(1)[0], clock.now_us()
        attempt = attempt_of(
            first,
            turn_id,
            (1, 1),
            now_us=now_us,
            salt=salt,
            document=document,
            new_position=place.position + len(opening),
            system_position=place.position,
        )
        command = StartTurn(
            turn_id=turn_id,
            model=first.model.recorded,
            provider=first.model.provider.name,
            attempt=attempt,
            message=last,
            on_disconnect=turn.ask.on_disconnect,
            words=_words(turn, first),
            ids=plan.ids,
            now_us=now_us,
            before=tuple(before),
            one_round=not turn.ask.tools,
            client=turn.client,
        )
        return seal([*opening, *start_turn(state or first.window.state, command)], caller, clock)

    def _opening(self, turn: ClientTurn, plan: ClientPlan, state: Any) -> list[Draft]:
        """The event that comes before the messages, if there is one: at most one."""
        if plan.inherits is not None:
            return [fork_session(plan.changes or Changes({}), plan.inherits)]
        if turn.place is None:
            return [Draft(turn.begins.facts, turn.begins.words)]
        if plan.changes is None:
            return []
        return update_session(state or plan.first.window.state, plan.changes)


def _words(turn: ClientTurn, first: PlannedRound) -> TurnWords:
    told = UNSET if turn.told is None else msgspec.Raw(turn.told)
    return TurnWords(first.model.words, first.request_plan.offer.client, told, turn.alias)


def _changed_metadata(connection: Connection, tenant: str, turn: ClientTurn) -> dict[str, Any]:
    """The metadata, if a client gives other than the session that it goes on in has."""
    place = turn.place
    if place is None or turn.metadata is None:
        return {}
    _, words = session_at(connection, tenant, place.session, None if place.goes_on else place.version)
    return {} if words.metadata == turn.metadata else {"metadata": turn.metadata}

"""The engine that ``engine.open`` gives, and that routes, scripts and notebooks call.

``Engine`` is the door: it takes ids as UUIDs or text and fields by name, and gives them to the part that does the work.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import IO, Any, Unpack

from ..log.base import RequestKey
from ..sessions.envelope import LOCAL, Caller
from ..sessions.turn_commands import Decision
from ..sessions.turn_views import Turn
from ..sessions.views import Event, Message, Session
from ..streams.frames import Frame
from ..turns.start import Started
from .branching import Branching
from .clients import Clients
from .erasure import Erasure
from .export import MessageFormat
from .ids import Id, session_id, turn_id
from .inputs import MessageIn
from .lookups import Lookups
from .moments import Time, moment
from .paging import EACH_LIMIT, LIMIT, After, Page, each_item
from .parts import Parts
from .pins import PinOrder
from .replay.playback import AS_FAST_AS_POSSIBLE, play_back
from .replaying import Replaying
from .session_fields import NewSession, SessionChanges, read_fields
from .stream_erasure import Retained
from .suite_keeping import SuiteKeeping
from .text_stream import TextStream
from .turns import TurnOptions, check_options


class Engine(Branching, Clients, Lookups, Replaying, SuiteKeeping):
    """A chat that keeps its record.

    Every method works for a ``caller``, by default the local user of the default tenant, and does all it says or raises
    an EngineError and has done nothing. A session or a turn is named by its id, a UUID or its text; text that is no id
    is not found. Beside what a method names, anything may raise a StoreError.

    ``evidence`` proves what is on record, ``salvage`` reads around damaged rows, ``serving`` is for servers.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.settings = parts.settings
        self.providers = parts.providers
        self.default_model = parts.default_model
        self.evidence = parts.evidence
        self.salvage = parts.salvage
        self.serving = parts.serving

    # --- sessions -----------------------------------------------------------------------------------------------------

    async def create_session(
        self, *, request: RequestKey | None = None, caller: Caller = LOCAL, **fields: Unpack[NewSession]
    ) -> Session:
        """Begin a session. ``model`` None: the default one; ``fallback_model`` answers where the model cannot;
        ``allowed_tools`` None: every registered tool. A ``request`` that came before gives its session as it was.

        Raises UnknownModel, TooLarge, Invalid and IdempotencyMismatch.
        """
        return await self._parts.sessions.create(caller, read_fields(fields, NewSession), request)

    async def session(
        self, session: Id, *, version: int | None = None, at: Time | None = None, caller: Caller = LOCAL
    ) -> Session:
        """Read a session as it is now, or as it was at a version, or at a time: at the last version recorded by then.
        Words erased since are None. Raises SessionNotFound, NotYet for a time before it began, and Invalid.
        """
        return await self._parts.sessions.read(caller, session_id(session), moment(version, at))

    async def update_session(
        self,
        session: Id,
        *,
        expected: int | None = None,
        request: RequestKey | None = None,
        caller: Caller = LOCAL,
        **fields: Unpack[SessionChanges],
    ) -> Session:
        """Set fields of a session; None sets null, and what is left out stays. ``expected``: its version until now.

        Raises SessionNotFound, UnknownModel, TooLarge, Invalid, SessionArchived, TurnAlreadyOpen, VersionConflict and
        IdempotencyMismatch.
        """
        changes = read_fields(fields, SessionChanges)
        return await self._parts.sessions.update(caller, session_id(session), changes, expected, request)

    async def update_metadata(
        self,
        session: Id,
        patch: dict[str, Any],
        *,
        expected: int | None = None,
        request: RequestKey | None = None,
        caller: Caller = LOCAL,
    ) -> Session:
        """Change a session's metadata by a JSON merge patch (RFC 7396): null removes a key. A patch that changes
        nothing is no event.

        Raises SessionNotFound, Invalid, TooLarge, SessionArchived, VersionConflict and IdempotencyMismatch.
        """
        return await self._parts.metadata.patch(caller, session_id(session), patch, expected, request)

    # --- messages and events ------------------------------------------------------------------------------------------

    async def append_messages(
        self,
        session: Id,
        messages: Sequence[MessageIn],
        *,
        expected: int | None = None,
        request: RequestKey | None = None,
        caller: Caller = LOCAL,
    ) -> list[Message]:
        """Append messages without running a model: all of them or none.

        Raises SessionNotFound, SessionArchived, SessionExpired, SessionFull, TurnAlreadyOpen, EmptyMessage, TooLarge,
        Invalid, ToolResultsMissing, ToolCallNotFound, VersionConflict and IdempotencyMismatch.
        """
        return await self._parts.messages.append(caller, session_id(session), messages, expected, request)

    async def append_message(self, session: Id, content: str, *, role: str = "user", caller: Caller = LOCAL) -> Message:
        """Append one message of text. Raises what ``append_messages`` raises."""
        (message,) = await self._parts.messages.append(
            caller, session_id(session), [MessageIn(content, role)], None, None
        )
        return message

    async def messages(
        self,
        session: Id,
        *,
        after: After = None,
        limit: int = LIMIT,
        descending: bool = False,
        version: int | None = None,
        at: Time | None = None,
        siblings: bool = False,
        caller: Caller = LOCAL,
    ) -> Page[Message]:
        """Read a page of a session's messages in order of version, as they are now, or were at a version or time:
        pinned then, erased since. ``after``: a version, or a page's ``next``. ``siblings``: each with those that stand
        in its place in other conversations of the family.

        Raises SessionNotFound, NotYet, and Invalid for a limit, an ``after`` or a time that cannot be.
        """
        page = partial(self._parts.messages.page, descending=descending, moment=moment(version, at), siblings=siblings)
        return await page(caller, session_id(session), after, limit)

    def iter_messages(
        self,
        session: Id,
        *,
        after: After = None,
        descending: bool = False,
        version: int | None = None,
        at: Time | None = None,
        siblings: bool = False,
        caller: Caller = LOCAL,
    ) -> AsyncGenerator[Message, None]:
        """Iterate over a session's messages. Raises as ``messages`` does: SessionNotFound, NotYet and Invalid."""
        read = partial(self.messages, session, limit=EACH_LIMIT, descending=descending, version=version, at=at)
        return each_item(lambda place: read(after=place, siblings=siblings, caller=caller), after)

    async def pin(self, session: Id, version: int, *, expected: int | None = None, caller: Caller = LOCAL) -> Message:
        """Pin the message at a version: it stands in every window. One that is pinned stays so.

        Raises SessionNotFound, EventNotFound, Erased, EmptyMessage, SessionFull, SessionArchived, TurnAlreadyOpen and
        VersionConflict.
        """
        return await self._parts.pins.set(caller, PinOrder(session_id(session), version, expected, pinned=True))

    async def unpin(self, session: Id, version: int, *, expected: int | None = None, caller: Caller = LOCAL) -> Message:
        """Pin the message at a version no longer. Raises as ``pin`` does, but for Erased, EmptyMessage, SessionFull."""
        return await self._parts.pins.set(caller, PinOrder(session_id(session), version, expected, pinned=False))

    async def events(
        self,
        session: Id,
        *,
        after: After = None,
        limit: int = LIMIT,
        types: Sequence[str] = (),
        wait_s: float = 0,
        caller: Caller = LOCAL,
    ) -> Page[Event]:
        """Read a page of a session's events, all or those of some types. Where there is none yet, wait for one, at
        most ``wait_s``.

        Raises SessionNotFound, Invalid for a limit or an ``after`` that cannot be, Overloaded and ShuttingDown.
        """
        return await self._parts.events.page(caller, session_id(session), after, limit, types, wait_s)

    def iter_events(
        self, session: Id, *, after: After = None, types: Sequence[str] = (), caller: Caller = LOCAL
    ) -> AsyncGenerator[Event, None]:
        """Iterate over a session's events. Raises SessionNotFound."""
        turn_page = partial(self.events, session, limit=EACH_LIMIT, types=types, caller=caller)
        return each_item(lambda place: turn_page(after=place), after)

    async def log_events(
        self,
        *,
        after: After = None,
        limit: int = LIMIT,
        types: Sequence[str] = (),
        descending: bool = False,
        wait_s: float = 0,
        caller: Caller = LOCAL,
    ) -> Page[Event]:
        """Read a page of the whole log's events, all or those of some types, in order of position or back. Of rare
        types a page may be short or empty and have a ``next`` all the same: ``max_scanned_events`` bounds what one
        looks through. Waits and raises as ``events`` does.
        """
        page = partial(self._parts.events.log_page, descending=descending)
        return await page(caller, after, limit, types, wait_s)

    def follow(
        self, session: Id | None, *, after: int | None = None, types: Sequence[str] = (), caller: Caller = LOCAL
    ) -> AsyncGenerator[list[Event], None]:
        """Follow a session's events as they are committed, or (None) the whole log's, after a version (a position) or
        from the newest; all or those of some types. An empty batch says that all there is was given. Raises
        SessionNotFound and Overloaded.
        """
        return self._parts.events.follow(caller, None if session is None else session_id(session), after, types)

    # --- turns --------------------------------------------------------------------------------------------------------

    async def start_turn(
        self,
        session: Id,
        content: str | MessageIn | None = None,
        *,
        caller: Caller = LOCAL,
        **options: Unpack[TurnOptions],
    ) -> Started:
        """Run the model on a message, or (None) on what the session holds. Returns when the turn's start is on disk;
        it goes on whether or not anybody reads it.

        Raises what ``append_messages`` raises, NothingToAnswer, UnknownModel, BudgetTooSmall, ContentNotSupported,
        Overloaded, RateLimited and ShuttingDown.
        """
        check_options(options)
        return await self._parts.turns.start(caller, session_id(session), content, options)

    async def say(
        self, session: Id, content: str | MessageIn, *, caller: Caller = LOCAL, **options: Unpack[TurnOptions]
    ) -> Turn:
        """Send a message and wait for the answer: the ended turn, or one that waits for a decision. A turn that failed
        has an ``error``. Raises what ``start_turn`` raises.
        """
        started = await self.start_turn(session, content, caller=caller, **options)
        return await self.ended(started.turn, caller=caller)

    def stream(
        self, session: Id, content: str | MessageIn, *, caller: Caller = LOCAL, **options: Unpack[TurnOptions]
    ) -> TextStream:
        """Send a message and iterate over the text of the answer as it comes; the turn is the stream's ``turn`` then.

        Raises what ``start_turn`` raises; and if the turn failed its error, at the end.
        """
        check_options(options)
        return self._parts.turns.stream(caller, session_id(session), content, options)

    async def turn(self, turn: Id, *, caller: Caller = LOCAL) -> Turn:
        """Read a turn as it is now. Raises TurnNotFound."""
        return await self._parts.turns.read(caller, turn_id(turn))

    async def ended(self, turn: Id, *, wait_s: float | None = None, caller: Caller = LOCAL) -> Turn:
        """Wait until a turn has ended, or waits for a decision; after ``wait_s``, read it as it is. Waiting counts as
        reading: to cancel it is to leave. Raises TurnNotFound and Overloaded.
        """
        return await self._parts.turns.ended(caller, turn_id(turn), wait_s)

    async def turns(
        self, session: Id, *, after: After = None, limit: int = LIMIT, descending: bool = False, caller: Caller = LOCAL
    ) -> Page[Turn]:
        """Read a page of a session's turns in the order they started. Raises as ``messages`` does."""
        return await self._parts.turns.page(caller, session_id(session), after, limit, descending=descending)

    def iter_turns(
        self, session: Id, *, after: After = None, descending: bool = False, caller: Caller = LOCAL
    ) -> AsyncGenerator[Turn, None]:
        """Iterate over a session's turns. Raises SessionNotFound."""
        turn_page = partial(self.turns, session, limit=EACH_LIMIT, descending=descending, caller=caller)
        return each_item(lambda place: turn_page(after=place), after)

    async def cancel(self, turn: Id, *, request: RequestKey | None = None, caller: Caller = LOCAL) -> Turn:
        """Cancel a turn; one that has ended stays as it is. Raises TurnNotFound and IdempotencyMismatch."""
        return await self._parts.turns.cancel(caller, turn_id(turn), request)

    async def decide(
        self,
        turn: Id,
        call: str,
        *,
        approve: bool,
        reason: str | None = None,
        request: RequestKey | None = None,
        caller: Caller = LOCAL,
    ) -> Turn:
        """Approve or refuse a tool call that waits for a person. With the last decision the turn goes on.

        Raises TurnNotFound, NoDecisionAwaited, TooLarge, Invalid, Overloaded and IdempotencyMismatch.
        """
        return await self._parts.turns.decide(caller, turn_id(turn), Decision(call, approve, reason), request)

    def frames(self, turn: Id, *, after: int = 0, caller: Caller = LOCAL) -> AsyncGenerator[list[Frame], None]:
        """Read a turn's frames after a number, in batches, live or from the record, up to its end. An empty batch is
        silence. Raises TurnNotFound and Overloaded.
        """
        return self._parts.follower.frames(caller.tenant, turn_id(turn), after)

    # --- erasing, exporting, replaying --------------------------------------------------------------------------------

    async def erase(
        self,
        session: Id,
        reason: str,
        *,
        versions: Sequence[int] | None = None,
        expected: int | None = None,
        dry_run: bool = False,
        request: RequestKey | None = None,
        caller: Caller = LOCAL,
    ) -> Erasure:
        """Erase the words of a session's events: of these versions, or of all. What is erased already stays so. The
        answer names copies that keep the words. ``dry_run`` gives the answer, and does nothing.

        Raises SessionNotFound, EventNotFound, Invalid, LegalHold, TurnAlreadyOpen, VersionConflict and
        IdempotencyMismatch.
        """
        erase = self._parts.erasures.erase
        return await erase(caller, session_id(session), reason, versions, expected, request, dry_run=dry_run)

    def retain(
        self,
        days: int,
        *,
        tag: tuple[str, str] | None = None,
        expired: bool = False,
        dry_run: bool = False,
        caller: Caller = LOCAL,
    ) -> AsyncGenerator[Retained, None]:
        """Erase what was recorded more than so many days ago, session by session; ``tag``: of sessions whose metadata
        has this key with this value. A session's own words (title, system prompt, metadata) go when all else has gone.
        ``expired``: all of the sessions that expired so many days ago, and nothing of others.
        ``dry_run`` changes nothing; otherwise call ``purge`` at the end. Raises nothing of its own.
        """
        return self._parts.erasures.retain(caller, days, tag, expired=expired, dry_run=dry_run)

    async def purge(self) -> bool:
        """Clear the bytes of what was erased out of the server's files. False: a reader is in the way, and it will be
        done later. Raises StoreUnavailable where the database is only read.
        """
        return await self._parts.erasures.purge()

    async def export(self, to: IO[bytes], session: Id | None = None, *, caller: Caller = LOCAL) -> int:
        """Write the bundle of a session, or (None) of the whole log; the number of events in it.

        Raises SessionNotFound, and CheckpointNotFound where none covers it and none can be made: beside a running
        server, which makes one within its ``checkpoint_every_s``.
        """
        return await self._parts.exports.bundle(caller, to, None if session is None else session_id(session))

    def export_messages(
        self, session: Id, form: MessageFormat, *, caller: Caller = LOCAL
    ) -> AsyncGenerator[bytes, None]:
        """Write a session's messages for another tool, as one line of JSON, in pieces. Units in which words are erased
        or calls have no result are left out: other tools have no word for them. Raises SessionNotFound.
        """
        return self._parts.exports.messages(caller, session_id(session), form)

    def play_back(
        self, session: Id, *, pace: float = AS_FAST_AS_POSSIBLE, caller: Caller = LOCAL
    ) -> AsyncGenerator[Message | Frame, None]:
        """Play a recorded session back: its messages, and each turn's frames at the recorded pace times ``pace``, or
        (0) at once. Raises SessionNotFound.
        """
        return play_back(self._parts.events, caller, session_id(session), pace)

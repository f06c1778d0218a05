"""Commands on a session: from its state and what is asked for they make events, or a refusal. Pure.

They run inside the write transaction, on the state as it is then, so what they check still holds when their events
are committed. ``turn_decisions`` holds the commands on a turn that has started.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

import msgspec

from ..clock import rfc3339
from ..errors import (
    EmptyMessage,
    Invalid,
    LegalHold,
    NothingToAnswer,
    SessionArchived,
    SessionExpired,
    SessionFull,
    SessionNotFound,
    TurnAlreadyOpen,
)
from ..events.blocks import (
    Block,
    ImageBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    calls_of,
    is_one_text,
    raw_blocks,
)
from ..events.session_types import (
    MessagePinned,
    MessageUnpinned,
    SessionForked,
    SessionRestored,
    SessionStarted,
    SessionUpdated,
    SessionWords,
)
from ..events.session_types import SessionArchived as ArchivedEvent
from ..events.turn_types import ClientFacts, TurnStarted, TurnWords
from ..events.types import BodyErased, Draft, ErasureWords, MessageAppended, MessageWords, NewMessage, Role
from ..log.base import Inherited
from .calls import NONE_READ, CallCount, CallIds
from .state import BOUNDS, NAMED, SETTABLE, SessionState
from .turn_commands import StartAttempt
from .turn_decisions import start_attempt

_PLACES: dict[type[Block], tuple[Role, str]] = {
    ToolResultBlock: ("tool", "a tool_result belongs in a message of role tool"),
    ToolUseBlock: ("assistant", "a tool_use belongs in a message of role assistant"),
    ThinkingBlock: ("assistant", "thinking belongs in a message of role assistant"),
    ImageBlock: ("user", "an image belongs in a message of role user, or in a tool_result"),
}
"""The only role that may say such a block: no protocol of a vendor can say it in another."""

CLOSED_DURING_TURN = frozenset({*SETTABLE, "system", "status"}) - frozenset(BOUNDS)


class Changes(msgspec.Struct, frozen=True):
    """Changes of a session: names of fields and their new values (None sets null). ``recorded``: what facts hold in
    place of values that are words; ``merges``: the metadata is a merge patch.
    """

    values: dict[str, Any]
    system_tokens: int = 0
    recorded: Mapping[str, Any] = {}
    merges: bool = False


class ReplayOrigin(msgspec.Struct, frozen=True, gc=False):
    """The replay that makes a session, to do a turn again."""

    replay: UUID
    turn: UUID


class StartTurn(msgspec.Struct, frozen=True):
    """A turn that is to start. ``message`` None: it answers what is there; ``continues``: it goes on with a partial
    answer; ``attempt``: its first one. ``model`` is its name in facts; ``words``: what else is said of it; ``ids``: the
    vendor's ids of the calls that are open; ``now_us``: the time. ``before``: messages that are appended before
    ``message``. ``one_round``: it ends with the first answer; ``client``: it is one's, but for the count of messages.
    """

    turn_id: UUID
    model: str
    provider: str
    attempt: StartAttempt
    message: NewMessage | None = None
    continues: bool = False
    on_disconnect: Literal["continue", "cancel"] = "continue"
    words: TurnWords = TurnWords()
    ids: CallIds = NONE_READ
    now_us: int = 0
    before: tuple[NewMessage, ...] = ()
    one_round: bool = False
    client: ClientFacts | None = None


# --- sessions ---------------------------------------------------------------------------------------------------------


def start_session(facts: SessionStarted, words: SessionWords) -> list[Draft]:
    return [Draft(facts, words)]


def update_session(state: SessionState | None, changes: Changes) -> list[Draft]:
    """Set fields. A new ``status`` is an event of its own; the status that the session has already is none."""
    state = existing(state)
    if state.open_turn is not None and CLOSED_DURING_TURN & changes.values.keys():
        raise _turn_open(state)
    values = dict(changes.values)
    status = values.pop("status", state.status)
    if state.status == "archived" and status == "archived" and values.keys() - {"legal_hold"}:
        raise SessionArchived(f"session {state.id} is archived")
    drafts = []
    if status != state.status and status == "active":
        drafts.append(Draft(SessionRestored()))
    if values:
        drafts.append(_updated(values, changes))
    if status != state.status and status == "archived":
        drafts.append(Draft(ArchivedEvent()))
    return drafts


def fork_session(changes: Changes, inherited: Inherited, origin: ReplayOrigin | None = None) -> Draft:
    """Begin a session with another's history. ``changes``: the fields that differ; ``origin``: it is a replay's."""
    facts, words = _given(dict(changes.values), changes)
    forked = SessionForked(inherited.session, inherited.version, **facts)
    if origin is not None:
        forked = msgspec.structs.replace(forked, replay=origin.replay, of_turn=origin.turn)
    return Draft(forked, words)


def check_forkable(parent: SessionState | None, now_us: int) -> SessionState:
    """The state, if a session may be forked now: also while a turn runs. Raises SessionArchived or SessionExpired."""
    parent = existing(parent)
    if parent.status == "archived":
        raise SessionArchived(f"session {parent.id} is archived")
    _check_expiry(parent, now_us)
    return parent


# --- messages ---------------------------------------------------------------------------------------------------------


def append_messages(
    state: SessionState | None, messages: Sequence[NewMessage], ids: CallIds = NONE_READ, now_us: int = 0
) -> list[MessageAppended]:
    """The facts of these messages, if they may be appended now, without running a model. ``ids``: those of the open
    calls. Raises the refusal otherwise.
    """
    state = _open_for_input(state)
    _check_bounds(state, now_us, len(messages), sum(message.tokens for message in messages))
    count = CallCount.of(state, ids)
    for message in messages:
        check_shape(message)
    return [_facts_of(message, count) for message in messages]


def message_draft(message: NewMessage, facts: MessageAppended | None = None) -> Draft:
    """The event of a message. Its words do not depend on the state, so that they can be encoded before the write
    transaction begins; without ``facts``, those that depend on it are absent.
    """
    facts = facts or MessageAppended(
        *(message.role, message.tokens, message.counter),
        complete=True,
        turn=None,
        copied_from=message.copied_from,
        developer=message.developer,
    )
    return Draft(facts, MessageWords(content=raw_blocks(message.content)), id=message.id)


def _facts_of(message: NewMessage, count: CallCount) -> MessageAppended:
    """The facts of a message with the ordinals of the calls that it makes or answers. Refuses results without a call,
    and any message but the results that are missing.
    """
    if message.role != "tool":
        count.check_answered()
    return MessageAppended(
        message.role,
        message.tokens,
        message.counter,
        complete=True,
        turn=None,
        results=count.answer(message.content),
        calls=count.make(message.content) if message.role != "tool" else (),
        copied_from=message.copied_from,
        developer=message.developer,
    )


def check_shape(message: NewMessage) -> None:
    """Raises EmptyMessage for a message without content, and Invalid for blocks that do not belong in a message of its
    role.
    """
    if message.tokens == 0:
        raise EmptyMessage("a message must have content", field="content")
    if message.role != "tool" and is_one_text(message.content):
        return
    for number, block in enumerate(message.content):
        role, words = _PLACES.get(type(block), (message.role, ""))
        if message.role != role:
            raise Invalid(f"content[{number}]", words)
        if message.role == "tool" and not isinstance(block, ToolResultBlock):
            raise Invalid(f"content[{number}]", "a message of role tool holds tool_result blocks only")
    calls = calls_of(message.content)
    if len(set(calls)) != len(calls):
        raise Invalid("content", "two tool_use blocks have the same id")


# --- the start of a turn ----------------------------------------------------------------------------------------------


def start_turn(state: SessionState | None, command: StartTurn) -> list[Draft]:
    """Append the messages, if there are any, the turn's start, and its first attempt."""
    given, before = command.message, command.before
    state, facts = check_turn(
        state, given, command.ids, continues=command.continues, now_us=command.now_us, before=before
    )
    news = (*before, *([] if given is None else [given]))
    drafts = [message_draft(new, said) for new, said in zip(news, facts, strict=True)]
    started = TurnStarted(
        model=command.model,
        provider=command.provider,
        continues=command.continues,
        supersedes=superseded(state, command.message, continues=command.continues),
        on_disconnect=command.on_disconnect,
        one_round=command.one_round,
        client=command.client and msgspec.structs.replace(command.client, inputs=len(news)),
    )
    cause = drafts[-1].id if drafts else None
    words = None if command.words == TurnWords() else command.words
    return [*drafts, Draft(started, words, id=command.turn_id, causation=cause), *start_attempt(command.attempt)]


def check_turn(
    state: SessionState | None,
    message: NewMessage | None,
    ids: CallIds = NONE_READ,
    *,
    continues: bool,
    now_us: int = 0,
    before: Sequence[NewMessage] = (),
) -> tuple[SessionState, list[MessageAppended]]:
    """The state, if a turn may start on it with this input now, and the input's facts; ``before``: messages that are
    appended before. Raises the refusal otherwise. There must be room for them and for an answer; a turn that has begun
    is not cut off.
    """
    state = _open_for_input(state)
    news = [*before, *([] if message is None else [message])]
    _check_bounds(state, now_us, 1 + len(news), 1 + sum(new.tokens for new in news))
    count = CallCount.of(state, ids)
    for new in before:
        check_shape(new)
    facts = [_facts_of(new, count) for new in before]
    if message is None:
        count.check_answered()
        _check_answerable(state, continues=continues)
        return state, facts
    check_shape(message)
    facts.append(_facts_of(message, count))
    if message.role == "tool":
        count.check_answered()
    if message.role not in {"user", "tool"}:
        raise Invalid("message.role", "a turn starts with a message of role user or tool")
    if continues:
        raise Invalid("continue", "cannot be combined with new content")
    return state, facts


def superseded(state: SessionState, message: NewMessage | None, *, continues: bool) -> int | None:
    """Position of the partial message that a turn without new content answers anew, if there is one."""
    last = state.last
    if message is None and not continues and last is not None and last.role == "assistant" and not last.complete:
        return last.position
    return None


def _check_answerable(state: SessionState, *, continues: bool) -> None:
    """Raises unless a turn without new content has something to answer."""
    last = state.last
    partial = last is not None and last.role == "assistant" and not last.complete
    if last is None or last.erased or not (partial or last.role in {"user", "tool"}):
        raise NothingToAnswer("there is no message from user or tool to answer; give content", field="content")
    if continues and not (partial and last.tokens and not last.superseded):
        raise Invalid("continue", "there is no partial message to continue")


# --- marks ------------------------------------------------------------------------------------------------------------


def mark_message(state: SessionState | None, position: int, *, pin: bool, pinned: int, most: int) -> list[Draft]:
    """Pin the message at a position, or pin it no longer; ``pinned``: how many are, ``most``: how many may be. A turn
    that runs has chosen its window, and the next round would choose another: so not now.
    """
    state = _open_for_input(state)
    if not pin:
        return [Draft(MessageUnpinned(position))]
    if pinned >= most:
        raise SessionFull(f"{pinned} messages of the session are pinned", limit="max_pins", maximum=most)
    return [Draft(MessagePinned(position))]


# --- erasure ----------------------------------------------------------------------------------------------------------


def check_erasable(state: SessionState | None) -> SessionState:
    """The state, if words of the session may be erased now. Raises the refusal otherwise."""
    state = existing(state)
    if state.legal_hold:
        detail = f"session {state.id} is under legal hold: nothing of it may be erased"
        raise LegalHold(detail, session_id=str(state.id))
    if state.open_turn is not None:
        turn_id = str(state.open_turn.id)
        raise TurnAlreadyOpen("a turn is running in this session", turn_id=turn_id, session_id=str(state.id))
    return state


def erase_words(
    state: SessionState | None,
    targets: Sequence[int],
    calls: Collection[str],
    words: ErasureWords,
    documents: Sequence[str] = (),
) -> list[Draft]:
    """Erase the bodies at these positions. ``calls``: those that the messages among them make, as facts name them: if
    they are open, they need no result any more. ``documents``: those that go with them.
    """
    state = check_erasable(state)
    closes = tuple(call for call in state.open_calls if call in calls)
    return [Draft(BodyErased(tuple(targets), closes, tuple(documents)), words)]


# --- refusals ---------------------------------------------------------------------------------------------------------


def _updated(values: dict[str, Any], changes: Changes) -> Draft:
    facts, words = _given(values, changes)
    return Draft(SessionUpdated(merges=changes.merges, **facts), words)


def _given(values: dict[str, Any], changes: Changes) -> tuple[dict[str, Any], SessionWords | None]:
    """What facts and words hold of fields that are set."""
    own = [name for name in SessionWords.__struct_fields__ if name not in NAMED]
    words = {name: values[name] for name in (*own, *changes.recorded) if name in values}
    facts = {name: value for name in SETTABLE if (value := changes.recorded.get(name, values.get(name))) is not None}
    facts |= {"changed": tuple(sorted(values)), "system_tokens": changes.system_tokens}
    return facts, SessionWords(**words) if words else None


def existing(state: SessionState | None) -> SessionState:
    """The state of a session that has begun. Raises SessionNotFound."""
    if not isinstance(state, SessionState):  # nor is the stream of a replay one
        raise SessionNotFound("there is no such session")
    return state


def _open_for_input(state: SessionState | None) -> SessionState:
    state = existing(state)
    if state.open_turn is not None:
        raise _turn_open(state)
    if state.status == "archived":
        raise SessionArchived(f"session {state.id} is archived")
    return state


def _check_bounds(state: SessionState, now_us: int, messages: int, tokens: int) -> None:
    """Raises SessionExpired, and SessionFull where so much more is too much."""
    _check_expiry(state, now_us)
    for limit, maximum, size in (
        ("max_messages", state.max_messages, state.message_count + messages),
        ("max_tokens", state.max_tokens, state.base_tokens + tokens),
    ):
        if maximum is not None and size > maximum:
            raise SessionFull(f"the session would hold more than {limit}, {maximum}", limit=limit, maximum=maximum)


def _check_expiry(state: SessionState, now_us: int) -> None:
    if state.expires_at is not None and now_us >= state.expires_at:
        at = rfc3339(state.expires_at)
        raise SessionExpired(f"session {state.id} has expired at {at}", expires_at=at)


def _turn_open(state: SessionState) -> TurnAlreadyOpen:
    assert state.open_turn is not None
    turn = state.open_turn
    waits = turn.status == "requires_action"
    detail = "a turn of this session waits for a decision" if waits else "a turn is running in this session"
    return TurnAlreadyOpen(detail, turn_id=str(turn.id))

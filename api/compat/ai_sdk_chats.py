"""Chats of the Vercel AI SDK's clients: where one is by the client's own name of it, which message a turn makes, and a
person's decisions on what a turn waits for.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing, suppress
from itertools import pairwise
from uuid import UUID

import msgspec
from msgspec.structs import replace

from ...engine import (
    Alias,
    Caller,
    ClientAnswer,
    ClientRequest,
    Engine,
    Frame,
    Message,
    NoDecisionAwaited,
    TurnNotFound,
)
from ..http.errors import Problem, invalid
from .ai_sdk_forms import message_id
from .ai_sdk_request import Decided
from .ai_sdk_stream import read_decision
from .common import ENDS

OPEN = frozenset({"running", "requires_action"})
_DECISIONS = frozenset({"tool.approved", "tool.refused"})
_encode = msgspec.json.Encoder().encode


class Goes(msgspec.Struct, frozen=True, rename="camel"):
    """A turn goes on with a message: its name, and the turns that have made it so far. It is what is given back of the
    request (``ClientRequest.told``).
    """

    message_id: str
    turns: tuple[UUID, ...] = ()


_read_goes = msgspec.json.Decoder(Goes).decode


def goes_of(answer: ClientAnswer) -> Goes:
    """The message that a turn makes."""
    return Goes(message_id(answer.turn.id.hex)) if answer.told is None else _read_goes(answer.told)


async def newest(chat: Engine, name: str, caller: Caller) -> ClientAnswer | None:
    """The newest turn of a chat; None: the caller has no chat of this name."""
    return await _answer(chat, await chat.find_alias(name, "ai_sdk", caller=caller), caller)


async def named(chat: Engine, name: str, turn: str, caller: Caller) -> ClientAnswer | None:
    """One turn of a chat; None: the caller has no such chat, or the chat no such turn."""
    try:
        return await _answer(chat, await chat.find_alias(name, "ai_sdk", turn=turn, caller=caller), caller)
    except TurnNotFound:
        return None


async def current(chat: Engine, name: str, caller: Caller) -> ClientAnswer | None:
    """The turn of a chat that is being given: the newest that runs, for a chat in two tabs has two; else the newest,
    which may wait for a person, or have ended. One that waits and was gone on from is not asked about again.
    """
    running = await _answer(chat, await chat.find_alias(name, "ai_sdk", running=True, caller=caller), caller)
    return running or await newest(chat, name, caller)


async def _answer(chat: Engine, found: Alias | None, caller: Caller) -> ClientAnswer | None:
    if found is None:
        return None
    try:
        return await chat.client_answer(found.turn, "ai_sdk", caller=caller)
    except TurnNotFound:
        return None


def in_chat(request: ClientRequest, before: ClientAnswer | None, answers: Collection[str]) -> ClientRequest:
    """A request in its chat, whose newest turn is ``before``. ``answers``: the ids of the client's answers. A history
    that holds that turn's message is no other conversation under a name used anew: where it is not on record as the
    client has it, for it was stopped before a word or within a call, the chat goes on in a fork.
    """
    if before is None:
        return request
    holds = goes_of(before).message_id in answers
    return replace(request, family=before.turn.session_id, edited=request.edited or holds)


def goes_on(before: ClientAnswer | None, message: str) -> Goes:
    """How a turn goes on with a message of the client's, after the turn that gave it. What any other turn gave is not
    told again.
    """
    so_far = None if before is None else goes_of(before)
    if before is None or so_far is None or so_far.message_id != message:
        return Goes(message)
    return Goes(message, (*so_far.turns, before.turn.id))


async def whole(chat: Engine, turn: UUID, earlier: Sequence[UUID], caller: Caller) -> AsyncGenerator[list[Frame], None]:
    """All frames of a message: of the turns that made it so far, without their ends, and the results that the client
    gave after each; then those of the turn itself.
    """
    for each, following in pairwise((*earlier, turn)):
        async with aclosing(chat.frames(each, caller=caller)) as batches:
            async for batch in batches:
                yield [frame for frame in batch if frame.type not in ENDS]
        inputs = (await chat.client_answer(following, "ai_sdk", caller=caller)).inputs
        yield [_appended(message) for message in inputs if message.role == "tool"]
    async with aclosing(chat.frames(turn, caller=caller)) as batches:
        async for batch in batches:
            yield batch


def _appended(message: Message) -> Frame:
    return Frame(1, "message.appended", _encode(message))


# --- decisions --------------------------------------------------------------------------------------------------------


async def decide(chat: Engine, decided: Sequence[Decided], caller: Caller) -> tuple[ClientAnswer, int]:
    """Record the decisions on a turn, all that it waits for: it goes on. Gives the turn, and the number of the frame up
    to which the client has been told of it. What is on record already is taken as it is.

    Raises Problem for a decision that the turn does not wait for, or that is missing, and EngineError; nothing is
    recorded then.
    """
    turn = decided[0].turn
    try:
        answer = await chat.client_answer(turn, "ai_sdk", caller=caller)
    except TurnNotFound:
        raise invalid(f"{decided[0].field}.id", "is none that was asked for here", "approval_not_found") from None
    awaited = {each.tool_use_id for each in answer.turn.pending_approvals}
    new = [each for each in decided if each.call in awaited]
    old = [each for each in decided if each.call not in awaited]
    if old:
        await _told_up_to(chat, old, caller)
    if new:
        _check(chat, new, awaited)
    for each in new:
        with suppress(NoDecisionAwaited):  # somebody decided at the same moment: the same way, or it is refused below
            await chat.decide(turn, each.call, approve=each.approve, reason=each.reason, caller=caller)
    return answer, await _told_up_to(chat, decided, caller)


def _check(chat: Engine, decided: Sequence[Decided], awaited: set[str]) -> None:
    """Raises Problem unless there is one decision, and a good one, on each call that is waited for."""
    most = chat.settings.max_reason_chars
    for each in decided:
        if each.reason is not None and (len(each.reason) > most or "\0" in each.reason):
            raise invalid(f"{each.field}.reason", f"must be at most {most} characters, none of them NUL")
    missing = awaited - {each.call for each in decided}
    if missing:
        calls = ", ".join(sorted(missing))
        raise Problem(400, "approval_missing", f"messages: the turn also waits for {calls}", field="messages")
    if len(decided) != len(awaited):
        raise invalid(decided[-1].field, "is on a call that was decided before it")


async def _told_up_to(chat: Engine, decided: Sequence[Decided], caller: Caller) -> int:
    """The number of the last frame that tells of these decisions. Raises Problem unless they are on record as they
    are.
    """
    left = {each.call: each for each in decided}
    async with aclosing(chat.frames(decided[0].turn, caller=caller)) as batches:
        async for batch in batches:
            for frame in batch:
                told = read_decision(frame.data) if frame.type in _DECISIONS else None
                each = None if told is None else left.get(told.tool_use_id or "")
                if told is not None and each is not None and each.approve == told.approve:
                    del left[each.call]
                if not left:
                    return frame.number
            if not batch:  # all that is on record was read
                break
    each = next(iter(left.values()))
    detail = f"{each.field}: the turn does not wait for this decision"
    raise Problem(409, "no_decision_awaited", detail, {"x-should-retry": "false"}, field=each.field)

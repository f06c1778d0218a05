"""What becomes of the events that a client of Anthropic's Managed Agents sends: turns that begin, go on, or stop."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import NamedTuple
from uuid import UUID

from ...engine import (
    Caller,
    ClientRequest,
    Engine,
    EngineError,
    MessageIn,
    NoDecisionAwaited,
    NothingToAnswer,
    Session,
    ToolResultsMissing,
    TurnAlreadyOpen,
    TurnOptions,
    new_id,
)
from ..http.body import Http
from ..http.errors import Problem, invalid, problem_of
from ..schemas.parameters import caller_of
from . import common
from .managed_events import Told
from .managed_forms import EVENT, kept_of, session_name
from .managed_input import Confirmation, Input, call_of, decoded, messages_of
from .managed_reading import REMEMBERED, events_from, refused, told_after

CONFIRMED, RESULT = "user.tool_confirmation", "user.custom_tool_result"

_MESSAGE = re.compile(r"messages\[(?P<number>\d+)\](?P<rest>.*)", re.DOTALL)
_BLOCK = re.compile(r"\.content\[(?P<number>\d+)\](?P<rest>.*)", re.DOTALL)


async def sent(request: Http, chat: Engine, session: Session, given: Input) -> tuple[list[Told], dict[str, str]]:
    """Do what was sent. Gives the events as they are on record, and headers that say where. Raises Problem."""
    caller = caller_of(request)
    remembered = REMEMBERED if given.results or given.decisions else 0
    calls = (await events_from(chat, session, session.version, caller, remembered=remembered)).calls
    messages, places = messages_of(given, calls)
    if given.decisions:
        _check_decisions(given, calls, chat.settings.max_reason_chars)
    headers = {common.SESSION: str(session.id)}
    if messages:
        stopped, told, more = await _said(request, chat, session, given, _Asked(messages, _names(given, places)))
        return [stopped or _nothing_interrupted()] * given.interrupts + told, headers | more
    if given.decisions:
        return await _decided(chat, session, given.decisions, calls, caller), headers
    return [await _interrupted(chat, session, caller)] * given.interrupts, headers


class _Asked(NamedTuple):
    """Messages to be answered, and the client's names of the engine's fields of them."""

    messages: list[MessageIn]
    names: Callable[[str], str]


# --- messages and results ---------------------------------------------------------------------------------------------


async def _said(
    request: Http, chat: Engine, session: Session, given: Input, asked: _Asked
) -> tuple[Told | None, list[Told], dict[str, str]]:
    """Begin the turn that answers messages. What runs is stopped only where it is in the way, so that a request that
    comes twice does not stop what it has begun itself. Gives the interrupt, if it has stopped anything, the messages as
    they are on record, and headers.
    """
    caller, stopped = caller_of(request), None
    before = [] if given.messages else await _results_before(chat, session, given, caller)
    if before:
        return None, before, {}
    try:
        try:
            running = await _started(request, chat, session, asked)
        except Problem as problem:
            if problem.code != TurnAlreadyOpen.code or not given.interrupts:
                raise
            stopped = await _interrupted(chat, session, caller)
            running = await _started(request, chat, session, asked)
    except Problem as problem:
        if problem.code != ToolResultsMissing.code or given.messages:
            raise
        return stopped, await _kept(chat, session, asked.messages, caller), {}
    inputs = (await chat.client_answer(running.turn, "messages", caller=caller)).inputs
    told = await _told(chat, session, {message.id for message in inputs}, inputs[0].version, caller)
    return stopped, told, running.headers


async def _started(request: Http, chat: Engine, session: Session, asked: _Asked) -> common.Running:
    """The turn that answers messages. It goes on without a reader."""
    wanted = ClientRequest(
        tuple(asked.messages),
        await _options(chat, session, caller_of(request)),
        protocol="messages",
        system=session.system,
        conversation=session.id,
        stored=True,
    )
    return await common.start(request, chat, wanted, asked.names, background=True)


async def _results_before(chat: Engine, session: Session, given: Input, caller: Caller) -> list[Told]:
    """The results as they are on record, if all are there as they are given: a client that was not answered sends them
    again.
    """
    recorded = {each["custom_tool_use_id"]: each for each in await _of_late(chat, session, RESULT, caller)}
    found = [recorded.get(result.call) for _, result in given.results]
    same = all(
        told is not None and told["is_error"] == bool(result.is_error) and told["content"] == decoded(result.content)
        for told, (_, result) in zip(found, given.results, strict=True)
    )
    return [told for told in found if told is not None] if same else []


async def _options(chat: Engine, session: Session, caller: Caller) -> TurnOptions:
    tools = await chat.tools(session=session.id, caller=caller)
    return TurnOptions(
        model=session.model, tools=[tool.name for tool in tools], client_tools=kept_of(session).schemas()
    )


async def _kept(chat: Engine, session: Session, messages: Sequence[MessageIn], caller: Caller) -> list[Told]:
    """Results of some of the calls that are open: they wait for the others. Where these have come meanwhile, the turn
    begins.
    """
    name = session_name(session.id.hex)
    added = await refused(chat.add_to_conversation(session.id, messages, caller=caller), name)
    now = await chat.session(session.id, caller=caller)
    if not (await events_from(chat, now, now.version, caller)).has_open_calls:
        with suppress(TurnAlreadyOpen, NothingToAnswer):  # another client's result was the last, and has begun it
            await chat.start_turn(session.id, caller=caller, **await _options(chat, now, caller))
    return await _told(chat, session, {message.id for message in added}, added[0].version, caller)


async def _told(chat: Engine, session: Session, messages: Collection[UUID], version: int, caller: Caller) -> list[Told]:
    """Messages as their events, the first of which stands at a version."""
    events = await events_from(chat, session, version - 1, caller, remembered=0)
    found: list[Told] = []
    left = len(messages)
    async with aclosing(chat.iter_events(session.id, after=version - 1, caller=caller)) as read:
        async for event in read:
            if event.id in messages:
                found += events.told(event)
                left -= 1
            if not left:
                break
    return found


# --- interrupts and decisions -----------------------------------------------------------------------------------------


async def _interrupted(chat: Engine, session: Session, caller: Caller) -> Told:
    """Stop what runs."""
    turn = (await chat.session(session.id, caller=caller)).open_turn_id
    if turn is not None:
        await refused(chat.cancel(turn, caller=caller), session_name(session.id.hex))
        async with aclosing(told_after(chat, session, session.version, caller)) as read:
            async for _, each in read:
                if each["type"] == "user.interrupt":
                    return each
    return _nothing_interrupted()


def _nothing_interrupted() -> Told:
    """An interrupt where nothing runs: it is on record nowhere, for it changes nothing."""
    return {"id": f"{EVENT}_{new_id().hex}", "type": "user.interrupt", "processed_at": None}


def _check_decisions(given: Input, calls: Mapping[str, str], most: int) -> None:
    """Raises Problem for a decision on no call, and for a reason that cannot be recorded."""
    for number, each in given.decisions:
        call_of(each.tool_use_id, calls, f"events[{number}].tool_use_id")
        if each.deny_message is not None and (len(each.deny_message) > most or "\0" in each.deny_message):
            raise invalid(f"events[{number}].deny_message", f"must be at most {most} characters, none of them NUL")


async def _decided(
    chat: Engine,
    session: Session,
    decisions: Sequence[tuple[int, Confirmation]],
    calls: Mapping[str, str],
    caller: Caller,
) -> list[Told]:
    """Record decisions on the calls for which a turn waits. One that was made before, the same way, is taken as it is.
    Raises Problem; where a decision is on no call that waits, none is recorded.
    """
    turn = None if session.open_turn_id is None else await chat.turn(session.open_turn_id, caller=caller)
    waiting = set() if turn is None else {each.tool_use_id for each in turn.pending_approvals}
    before = await _of_late(chat, session, CONFIRMED, caller)
    new = [each for _, each in decisions if not any(_is_same(each, told) for told in before)]
    for each in new:
        if turn is None or calls[each.tool_use_id] not in waiting:
            raise _not_awaited(each)
    for each in new:
        assert turn is not None, "it was looked for"
        approve = each.result == "allow"
        reason = None if approve else each.deny_message
        try:
            await chat.decide(turn.id, calls[each.tool_use_id], approve=approve, reason=reason, caller=caller)
        except NoDecisionAwaited:  # somebody decided at the same moment
            if not any(_is_same(each, told) for told in await _of_late(chat, session, CONFIRMED, caller)):
                raise _not_awaited(each) from None
        except EngineError as error:
            raise problem_of(error) from None
    recorded = await _of_late(chat, session, CONFIRMED, caller)
    return [next(told for told in recorded if _is_same(each, told)) for _, each in decisions]


def _not_awaited(each: Confirmation) -> Problem:
    detail = f"{each.tool_use_id[:100]}: the session waits for no such decision on this call"
    return Problem(409, NoDecisionAwaited.code, detail, {"x-should-retry": "false"})


async def _of_late(chat: Engine, session: Session, kind: str, caller: Caller) -> list[Told]:
    """The events of a type of late."""
    async with aclosing(told_after(chat, session, max(0, session.version - REMEMBERED), caller)) as read:
        return [each async for _, each in read if each["type"] == kind]


def _is_same(decision: Confirmation, told: Told) -> bool:
    return (decision.tool_use_id, decision.result) == (told["tool_use_id"], told["result"])


# --- names ------------------------------------------------------------------------------------------------------------


def _names(given: Input, places: Sequence[str]) -> Callable[[str], str]:
    """The client's name of one of the engine's fields."""

    def theirs(field: str) -> str:
        match = _MESSAGE.fullmatch(field)
        if match is None or int(match["number"]) >= len(places):
            return "events" if field.startswith(("messages", "content")) else field
        rest = match["rest"]
        block = _BLOCK.fullmatch(rest)
        if block is not None and given.results and int(match["number"]) == 0:
            return f"events[{given.results[int(block['number'])][0]}]{block['rest']}"
        return places[int(match["number"])] + rest

    return theirs
